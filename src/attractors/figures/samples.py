"""Figs. 1B and 13-15: samples of each type with their four nearest neighbours in S (top) and in S' (bottom)."""

from pathlib import Path

import click
import numpy as np
from matplotlib.patches import Rectangle

from attractors.arrays import read_arrays
from attractors.cli.stage import Stage
from attractors.data.images import read_images
from attractors.distances.detection import TYPES, selection
from attractors.figures.style import COLOURS, plt, save
from attractors.results.run import Run

NEIGHBOURS = 4


def tile(axis, image, distance=None):
    """One image: [C, H, W] in [-1, 1], with its distance to the sample beneath."""
    image = np.clip(image.transpose(1, 2, 0) / 2 + 0.5, 0, 1)
    axis.imshow(
        image.squeeze(), cmap="gray_r" if image.shape[-1] == 1 else None, vmin=0, vmax=1, interpolation="nearest"
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if distance is not None:
        axis.set_xlabel(f"{distance:.2f}", fontsize=6, labelpad=1)


@click.command(cls=Stage)
@click.argument("name")
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="Images in subset order.")
@click.option("--metrics", type=click.Path(file_okay=False), default="metrics", help="Folder of tables.")
@click.option("--data", type=click.Path(file_okay=False), default="data", help="Folder of S', neighbours and types.")
@click.option("--examples", type=click.IntRange(1), default=4, help="Samples of each type.")
@click.option("--out", required=True, help="Path of the figure without its suffix.")
def main(name, subset, metrics, data, examples, out):
    """Draw samples of each type, evenly spaced through its 512 nearest (C.2), where its fraction is most telling.

    Memorized and spurious samples come from the K of the spurious peak, generalized ones from the largest K.
    """
    run = Run(Path(metrics), data=Path(data))
    sizes = dict.fromkeys(TYPES, int(run.peak(name).K)) | {"generalized": int(run.needed("fractions", name).K.iloc[-1])}
    figure, axes = plt.subplots(
        2 * examples, 3 * (NEIGHBOURS + 2), figsize=(10, 1.25 * examples + 0.5), squeeze=False,
        width_ratios=([1.6] + [1] * NEIGHBOURS + [0.4]) * 3,
    )  # fmt: skip
    for axis in axes.flat:
        axis.axis("off")
    for block, kind in enumerate(TYPES):
        size, first = sizes[kind], block * (NEIGHBOURS + 2)
        chosen = selection(run.codes(name, size), *run.distances(name, size)).get(kind, np.empty(0, int))
        images = read_images(f"{data}/synthetic/{name}/{size}.safetensors")
        sources = {"training": read_images(subset, size), "synthetic": images}
        found, _ = read_arrays(f"{data}/neighbours/{name}/{size}.safetensors")
        axes[0, first].set_title(f"{kind}, K = {size}", color=COLOURS[kind], loc="left")
        for row, index in enumerate(chosen[np.linspace(0, len(chosen) - 1, min(examples, len(chosen))).astype(int)]):
            sample = figure.add_subplot(axes[0, 0].get_gridspec()[2 * row : 2 * row + 2, first])
            tile(sample, images[index])
            sample.add_patch(Rectangle((0, 0), 1, 1, transform=sample.transAxes, fill=False, color=COLOURS[kind], lw=2))
            for line, (source, pool) in enumerate(sources.items()):
                pairs = zip(found[f"{source}_indices"][index], found[f"{source}_distances"][index], strict=True)
                for column, (neighbour, distance) in enumerate(list(pairs)[: min(NEIGHBOURS, len(pool))]):
                    if neighbour >= 0:
                        axis = axes[2 * row + line, first + 1 + column]
                        axis.axis("on")
                        tile(axis, pool[neighbour], distance)
    click.echo(f"{save(figure, out)}: {examples} samples of each type with neighbours in S (top) and S' (bottom)")


if __name__ == "__main__":
    main()
