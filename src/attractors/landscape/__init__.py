"""The energy landscape (Appendices C, D and E): basins, curvature, relative energy."""
