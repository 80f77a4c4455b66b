"""Do the intervals of the claims cover, and how often is a verdict wrong? Simulated sweeps whose truth is known.

    python benchmarks/coverage.py --runs 1000 --out docs/coverage.csv

A truth is a transition or none, types that differ or not, and replicates that shift ln K, scale what is measured, or do
neither; a shift may be the same at all K, as nested training sets make it. Each run of a truth draws replicates and
samples and makes the table of claims. What a row should give is its effect in 400 replicates without noise of samples.
`coverage` is the share of 95% intervals of one row that contain it, `all_rows` that of the runs in which every printed
interval does. A `false` verdict contradicts the sign of the true effect, and `power` is the share of right ones.
"""

import inspect
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.distances.detection import TYPES
from attractors.results.claims import claims
from attractors.results.joined import with_replicates
from attractors.results.run import Run

SIZES = (2, 16, 32, 48, 64, 96, 128, 192, 512)
DESIGNS = {  # replicates at each K
    "three": {size: 3 if 2 < size < 512 else 1 for size in SIZES},
    "five": {size: 5 if size in (2, 32, 64, 128, 512) else 1 for size in SIZES},
}
NONE = {"transition": True, "types": True, "shift": 0.0, "shared": True, "scale": 0.0}
TRUTHS = {
    "replicates alike": NONE,
    "replicates shift ln K": NONE | {"shift": 0.25, "shared": False},
    "the same shift at all K": NONE | {"shift": 0.25},
    "replicates scale": NONE | {"scale": 0.2},
    "types equal": NONE | {"types": False, "scale": 0.2},
    "no transition": NONE | {"transition": False, "types": False, "scale": 0.2},
}
SAMPLES, MEASURED = 1024, 60
QUANTITIES = {  # table: (columns, mean of memorized, spurious, generalized, training; slope per doubling of K; noise)
    "basin": (("log_volume", "t_c"), (40, -20, -70, 42), -10, 15),
    "curvature": (("median", "effective_rank"), (60, 59.5, 58, 60), -0.6, 1.5),
    "energy": (("gap",), (0.004, 0.0, 0.02, 0.004), -0.001, 0.02),
}


class Simulated(Run):
    """The tables of a simulated sweep, which are in memory."""

    tables: dict

    def table(self, kind, name="", *columns):
        return self.tables.get(kind)

    def replicates(self, kind, name):
        return self.tables.get(f"replicates/{kind}")

    def control(self, kind, name, form="exact"):
        return None


def simulated(truth: dict, models: dict[int, int], random: np.random.Generator, noise: bool = True) -> Simulated:
    """Return a sweep of a truth with so many replicates at each K; noise: of samples."""
    most = max(models.values())
    shift = np.repeat(random.normal(0, truth["shift"], (most, 1)), len(SIZES), 1)
    scale = np.repeat(random.normal(0, truth["scale"], (most, 1)), len(SIZES), 1)
    if not noise:  # the truth is that of replicates whose mean is exact
        shift, scale = shift - shift.mean(0), scale - scale.mean(0)
    if not truth["shared"]:
        shift = random.normal(0, truth["shift"], shift.shape)
    u = np.log(SIZES) + shift if truth["transition"] else np.full(shift.shape, np.log(50))
    memorized = 1 / (1 + np.exp(2.2 * (u - np.log(50))))
    spurious = np.exp(scale) * 0.4 * np.exp(-(((u - np.log(45)) / 0.8) ** 2) / 2)
    spurious = np.minimum(spurious, 0.9 - 0.5 * memorized) * (memorized < 0.999)
    spurious = np.minimum(spurious, 1 - memorized)
    shares = np.stack([memorized, spurious, 1 - memorized - spurious], 2)
    fractions, measured = [], defaultdict(list)
    for column, size in enumerate(SIZES):
        for number in range(models[size]):
            share = shares[number, column]
            drawn = random.multinomial(SAMPLES, share) / SAMPLES if noise else share
            fractions.append({"K": size, "replicate": number, "count": SAMPLES, **dict(zip(TYPES, drawn, strict=True))})
            for table, (names, means, fall, deviation) in QUANTITIES.items():
                for kind, mean, part in zip((*TYPES, "training"), means, (*drawn, 1), strict=True):
                    if part < 0.02:
                        continue
                    base = mean if truth["types"] else means[1]
                    slope = fall * (u[number, column] - np.log(50)) / np.log(2) if truth["transition"] else 0
                    extra = deviation * scale[number, column] * (1 + (kind == "memorized")) + slope
                    error = deviation / np.sqrt(MEASURED)
                    values = base + extra + (random.normal(0, error, len(names)) if noise else np.zeros(len(names)))
                    row = {"K": size, "type": kind, "replicate": number, "n": MEASURED, "reference": 1}
                    measured[table].append(row | dict(zip(names, values, strict=True)) | {"method": "central"})
    run = Simulated(Path())
    object.__setattr__(run, "tables", {"replicates/fractions": (single := pd.DataFrame(fractions))})
    run.tables["fractions"] = single.groupby("K", as_index=False)[[*TYPES]].mean()
    for table, rows in measured.items():
        frame = run.tables[f"replicates/{table}"] = pd.DataFrame(rows)
        if "clusters" in inspect.signature(claims).parameters:  # the procedure that read means over replicates
            run.tables[table] = pooled(frame, *QUANTITIES[table][::3])
    return run


def pooled(frame: pd.DataFrame, names: tuple, deviation: float) -> pd.DataFrame:
    """Return the means over replicates with their errors, as the stage `join` makes them."""
    groups = frame.groupby(["K", "type", "method", "reference"], as_index=False)
    table = groups[list(names)].mean().assign(replicates=groups.size()["size"], n=groups.n.sum().n)
    for name in names:
        table[f"{name}_se"] = table[f"{name}_nearest_se"] = deviation / np.sqrt(table.n)
        table[f"{name}_between"] = groups[name].std()[name] / np.sqrt(table.replicates)
    return with_replicates(table)[0]


def tested(run: Run, random: np.random.Generator) -> pd.DataFrame:
    """Return the table of claims of a sweep."""
    old = (None,) if "clusters" in inspect.signature(claims).parameters else ()
    return claims(run, "x", *old, random).set_index("claim")


def repeat(truth: str, design: str, runs: int) -> list[dict]:
    """Return one row for each claim: coverage, false verdicts and power in that many runs of a truth."""
    settings, models = TRUTHS[truth], DESIGNS[design]
    many = {size: 400 if count == max(models.values()) else 1 for size, count in models.items()}
    if "clusters" in inspect.signature(claims).parameters:
        many = dict.fromkeys(models, 400)
    expected = tested(simulated(settings, many, np.random.default_rng([7, 7]), noise=False), np.random.default_rng(0))
    expected["effect"] = expected.effect.where(expected.effect.abs() > 1e-6, 0.0)
    columns = ["low_95", "high_95"] if "low_95" in expected else ["low", "high"]
    rows, together = defaultdict(list), []
    for number in range(runs):
        random = np.random.default_rng([number, 1])
        table, whole = tested(simulated(settings, models, random), random), True
        for claim, row in table.iterrows():
            if claim not in expected.index or row.verdict == "too few replicates":
                continue
            effect = expected.effect[claim]
            low, high = row[columns]
            whole &= bool(row.low - 1e-9 <= effect <= row.high + 1e-9)
            right, wrong = ("holds", "does not hold") if effect > 0 else ("does not hold", "holds")
            verdict = row.verdict.removesuffix(" (one seed)")
            false = verdict == wrong or (effect == 0 and verdict == right)
            rows[claim].append((low - 1e-9 <= effect <= high + 1e-9, false, effect != 0 and verdict == right))
        together.append(whole)
    return [
        {"truth": truth, "design": design, "claim": claim, "effect": expected.effect[claim], "runs": len(found),
         **dict(zip(("coverage", "false", "power"), np.mean(found, 0), strict=True)), "all_rows": np.mean(together)}
        for claim, found in rows.items()
    ]


@click.command()
@click.option("--runs", default=1000, show_default=True, help="Of each truth.")
@click.option("--design", type=click.Choice(list(DESIGNS)), default="five", show_default=True, help="Replicates.")
@click.option("--workers", default=2, show_default=True, help="Processes.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A CSV of the table.")
def main(runs: int, design: str, workers: int, out: Path | None) -> None:
    """Print the coverage, the false verdicts and the power of every claim under each truth."""
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(partial(repeat, design=design, runs=runs), TRUTHS))
    table = pd.DataFrame([row for part in parts for row in part])
    click.echo(table.to_string(index=False, float_format="%.3f", max_colwidth=60))
    if out:
        table.round(4).to_csv(out, index=False)


if __name__ == "__main__":
    main()
