"""Fig. 4A: fractions of memorized, spurious and generalized samples against K, spurious enlarged below."""

from pathlib import Path

import click

from attractors.cli.settings import ROOT, read_runs
from attractors.cli.stage import Stage
from attractors.distances.detection import TYPES
from attractors.figures.style import COLOURS, plt, save
from attractors.tables import read_csv


def draw(table, control, title, top, bottom):
    """One sweep: `table` has K and, for each type, its fraction and the ends of its interval; control likewise."""
    for axis, names in ((top, TYPES), (bottom, TYPES[1:2])):
        for name in names:
            axis.plot(table.K, table[name], "o-", ms=3, lw=1.2, color=COLOURS[name], label=name)
            axis.fill_between(
                table.K, table[f"{name}_low"], table[f"{name}_high"], color=COLOURS[name], alpha=0.2, lw=0
            )
            if control is not None:
                label = "exact denoiser" if name == "memorized" else None
                axis.plot(control.K, control[name], "s--", ms=3, lw=0.8, mfc="none", color=COLOURS[name], label=label)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
    top.set(title=title, ylabel="fraction of S'", ylim=(-0.02, 1.04))
    bottom.set(xlabel="training set size K", ylabel="spurious fraction", ylim=(0, None))


@click.command(cls=Stage)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sweep", "names", multiple=True, help="Sweeps to draw.  [default: those in runs.yaml]")
@click.option("--out", required=True, help="Path of the figure without its suffix.")
def main(folder, names, out):
    """Draw the fractions in FOLDER/SWEEP.csv, one column a sweep; dashed, the exact control SWEEP-exact."""
    names = names or list(read_runs(ROOT / "runs.yaml")["learned"])
    tables = {path.stem: read_csv(path, "K", *TYPES) for path in sorted(folder.glob("*.csv"))}
    if missing := [name for name in names if name not in tables]:
        raise click.BadParameter(f"{folder}: no table {missing[0]}.csv")
    figure, axes = plt.subplots(
        2, len(names), figsize=(4.2 * len(names), 4.6), sharex="col", sharey="row", squeeze=False,
        height_ratios=[2, 1], layout="constrained",
    )  # fmt: skip
    for column, name in zip(axes.T, names, strict=True):
        draw(tables[name], tables.get(f"{name}-exact"), name, *column)
    axes[0, 0].legend(loc="center left", fontsize=8)
    click.echo(f"{save(figure, out)}: fractions against K of {', '.join(names)}")


if __name__ == "__main__":
    main()
