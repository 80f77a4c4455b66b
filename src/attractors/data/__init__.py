"""Images (Appendix B.1): datasets, their nested training sets, and the prompts of the case study."""
