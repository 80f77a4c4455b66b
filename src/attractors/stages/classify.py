"""The type of every synthetic sample of a sweep (Eqs. 9-11), and tables of fractions, thresholds and histograms."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pandas as pd

from attractors.arrays import read_arrays, read_record, write_arrays
from attractors.cli.settings import ROOT, check_names
from attractors.cli.stage import seed_option, stage
from attractors.data.subsets import replicates, sizes
from attractors.distances.detection import DISTANCES, TYPES, classify
from attractors.distances.thresholds import (
    RATIO,
    Threshold,
    choose,
    copy_bound,
    equivalent_distance,
    find_valley,
    given_thresholds,
)
from attractors.randomness import BOOTSTRAP, REPLICATES, generator
from attractors.results.paper import TABLE_2
from attractors.results.replicates import (
    RESAMPLES,
    Dispersion,
    dispersion,
    dispersions,
    drawn,
    fraction_interval,
    interval,
    peak_interval,
    quantities,
)
from attractors.results.run import spurious_peak
from attractors.settings.classify import Classification
from attractors.tables import write_csv, write_json
from attractors.yardsticks.ratio import distance_ratio, is_memorized

BINS = np.arange(-120, 81) / 40  # edges of log10(distance): 1e-3 to 100, 40 to the decade


class Distances(NamedTuple):
    """The distances of one run, or of all replicates of one K in the order of their numbers."""

    size: int  # K
    to_training: np.ndarray  # [N'], of each sample to S
    within: np.ndarray  # [N'], and to the nearest other sample of the same replicate
    spacing: np.ndarray  # of each training image to the nearest other one
    replicate: np.ndarray  # [N'] int16, the number of each sample's replicate
    copied: np.ndarray  # [N'] int8: whether d1 / d2 < 1/3, or -1 where only one neighbour is known

    @property
    def bound(self) -> float:
        """The largest distance of a copy, `copy_bound`."""
        return copy_bound(self.spacing)


def read_run(path: Path) -> Distances:
    """Return the content of one file of neighbours. Raises ValueError naming the file unless `neighbours` wrote it."""
    names = ["training_distances", "synthetic_distances", "training_spacing"]
    names += ["training_second"] * bool(read_record(path).get("twins"))
    arrays, record = read_arrays(path, *names)
    seconds = arrays.pop("training_second", None)  # to the nearest image that is no twin of the first
    to_training, within, spacing = arrays.values()
    replicate = record.get("replicate", 0)
    if (
        record.get("distance") not in list(DISTANCES)
        or type(record.get("size")) is not int
        or type(replicate) is not int
        or not 0 <= replicate < 1000
        or [array.ndim for array in arrays.values()] != [2, 2, 1]
        or len(to_training) != len(within)
        or any(0 in array.shape or not array.min() >= 0 for array in arrays.values())
        or (seconds is not None and seconds.shape != to_training.shape[:1])
    ):
        raise ValueError(f"{path}: not neighbours as neighbours.py writes them")
    if not (np.isfinite(to_training[:, 0]).all() and np.isfinite(within[:, 0]).all()):
        raise ValueError(f"{path}: distances that are not finite; S' needs at least two samples")
    owner = np.full(len(within), replicate, np.int16)
    copied = np.full(len(within), -1, np.int8)
    pair = to_training if seconds is None else np.stack([to_training[:, 0], seconds], 1)
    if pair.shape[1] > 1 and np.isfinite(pair[:, 1]).all():  # LPIPS is the square of a distance
        metric = pair if DISTANCES[record["distance"]] is None else np.sqrt(pair)
        copied = is_memorized(distance_ratio(metric)).astype(np.int8)
    return Distances(record["size"], to_training[:, 0], within[:, 0], spacing, owner, copied)


def thresholds(
    given: list[float | str | None], distances: list[np.ndarray], runs: list[Distances], seed: int, stream: int
) -> list[Threshold]:
    """Return one Threshold for each of `runs`: the given number or, where it is None, the automatic choice.

    Where it is RATIO, the value is the distance within which as many samples lie, for tables and figures alone.

    distances: those that the threshold is for, [N'] of each run; the replicates of a K have one threshold. stream: 0
    for delta_m, 1 for delta_s. The choice at one K depends on no other.
    """
    sizes, bounds = [run.size for run in runs], [run.bound for run in runs]
    chosen: Any = [None] * len(runs)
    for value, run in zip(given, runs, strict=True):
        if value is None and not 0 < run.bound < np.inf:
            raise ValueError(
                f"K = {run.size}: the images of S have no spacing, from which thresholds are chosen, since S holds one "
                "image or copies of one; give --delta-m and --delta-s"
            )
    if None in given:
        valleys = [
            find_valley(found, bound, generator(seed, BOOTSTRAP, (stream << 32) | size)) if 0 < bound < np.inf else None
            for size, found, bound in zip(sizes, distances, bounds, strict=True)
        ]
        chosen = choose(valleys, bounds)
    found = []
    for value, choice, run in zip(given, chosen, runs, strict=True):
        if isinstance(value, str):
            if run.copied.min() < 0:
                wanted = "needs the distances to two different images of S (neighbours --k 2)"
                raise ValueError(f"{value} at K = {run.size}: {wanted}")
            found.append(Threshold(equivalent_distance(run.to_training, run.copied == 1), value, run.bound))
        else:
            found.append(choice if value is None else Threshold(value, "given", run.bound))
    return found


def threshold_columns(name: str, threshold: Threshold) -> dict[str, Any]:
    """Return the columns of one threshold in the table of thresholds."""
    valley = asdict(threshold.valley) if threshold.valley else {}
    return {
        name: threshold.value, f"{name}_source": threshold.source, f"{name}_bound": threshold.bound,
        **{f"{name}_valley_{key}": valley.get(key) for key in ("position", "low", "high", "depth", "p_value")},
    }


def beside_table_2(limits: pd.DataFrame, name: str, dataset: str) -> pd.DataFrame:
    """Add to the table of thresholds the ranges of Table 2, of that sweep or of the widest network on its dataset."""
    for delta, (low, high) in TABLE_2.get(name, TABLE_2[f"{dataset}-128"])._asdict().items():
        inside = np.where(limits[delta].between(low, high), "yes", "no")
        limits = limits.assign(**{f"{delta}_table_2": f"{low} to {high}", f"{delta}_in_table_2": inside})
    return limits


def names_of_sweeps() -> list[str]:
    """Return the names of all sweeps, which a mapping of thresholds may contain; none outside a checkout."""
    return sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))


def find_runs(given: tuple[Path, ...], sweep: dict | None) -> list[Distances]:
    """Return the runs, by K, in the files of neighbours named on the command line or in folders named there.

    Replicates of one K are joined. With a sweep, runs are those of its sizes and replicates, in files named K and, for
    replicate R from 1, K-R. Raises ValueError where some are missing, or two are of the same K and replicate.
    """
    paths = [path for entry in given for path in (sorted(entry.glob("*.safetensors")) if entry.is_dir() else [entry])]
    if sweep:
        models = replicates(sweep.get("replicates"), sizes(sweep.get("sizes")))
        wanted = [f"{size}-{number}" if number else f"{size}" for size in models for number in range(models[size])]
        paths = [path for path in paths if path.stem in wanted]
        there = {path.stem for path in paths}
        if missing := [name for name in wanted if name not in there]:
            raise ValueError(f"{given[0]}: no neighbours for K = {', '.join(missing)}")
    if not paths:
        raise ValueError(f"{given[0]}: holds no neighbours (K.safetensors)")
    found: dict[tuple[int, int], tuple[Distances, Path]] = {}
    for path in paths:
        run = read_run(path)
        key = run.size, int(run.replicate[0])
        if key in found:
            raise ValueError(
                f"{found[key][1]} and {path}: both of K = {key[0]}; classify them apart, each by its --name, or, if "
                "they are replicates, give neighbours a --replicate"
            )
        found[key] = run, path
    runs = (found[key][0] for key in sorted(found))
    return [
        Distances(size, *map(np.concatenate, list(zip(*group, strict=True))[1:]))
        for size, group in groupby(runs, key=lambda run: run.size)
    ]


def counted(run: Distances, codes: np.ndarray) -> np.ndarray:
    """Return how many samples of each type each replicate has: [R, 3]."""
    numbers = np.unique(run.replicate)
    return np.stack([np.bincount(codes[run.replicate == number], minlength=len(TYPES)) for number in numbers])


def fraction_row(size: int, counts: np.ndarray, phi: Dispersion) -> dict[str, Any]:
    """Return one row of the table of fractions: the share of each type over all replicates, with its interval.

    counts: [R, 3]. NAME_se is the standard error, and NAME_sampling the part of it that finite samples explain.
    """
    shares, low, high, error = fraction_interval(counts, phi)
    columns = {"": shares, "_low": low, "_high": high, "_se": error, "_sampling": error / np.sqrt(phi.value)}
    return {"K": size, "count": int(counts.sum()), "replicates": len(counts)} | {
        f"{name}{suffix}": values[code] for code, name in enumerate(TYPES) for suffix, values in columns.items()
    }


def histogram(size: int, counts: np.ndarray, spacing: np.ndarray) -> pd.DataFrame:
    """Return the rows of one K in the table of histograms: log-spaced distances and three counts."""
    return pd.DataFrame({
        "K": size, "distance": 10 ** ((BINS[:-1] + BINS[1:]) / 2),
        "to_training": counts.sum(1), "within_synthetic": counts.sum(0),
        "training_spacing": np.histogram(np.log10(np.clip(spacing, 10 ** BINS[0], None)), BINS)[0],
    })


def summary(
    table: pd.DataFrame, limits: pd.DataFrame, counts: list[np.ndarray], random: np.random.Generator
) -> dict[str, Any]:
    """Return the numbers of `dvc metrics show`: the spurious peak, its K and thresholds, and the half-crossing.

    counts: the samples of each type in each replicate of each K, which make the intervals, NAME_low and NAME_high.
    """
    phi = dispersion(counts)
    peak = spurious_peak(table)
    beside = {column: limits[column][peak.name] for column in limits if column.endswith("_in_table_2")}
    sizes, shares = table.K.to_numpy(), table[list(TYPES)].to_numpy()[None]
    others = quantities(sizes, drawn(counts, dispersions(counts, phi), RESAMPLES, random))
    found: dict[str, Any] = {}
    for name, (value,) in quantities(sizes, shares).items():
        largest = name == "spurious_peak"
        digits, ends = (4, peak_interval(value, others[name])) if largest else (1, interval(others[name]))
        for suffix, number in zip(("", "_low", "_high"), (value, *ends), strict=True):
            found[f"{name}{suffix}"] = round(float(number), digits) if np.isfinite(number) else None
    return found | {
        "delta_m": round(limits.delta_m[peak.name], 4), "delta_s": round(limits.delta_s[peak.name], 4),
        "memorized_first": round(table.memorized.iloc[0], 4), "generalized_last": round(table.generalized.iloc[-1], 4),
        "dispersion": round(phi.value, 2), "dispersion_degrees": phi.degrees,
        **beside,
    }


@stage("classify", sweep=True, settings=Classification)
@click.argument("neighbours", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", help="Name of the tables.  [default: the sweep's, or samples]")
@seed_option
@click.option("--types", type=click.Path(file_okay=False, path_type=Path), help="Folder of K.safetensors, the types.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the tables.")
def main(
    sweep: dict | None,
    neighbours: tuple[Path, ...],
    name: str | None,
    seed: int,
    types: Path | None,
    out: Path,
    settings: Classification,
) -> None:
    """Classify all samples of NEIGHBOURS: files written by neighbours.py, or a folder of them, one for each K.

    Replicates of a K are classified together, by one pair of thresholds. Writes the type of every sample,
    TYPES/K.safetensors, and tables: OUT/{fractions,thresholds,histograms,replicates/fractions}/NAME.csv,
    OUT/counts/NAME.safetensors, OUT/summary/NAME.json.
    """
    name = name or (sweep["name"] if sweep else "samples")
    check_names([name], "--name")
    runs = find_runs(neighbours, sweep)
    try:
        given = [
            given_thresholds(setting, option, name, [run[0] for run in runs], names_of_sweeps())
            for option, setting in (("delta_m", settings.delta_m), ("delta_s", settings.delta_s))
        ]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    chosen_m = thresholds(given[0], [run.to_training for run in runs], runs, seed, 0)
    chosen_s = thresholds(given[1], [run.within for run in runs], runs, seed, 1)
    limits, counts, found = [], [], []
    for run, m, s in zip(runs, chosen_m, chosen_s, strict=True):
        codes = classify(run.to_training, run.within, m.value, s.value, run.copied == 1 if m.source == RATIO else None)
        found.append(counted(run, codes))
        limits.append({"K": run.size, **threshold_columns("delta_m", m), **threshold_columns("delta_s", s)})
        first, second = (np.log10(np.clip(d, 10 ** BINS[0], 10 ** BINS[-1])) for d in (run.to_training, run.within))
        counts.append(np.histogram2d(first, second, [BINS, BINS])[0].astype(np.int32))
        if types:
            record = {"size": run.size, "count": len(codes), "delta_m": m.value, "delta_s": s.value}
            write_arrays(types / f"{run.size}.safetensors", {"codes": codes, "replicate": run.replicate}, **record)

    rows = [fraction_row(run.size, part, phi) for run, part, phi in zip(runs, found, dispersions(found), strict=True)]
    single = [
        {"K": run.size, "replicate": number, "count": row.sum(), **dict(zip(TYPES, row / row.sum(), strict=True))}
        for run, part in zip(runs, found, strict=True)
        for number, row in zip(np.unique(run.replicate), part, strict=True)
    ]
    table, limits = pd.DataFrame(rows), pd.DataFrame(limits)
    if sweep and f"{sweep.get('dataset')}-128" in TABLE_2:
        limits = beside_table_2(limits, name, sweep["dataset"])
    write_csv(out / "fractions" / f"{name}.csv", table)
    write_csv(out / "replicates" / "fractions" / f"{name}.csv", pd.DataFrame(single))
    write_csv(out / "thresholds" / f"{name}.csv", limits)
    bars = [histogram(run.size, count, run.spacing) for run, count in zip(runs, counts, strict=True)]
    write_csv(out / "histograms" / f"{name}.csv", pd.concat(bars))
    arrays = {"sizes": table.K.to_numpy(), "log10_edges": BINS, "counts": np.stack(counts)}
    write_arrays(out / "counts" / f"{name}.safetensors", arrays)
    write_json(out / "summary" / f"{name}.json", summary(table, limits, found, generator(seed, REPLICATES)))
    shown = table[["K", "replicates", "count", *TYPES]].assign(delta_m=limits.delta_m, delta_s=limits.delta_s)
    click.echo(shown.to_string(index=False, float_format="%.3f"))
    click.echo(f"{out}: fractions, thresholds, histograms and counts of {name}, {len(runs)} sizes")


if __name__ == "__main__":
    main()
