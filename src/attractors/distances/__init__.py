"""Distances and types of samples (Appendices B.2 and B.3): exact neighbours, thresholds, Eqs. 9-11."""
