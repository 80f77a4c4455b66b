"""The figures of the paper, one click command each."""
