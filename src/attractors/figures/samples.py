"""Figs. 1B and 13-15: samples of each type with their four nearest neighbours in S (top) and in S' (bottom)."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from attractors.arrays import read_arrays
from attractors.cli.stage import data_option, metrics_option
from attractors.data.images import read_images
from attractors.distances.detection import TYPES, selection
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, Axes, canvas, drawing, pixels, save
from attractors.report.words import Table
from attractors.results.run import Run
from attractors.tables import read_json

NEIGHBOURS = 4
STEP, BLOCK = 1.25, 6.2  # from one row of neighbours to the next, and from one type to the next, in their widths


def findings(run: Run) -> Iterator[Table]:
    """Yield how many samples are spurious where most are, and the groups that they form."""
    rows = []
    for name, peak in run.peaks.items():
        path = run.metrics / "clusters" / f"{name}.json"
        if path.is_file():
            counts = read_json(path)
            keys = ("K", "spurious", "samples_in_clusters", "clusters", "clusters_farther_from_training_than_wide")
            rows.append([name, *(f"{counts[key]:,}" for key in keys)])
        else:
            rows.append([name, f"{peak.K:.0f}", f"{peak.spurious * peak['count']:,.0f}", "", "", ""])
    if rows:
        columns = ("sweep", "K", "spurious samples", "of them in groups of three or more that repeat each other",
                   "groups", "of them farther from every training image than they are wide")
        yield Table("Spurious samples where they are most frequent", columns, rows)


FIGURE = Figure(
    __name__, "1B, 13-15", "What do samples of each type look like, beside their nearest neighbours?",
    "Memorized samples have copies in both the training set S and the synthetic set S'; spurious samples repeat "
    "within S' but have no copy in S; generalized ones have a copy in neither.",
    stages=("classify", "clusters"), pictures=("samples/{}",), tables=("clusters/{}",), findings=findings,
)


def tile(axis: Axes, x: float, y: float, side: float, image: np.ndarray, distance: float | None = None) -> None:
    """One image: [C, H, W] in [-1, 1], `side` wide from (x, y) down, with its distance to the sample beneath."""
    image = pixels(image)
    axis.imshow(
        image, cmap="gray_r" if image.ndim == 2 else None, vmin=0, vmax=1, interpolation="nearest",
        extent=(x, x + side, y + side * image.shape[0] / image.shape[1], y),
    )
    if distance is not None:
        axis.text(x + side / 2, y + side + 0.03, f"{distance:.2f}", fontsize=7, ha="center", va="top")


@drawing
@click.argument("name")
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="Images in subset order.")
@metrics_option
@data_option
@click.option("--examples", type=click.IntRange(1), default=4, help="Samples of each type.")
def main(name: str, subset: str, metrics: Path, data: Path, examples: int, outs: tuple[str, ...]) -> None:
    """Draw samples of each type, evenly spaced through its 512 nearest (C.2), where its fraction is most telling.

    Memorized and spurious samples come from the K of the spurious peak, generalized ones from the largest K.
    """
    from matplotlib.patches import Rectangle

    run = Run(metrics, data=data)
    sizes = dict.fromkeys(TYPES[:2], int(run.peak(name).K))
    sizes["generalized"] = int(run.needed("fractions", name, "K").K.iloc[-1])
    height, width = 2 * STEP * examples + 0.3, 3 * BLOCK
    figure = canvas(7, 7 * height / width, constrained=False)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(-0.05, width), ylim=(height, -0.45), aspect="equal")
    axis.set_autoscale_on(False)
    axis.axis("off")
    for block, (kind, size) in enumerate(sizes.items()):
        images = read_images(f"{data}/synthetic/{name}/{size}.safetensors")
        sources = {"training": read_images(subset, size), "synthetic": images}
        nearest, _ = read_arrays(f"{data}/neighbours/{name}/{size}.safetensors")
        axis.text(block * BLOCK, -0.1, f"{kind}, K = {size}", color=COLOURS[kind])
        first = slice(len(images))  # the samples of replicate 0
        to_training, within = run.distances(name, size)
        by_type = selection(run.codes(name, size)[first], to_training[first], within[first])
        chosen = by_type.get(kind, np.empty(0, int))
        for row, index in enumerate(chosen[np.linspace(0, len(chosen) - 1, min(examples, len(chosen))).astype(int)]):
            x, y = block * BLOCK, 2 * STEP * row
            tile(axis, x, y + 0.3, 1.5, images[index])
            axis.add_patch(Rectangle((x, y + 0.3), 1.5, 1.5, fill=False, color=COLOURS[kind], lw=2))
            for line, (source, pool) in enumerate(sources.items()):
                pairs = zip(nearest[f"{source}_indices"][index], nearest[f"{source}_distances"][index], strict=True)
                for column, (neighbour, distance) in enumerate(list(pairs)[: min(NEIGHBOURS, len(pool))]):
                    if neighbour >= 0:
                        tile(axis, x + 1.7 + 1.05 * column, y + STEP * line, 1, pool[neighbour], distance)
    click.echo(f"{save(figure, outs)}: {examples} samples of each type with neighbours in S (top) and S' (bottom)")
