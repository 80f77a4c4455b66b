"""The report: what a run shows beside what the paper says (`findings`), and its thresholds to try out (`explorer`)."""
