"""The common look of all figures: colours, and files whose bytes depend only on what they show."""

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's palette: distinct for every kind of colour vision, in print and on screen.
COLOURS = {"memorized": "#0072B2", "spurious": "#D55E00", "generalized": "#009E73", "training": "#555555"}
TRAINING, SYNTHETIC = "#8A8D0F", "#888888"  # distances to S (the paper's olive) and within S' (its grey)

plt.rcParams.update(
    {
        "figure.dpi": 120,
        "savefig.dpi": 120,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "svg.hashsalt": "attractors",
    }
)


def save(figure: Figure, out: str) -> str:
    """Write the figure as out.png and out.pdf, without dates or program versions; return the two paths in words."""
    from attractors.files import atomic

    for suffix, metadata in (
        (".png", {"Software": None}),
        (".pdf", {"CreationDate": None, "Producer": None, "Creator": None}),
    ):
        with atomic(f"{out}{suffix}") as temporary:
            figure.savefig(temporary, metadata=metadata, bbox_inches="tight")
    plt.close(figure)
    return f"{out}.png, {out}.pdf"
