"""Fig. 25: the circular interpolation (Eq. 45) of a target and a reference image."""

from pathlib import Path

import click
import numpy as np

from attractors.data.images import read_images
from attractors.figures.registry import Figure
from attractors.figures.style import COLUMN, drawing, panels, pixels, save

FIGURE = Figure(
    __name__, "25", "Along which path are energies compared?",
    "The path between a target and a reference image along which energies are compared (Eq. 45).",
    stages=("subset",), pictures=("interpolation/{}",), supplement=True,
)


@drawing
@click.argument("subsets", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--nodes", type=click.IntRange(2), default=10, help="Images from the target to the reference.")
@click.option("--pairs", type=click.IntRange(1), default=2, help="Pairs from each dataset.")
def main(subsets: tuple[str, ...], nodes: int, pairs: int, outs: tuple[str, ...]) -> None:
    """Draw cos(alpha) x_1 + sin(alpha) x_2 for the first pairs of images of SUBSETS, one file a dataset."""
    rows = [
        (Path(path).stem, *pair)
        for path in subsets
        for pair in zip(*np.split(read_images(path, 2 * pairs), 2), strict=True)
    ]
    alphas = np.linspace(0, np.pi / 2, nodes)
    figure, axes = panels(len(rows), nodes, COLUMN, 0.4 * len(rows) + 0.6)
    for line, (dataset, x_1, x_2) in zip(axes, rows, strict=True):
        for axis, alpha in zip(line, alphas, strict=True):
            image = pixels(np.cos(alpha) * x_1 + np.sin(alpha) * x_2)
            axis.imshow(image, cmap="gray_r" if image.ndim == 2 else None, vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(dataset)
    for axis, alpha in zip(axes[-1], alphas, strict=True):
        axis.set_xlabel(f"{np.degrees(alpha):.0f}°")
    axes[0, 0].set_title("target $x_1$", loc="left")
    axes[0, -1].set_title("reference $x_2$", loc="right")
    figure.supxlabel("$\\alpha$")
    click.echo(f"{save(figure, outs)}: {len(rows)} circular paths")
