"""What a sweep's file and params.yaml can hold: one module for each section, none of which imports torch."""
