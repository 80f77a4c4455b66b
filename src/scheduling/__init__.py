"""Stages side by side, on this machine or on many: DVC decides what is stale, this decides where and in which order."""
