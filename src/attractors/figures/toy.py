"""Fig. 2: the toy model's learned energy for each K, with the prior of A.2 and the exact one, and its exact answer."""

from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from attractors.arrays import read_arrays
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, Axes, drawing, panels, save
from attractors.report.words import Table, percent
from attractors.results.run import Run
from attractors.tables import read_json

E_MAX = 1.5  # top of the colour scale; above it the landscape is a featureless bowl
SAMPLES = "#FF9EDB"  # light, unlike all of the colour scale
PAPER_BETA = 20  # the inverse temperature of the paper's K -> infinity panel
ROWS = {
    "gaussian_prior": "learned,\n$p_T$ as $N(0, \\sigma^2 T I)$", "exact_prior": "learned,\nexact $p_T$",
    "exact": "exact (Eq. 5)",
}


def findings(run: Run) -> Iterator[Table]:
    """Yield the minima of the learned energy beside those of the exact one, and where its samples lie, for each K."""
    rows = []
    for path in sorted((run.metrics / "toy").glob("*.json"), key=lambda path: int(path.stem)):
        metrics = read_json(path)
        at = next(row for row in metrics["minima"] if row["t"] == metrics["t"])
        counts = [f"{at[kind][name]}" for kind in ("learned", "exact") for name in ("minima", "spurious")]
        near = [percent(metrics["samples"][name]) for name in ("near_a_training_point", "near_by_chance")]
        rows.append([f"{metrics['K']}", f"{metrics['t']:g}", *counts, *near, f"{metrics['samples']['radius']:.3f}"])
    if rows:
        columns = ("K", "t", "minima, learned", "no training point's own", "minima, exact", "no training point's own",
                   "samples by a training point", "by chance", "mean distance from the centre")
        yield Table("Minima of the energy, and samples", columns, rows)


FIGURE = Figure(
    __name__, "2", "Where does the energy of the toy model have its minima?",
    "With 2 points the minima of the energy are the points. At 9 appear minima that are no data; at 1,000 the low "
    "energies form a continuous circle, as the exact solution for infinite K says (Eq. 15).",
    stages=("toy_train", "toy_evaluate"), pictures=("toy",), findings=findings,
)


def landscape(axis: Axes, x: np.ndarray, energy: np.ndarray, force: np.ndarray) -> Any:
    """Draw an energy in colours and a force in arrows; return the image, for the colour bar.

    x: [B, 2] is a square grid; energy: [B] is drawn above its minimum; force = -grad E: [B, 2].
    """
    side = round(len(x) ** 0.5)
    grid = [a.reshape(side, side) for a in (x[:, 0], x[:, 1], energy - energy.min())]
    image = axis.pcolormesh(*grid, shading="gouraud", cmap="cividis", vmin=0, vmax=E_MAX, rasterized=True)
    axis.quiver(*x.T, *force.T, color="white", alpha=0.6, width=0.004, scale=30)
    axis.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    return image


def points(axis: Axes, data: dict[str, np.ndarray]) -> None:
    """Draw the training points in white, as in the paper."""
    few = len(data["memories"]) < 50
    axis.scatter(*data["memories"].T, s=22 if few else 2, color="white", ec="black" if few else "none", lw=0.6,
                 rasterized=not few, label="training points", zorder=3)


def minima(axis: Axes, places: np.ndarray, shared: np.ndarray) -> None:
    """Draw minima at places: [M, 2], those with one training point of their own (shared == 1) apart from spurious
    ones.
    """
    for name, chosen in (("memorized", shared == 1), ("spurious", shared != 1)):
        axis.scatter(*places[chosen].T, s=34, marker="D", color=COLOURS[name], ec="white", lw=0.8, zorder=5,
                     label=f"minimum of E, {name}")


def clusters(axis: Axes, data: dict[str, np.ndarray], prior: str) -> None:
    """Draw the samples and the centroids of their clusters, labelled with their energies above the grid's minimum."""
    axis.scatter(*data["samples"].T, s=4, color=SAMPLES, lw=0, rasterized=True, zorder=2,
                 label="samples")
    energies = data[f"centroid_energy_{prior}"] - data[f"energy_{prior}"].min()
    axis.scatter(*data["centroids"].T, s=26, marker="x", color="red", lw=1.3, zorder=4, label="cluster centroids, E")
    for place, energy in zip(data["centroids"], energies, strict=True) if len(energies) < 10 else ():
        axis.annotate(f"{energy + 0.0:.2f}".replace("-0.00", "0.00"), 1.24 * place / np.linalg.norm(place),
                      color="white", ha="center", va="center", fontsize=7, zorder=6)


def profile(axis: Axes, data: dict[str, np.ndarray], beta: float) -> None:
    """Draw energy against distance from the centre: every grid point of one K, and the line of Eq. 15."""
    from attractors.theory.associative_memory import circle_energy

    R = np.linspace(0, 2, 200)
    for name, colour in (("gaussian_prior", COLOURS["spurious"]), ("exact_prior", COLOURS["memorized"])):
        energy = data[f"energy_{name}"]
        axis.plot(np.linalg.norm(data["x"], axis=1), energy - energy.min(), ".", ms=3, color=colour,
                  label=ROWS[name].partition("\n")[2])
    axis.plot(R, circle_energy(R, beta) - circle_energy(R, beta).min(), "k-", lw=1.2, label="Eq. 15")
    axis.set(xlim=(0, 2), ylim=(0, 3.4), xlabel="distance from the centre R", ylabel="energy E - min E")
    axis.set_box_aspect(1)
    axis.legend(loc="upper left")


@drawing
@click.argument("arrays", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
def main(arrays: tuple[str, ...], outs: tuple[str, ...]) -> None:
    """Draw the evaluated toy models in ARRAYS, a column each, by the size of their training sets."""
    from attractors.theory.associative_memory import circle_energy, circle_score, inverse_temperature
    # here: it takes SciPy, which the report, whose registry imports this module, can spare

    runs = sorted((read_arrays(path) for path in arrays), key=lambda run: len(run[0]["memories"]))
    figure, axes = panels(len(ROWS), len(runs) + 1, 1.75 * (len(runs) + 1), 5.2)
    for column, (data, record) in zip(axes.T[:-1], runs, strict=True):
        beta = inverse_temperature(record["t"], record["sigma"])
        for axis, name in zip(column, ROWS, strict=True):
            kind = "exact" if name == "exact" else "learned"
            energy = data["exact_energy" if name == "exact" else f"energy_{name}"]
            image = landscape(axis, data["x"], energy, data["exact_score" if name == "exact" else "score"] / beta)
            points(axis, data)
            if name == "gaussian_prior":
                clusters(axis, data, name)
            else:
                minima(axis, data[f"{kind}_minima"], data[f"{kind}_minima_memories"])
        column[0].set_title(f"K = {len(data['memories'])}, t = {record['t']:g}")
        column[-1].set_xlabel("$x_1$")
    for axis, label in zip(axes[:, 0], ROWS.values(), strict=True):
        axis.set_ylabel(f"{label}\n$x_2$")
    for axis, b, name in ((axes[0, -1], PAPER_BETA, "the paper's"), (axes[2, -1], beta, "of the same t")):
        R = np.linalg.norm(data["x"], axis=1)
        landscape(axis, data["x"], circle_energy(R, b), circle_score(data["x"], b) / b)
        axis.set_title(f"Eq. 15, {name}\n$\\beta$ = {b:.3g}")
    profile(axes[1, -1], data, beta)
    axes[1, -1].set_title(f"K = {len(data['memories'])}: every grid point")
    labelled: dict[str, Any] = {}
    for axis in axes[:2, 0]:
        handles, labels = axis.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    figure.legend(labelled.values(), labelled, loc="outside lower center", ncols=3, frameon=True, facecolor="#BBBBBB")
    figure.colorbar(image, ax=axes, extend="max", shrink=0.4, aspect=30,
                    label="energy E - min E, $E = -2\\sigma^2 t\\,\\log p$")
    click.echo(f"{save(figure, outs)}: energy landscapes of {len(runs)} toy models")
