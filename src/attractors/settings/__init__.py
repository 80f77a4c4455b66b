"""The settings in a sweep's file and in params.yaml: one module for each section, none of which imports torch."""
