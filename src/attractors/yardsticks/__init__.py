"""Definitions of memorization that others use, one module each, to be measured on the same models."""
