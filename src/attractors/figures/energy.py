"""Figs. 6 and 26-30: the energy of each type of sample above that of training images against K, for each reference."""

from pathlib import Path

import click

from attractors.cli.stage import Stage
from attractors.figures.style import COLOURS, plt, save
from attractors.results.run import ORDER, Run, wide
from attractors.tables import write_csv


def draw(axis, table, control):
    """Gaps (Eq. 48) of each type against K with a band of one standard deviation and bars of one standard error."""
    for name in ORDER:
        part = table[table.type == name]
        deviation, error = part.energy_std.fillna(0), part.energy_se.fillna(0)
        axis.errorbar(part.K, part.gap, error, fmt="o-", ms=3, lw=1.2, color=COLOURS[name], label=name)
        axis.fill_between(part.K, part.gap - deviation, part.gap + deviation, color=COLOURS[name], alpha=0.12, lw=0)
        if control is not None and len(part := control[control.type == name]):
            axis.plot(part.K, part.gap, "s--", ms=3, lw=0.8, mfc="none", color=COLOURS[name])
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")


@click.command(cls=Stage)
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@click.option("--metrics", type=click.Path(file_okay=False), required=True, help="Folder of tables.")
@click.option("--table", "plotted", required=True, help="The table to write: what is drawn, one row for each K.")
@click.option("--out", required=True, help="Path of the figure without its suffix.")
def main(name, metrics, plotted, out):
    """Draw METRICS/energy/SWEEP.csv, one panel for each reference; dashed, the exact control SWEEP-exact."""
    run = Run(Path(metrics))
    table, control = run.needed("energy", name, "K"), run.control("energy", name)
    references = sorted(table.reference.unique())
    figure, axes = plt.subplots(
        1, len(references), figsize=(3 * len(references), 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, reference in zip(axes[0], references, strict=True):
        found = None if control is None else control[control.reference == reference]
        draw(axis, table[table.reference == reference], found)
        axis.set_title(f"{name}, reference {reference}")
    if control is not None:
        axes[0, 0].plot([], [], "s--", ms=3, lw=0.8, mfc="none", color="black", label="exact denoiser")
    axes[0, 0].legend(fontsize=7)
    axes[0, 0].set_ylabel(f"energy u above training images, t = {table.t0[0]}\nlower is more stable")
    figure.supxlabel("training set size K")
    write_csv(plotted, wide(table[table.reference == references[0]], ["gap", "energy_std", "energy_se"]))
    click.echo(f"{save(figure, out)}: energy gaps at {table.K.nunique()} sizes with {len(references)} references")


if __name__ == "__main__":
    main()
