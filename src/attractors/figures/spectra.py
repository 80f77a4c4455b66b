"""Figs. 20-23: mean spectra of memorized, spurious and generalized samples and of training images at every K."""

from pathlib import Path

import click

from attractors.cli.stage import Stage
from attractors.figures.style import COLOURS, plt, save
from attractors.results.run import ORDER, Run

TITLES = {"central": "Alg. 2", "one_sided": "Alg. 3", "jacobian": "Jacobian"}


def curves(axis, table):
    """Mean singular values of each type by rank, with a band of one standard deviation."""
    for name in ORDER:
        part = table[table.type == name]
        if len(part):
            deviation = part["std"].fillna(0)
            axis.plot(part["rank"], part["mean"], lw=1.2, color=COLOURS[name], label=name)
            axis.fill_between(
                part["rank"], part["mean"] - deviation, part["mean"] + deviation, color=COLOURS[name], alpha=0.15, lw=0
            )


@click.command(cls=Stage)
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@click.option("--metrics", type=click.Path(file_okay=False), required=True, help="Folder of tables.")
@click.option("--method", type=click.Choice(list(TITLES)), help="Whose spectra are drawn.  [default: Alg. 2's, if any]")
@click.option("--skip", type=click.IntRange(0), default=5, help="Largest values left out (D.2).")
@click.option("--out", required=True, help="Path of the figure without its suffix.")
def main(name, metrics, method, skip, out):
    """Draw METRICS/spectra/SWEEP.csv, one panel for each K."""
    table = Run(Path(metrics)).needed("spectra", name, "K")
    method = method or next(name for name in TITLES if name in set(table.method))
    table = table[(table.method == method) & (table["rank"] > skip)]
    if table.empty:
        raise click.BadParameter(f"{metrics}/spectra/{name}: no spectra by {method}", param_hint="--method")
    sizes = sorted(table.K.unique())
    columns = min(4, len(sizes))
    rows = -(-len(sizes) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.8 * columns, 2.1 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(sizes) :]:
        axis.axis("off")
    for axis, size in zip(axes.flat, sizes, strict=False):
        curves(axis, table[table["K"] == size])
        axis.set_title(f"K = {size}")
    axes.flat[0].legend(*axes.flat[len(sizes) // 2].get_legend_handles_labels(), fontsize=7)
    axes[0, 0].set_ylim(bottom=0)  # shared, so only once all is drawn
    figure.supxlabel("rank")
    figure.supylabel(f"singular value, {TITLES[method]}")
    click.echo(f"{save(figure, out)}: {TITLES[method]} spectra at {len(sizes)} sizes")


if __name__ == "__main__":
    main()
