"""The theory of the paper (Section 2, Appendix A): associative memory, its energy, and the 2-D toy model."""
