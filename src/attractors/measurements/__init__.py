"""The quantities that are measured of single patterns: the settings, tables and claims of each in one module."""
