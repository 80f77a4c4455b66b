"""Diffusion models as associative memories: the paper's equations as pure functions."""
