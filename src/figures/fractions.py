"""Fig. 4A: fractions of memorized, spurious and generalized samples against K, spurious enlarged below."""

import click
import pandas as pd
from style import COLOURS, plt, save

from attractors.detection import TYPES


def draw(table, title, top, bottom):
    """One sweep: `table` has K and, for each type, its fraction and the ends of its interval."""
    for axis, names in ((top, TYPES), (bottom, TYPES[1:2])):
        for name in names:
            axis.plot(table.K, table[name], "o-", ms=3, lw=1.2, color=COLOURS[name], label=name)
            axis.fill_between(table.K, table[f"{name}_low"], table[f"{name}_high"], color=COLOURS[name], alpha=0.2, lw=0)
        axis.set_xscale("log", base=2)
        axis.set_ylim(0, None)
    top.set(title=title, ylabel="fraction of S'", ylim=(0, 1.02))
    bottom.set(xlabel="training set size K", ylabel="spurious fraction")


@click.command()
@click.argument("tables", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--out", required=True, help="Path of the figure without its suffix.")
def main(tables, out):
    """Draw the fractions in TABLES, one CSV and one column a sweep."""
    figure, axes = plt.subplots(
        2, len(tables), figsize=(3.6 * len(tables), 4.2), sharex="col", sharey="row", squeeze=False,
        height_ratios=[2, 1], layout="constrained",
    )  # fmt: skip
    for column, path in zip(axes.T, tables, strict=True):
        draw(pd.read_csv(path), path.rsplit("/", 1)[-1].removesuffix(".csv"), *column)
    axes[0, 0].legend(loc="center left")
    click.echo(f"{save(figure, out)}: fractions against K of {len(tables)} sweeps")


if __name__ == "__main__":
    main()
