"""Do the intervals of the claims cover, and how often is a verdict wrong? Simulated sweeps whose truth is known.

    python benchmarks/coverage.py --runs 1000 --out docs/coverage.csv

Four kinds of rows stand for the table: a difference of two types, a slope of a curve that is no line, the fall of
memorized fractions, and the spurious peak less the higher end. Replicates are alike, differ at each K anew, or differ
in the same way at all K, as nested training sets make them. The rule `before` pooled sizes as independent, with one
dispersion for all of them; its formulas are written out here. The rule `replicates` is that of `results.claims`.
`coverage` is of 95% intervals of one row; `holds` is the share of runs whose row holds at the level of 23 rows
together. Where the effect is 0, `holds` is the share of false positives.
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.special import stdtrit

from attractors.results.claims import LEVEL, others_of, over_replicates
from attractors.results.replicates import dispersion, drawn, pooled

DESIGNS = {"three": (3, (16, 32, 48, 64, 96, 128, 192)), "five": (5, (2, 32, 64, 128, 512))}
TRUTHS = {  # (deviation of replicates at each K anew, the same at all K, whether deviations differ between K)
    "replicates alike": (0, 0, False), "differ at each K": (1, 0, False), "differ alike at all K": (0, 1, False),
    "differ more at some K": (1, 0, True),
}
ROWS, RESAMPLES = 23, 400


def offsets(truth: str, count: int, sizes: tuple, random: np.random.Generator) -> np.ndarray:
    """Return what replicates differ by, in units of their deviation: [R, m]."""
    anew, alike, unequal = TRUTHS[truth]
    spread = np.geomspace(0.2, 2, len(sizes)) if unequal else 1
    shape = count, len(sizes)
    return anew * spread * random.normal(size=shape) + alike * np.repeat(random.normal(size=(count, 1)), len(sizes), 1)


def by_t(effect: float, error: float, degrees: float, truth: float) -> tuple[bool, bool]:
    """Return (whether the 95% interval covers, whether the row holds at the level of all rows together)."""
    return (abs(effect - truth) <= stdtrit(degrees, 1 - LEVEL / 2) * error,
            effect > stdtrit(degrees, 1 - LEVEL / 2 / ROWS) * error)


def by_replicates(values: np.ndarray, truth: float, sampling: float = 0.0) -> tuple[bool, bool]:
    """Return the same by the rule of `results.claims`, from one value of each replicate: [R]."""
    claim = over_replicates("", "", "", values, sampling=sampling)
    low, high = claim.ends(LEVEL)
    return low <= truth <= high, claim.ends(LEVEL / ROWS)[0] > 0


def means(truth: str, design: str, effect: float, curve: bool, random: np.random.Generator) -> dict[str, tuple]:
    """Return both rules on a difference of two types (or, with curve, on a slope): deviation 12 of replicates, 2 of
    samples."""
    count, sizes = DESIGNS[design]
    x = np.log2(sizes) - np.mean(np.log2(sizes))
    weights = x / (x @ x) if curve else np.full(len(sizes), 1 / len(sizes))
    bend = x**2 - (x**2).mean()
    bend -= (bend @ x) / (x @ x) * x  # a curve whose line has no slope
    mean = effect * x - 2 * bend if curve else np.full(len(sizes), effect)
    values = mean + 12 * offsets(truth, count, sizes, random) + 2 * random.normal(size=(count, len(sizes)))
    phi = pooled((values.var(0, ddof=1) / 2**2).tolist(), [count - 1] * len(sizes))
    error = 2 * np.sqrt(phi.value / count) * np.sqrt((weights**2).sum())
    expected = float(mean @ weights)
    return {"before": by_t(values.mean(0) @ weights, error, phi.degrees, expected),
            "replicates": by_replicates(values @ weights, expected)}


def shares_at(u: np.ndarray, transition: bool) -> np.ndarray:
    """Return the fractions of the types at ln K = u, or of no transition: [..., 3]."""
    u = u if transition else np.full_like(u, np.log(50))
    memorized = 1 / (1 + np.exp(2.2 * (u - np.log(50))))
    spurious = np.minimum(0.4 * np.exp(-(((u - np.log(45)) / 0.8) ** 2) / 2), 1 - memorized)
    return np.stack([memorized, spurious, 1 - memorized - spurious], -1)


def fractions(truth: str, design: str, transition: bool, peak: bool, random: np.random.Generator) -> dict[str, tuple]:
    """Return both rules on the spurious peak (or the fall of memorized fractions): replicates shift ln K by 0.25."""
    count, sizes = DESIGNS[design]
    many = 0.25 * offsets(truth, 400, sizes, np.random.default_rng(9))
    expected = shares_at(np.log(sizes) + many, transition).mean(0)
    u = np.log(sizes) + 0.25 * offsets(truth, count, sizes, random)
    counts = random.multinomial(1024, shares_at(u, transition))  # [R, m, 3]
    shares, each = counts / 1024, np.arange(count)

    def effect(x: np.ndarray) -> np.ndarray:
        inside = x[..., 1:-1, 1].max(-1) - x[..., [0, -1], 1].max(-1)
        return inside if peak else x[..., 0, 0] - x[..., -1, 0]

    target = float(effect(expected))
    parts = list(counts.transpose(1, 0, 2))
    draws = effect(drawn(parts, dispersion(parts), RESAMPLES, random))
    ends = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    before = ends[0] <= target <= ends[1], np.quantile(draws, LEVEL / 2 / ROWS) > 0
    variance = (shares[..., 0] * 1024 + 1) / 1026
    variance = variance * (1 - variance) / 1024
    values, noise = shares[:, 0, 0] - shares[:, -1, 0], np.sqrt((variance[:, 0] + variance[:, -1]).sum()) / count
    if peak:
        others = others_of(shares)[..., 1]
        top, end = others[:, 1:-1].argmax(1) + 1, np.where(others[:, 0] > others[:, -1], 0, len(sizes) - 1)
        values, noise = shares[each, top, 1] - shares[each, end, 1], 0.0
    return {"before": before, "replicates": by_replicates(values, target, noise)}


@click.command()
@click.option("--runs", default=1000, show_default=True, help="Of each truth.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A CSV of the table.")
def main(runs: int, out: Path | None) -> None:
    """Print the coverage of intervals and the share of rows that hold, by both rules, under each truth."""
    kinds = {
        "difference of types": lambda t, d, r: means(t, d, 60, False, r),
        "types are equal": lambda t, d, r: means(t, d, 0, False, r),
        "slope of a curve": lambda t, d, r: means(t, d, 20, True, r),
        "curve without a slope": lambda t, d, r: means(t, d, 0, True, r),
        "memorized fall": lambda t, d, r: fractions(t, d, True, False, r),
        "memorized do not fall": lambda t, d, r: fractions(t, d, False, False, r),
        "spurious peak": lambda t, d, r: fractions(t, d, True, True, r),
        "no spurious peak": lambda t, d, r: fractions(t, d, False, True, r),
    }
    rows = []
    for kind, simulate in kinds.items():
        for truth in TRUTHS:
            row: dict = {"row": kind, "truth": truth}
            for rule, design in (("before", "three"), ("replicates", "three"), ("replicates", "five")):
                found = [simulate(truth, design, np.random.default_rng([n, 5]))[rule] for n in range(runs)]
                for name, value in zip(("coverage", "holds"), np.mean(found, 0), strict=True):
                    row[f"{rule}_{design}_{name}"] = round(float(value), 3)
            rows.append(row)
        click.echo(pd.DataFrame(rows[-len(TRUTHS):]).to_string(index=False))
        if out:
            pd.DataFrame(rows).to_csv(out, index=False)


if __name__ == "__main__":
    main()
