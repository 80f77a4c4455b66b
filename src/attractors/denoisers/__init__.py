"""Diffusion models (Appendix B.4): the process, the networks, training, sampling, and models made elsewhere."""
