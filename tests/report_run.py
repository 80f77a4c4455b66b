"""A run made of random numbers: what classify.py and report.py read and write, at any size, in seconds."""

import numpy as np
import pandas as pd

from attractors.arrays import write_arrays
from attractors.distances.detection import TYPES, classify, fractions, wilson
from attractors.landscape.selection import select
from attractors.report.explorer import GRID
from attractors.tables import write_csv


def distances(random, count, share):
    """Log-normal with two peaks, a few of them edges of the explorer's grid to the last bit."""
    copies = random.random(count) < share
    logs = np.where(copies, random.normal(-1, 0.15, count), random.normal(0.2, 0.2, count))
    found = (10**logs).astype(np.float32)
    found[random.choice(count, count // 20, replace=False)] = GRID[random.integers(70, 140, count // 20)]
    return found


def neighbours(path, random, count, size, share):
    """A file such as neighbours.py writes, with the same numbers of neighbours whatever K is."""
    arrays = {"training_spacing": np.full(size, 3, np.float32)}
    for source, among in (("training", size), ("synthetic", count)):
        first = distances(random, count, share if source == "training" else min(1, share + 0.2))
        arrays[f"{source}_distances"] = first[:, None] * np.linspace(1, 2, 5, dtype=np.float32)
        arrays[f"{source}_indices"] = random.integers(0, among, (count, 5))
    hashes = {f"{source}_sha256": f"{source} {size}" for source in ("training", "synthetic")}
    write_arrays(path, arrays, distance="l2", k=5, size=size, count=count, **hashes)
    return arrays["training_distances"][:, 0], arrays["synthetic_distances"][:, 0]


def make_run(folder, sizes, count, shape=(1, 8, 8), name="fake"):
    """Write FOLDER/{data,metrics,plots} and runs.yaml of one sweep; return {K: (distances to S, within S')}."""
    random, found, rows = np.random.default_rng(0), {}, []
    images = random.integers(0, 17, (max(count, sizes[-1]), *shape), dtype=np.uint8)
    write_arrays(folder / "data" / "subsets" / "noise.safetensors", {"images": images}, maximum=16)
    for size, share in zip(sizes, np.linspace(1, 0, len(sizes)), strict=True):
        found[size] = neighbours(folder / f"data/neighbours/{name}/{size}.safetensors", random, count, size, share)
        synthetic = folder / f"data/synthetic/{name}/{size}.safetensors"
        synthetic.parent.mkdir(parents=True, exist_ok=True)
        synthetic.hardlink_to(folder / "data" / "subsets" / "noise.safetensors")
        shares = fractions(classify(*found[size], 0.9, 0.35))
        low, high = wilson(shares, count)
        rows.append({"K": size, "count": count} | {
            f"{kind}{suffix}": values[code] for code, kind in enumerate(TYPES)
            for suffix, values in (("", shares), ("_low", low), ("_high", high))
        })
    write_csv(folder / "metrics" / "fractions" / f"{name}.csv", pd.DataFrame(rows))
    limits = {"K": sizes}
    for column, value in (("delta_m", 0.9), ("delta_s", 0.35)):
        limits |= {column: value, f"{column}_source": "valley", f"{column}_bound": 1.0}
        limits |= {f"{column}_valley_{key}": value for key in ("position", "low", "high", "depth", "p_value")}
    write_csv(folder / "metrics" / "thresholds" / f"{name}.csv", pd.DataFrame(limits))
    (folder / "plots").mkdir()
    sweeps = f"{{{name}: {{dataset: noise}}}}"
    subsets = "{noise: {dataset: noise, replicate: 0}}"
    (folder / "runs.yaml").write_text(
        f"datasets: [noise]\nsubsets: {subsets}\nsweeps: {sweeps}\nlearned: {sweeps}\nruns: {{}}\n"
    )
    return found


def make_measurements(folder, found, name="fake", kept=60):
    """Write FOLDER/data/{basin,energy} of the run that `make_run` made, with the samples that `select` chooses.

    kept: how many of them lie nearest to S, how many repeat, and half as many as are drawn uniformly.
    """
    random = np.random.default_rng(1)
    for size, distances in found.items():
        chosen = select(*distances, kept, kept, 2 * kept, 0, size)
        n, groups = len(chosen.numbers), {"numbers": chosen.numbers, "uniform": chosen.uniform, "weight": chosen.weight}
        training = {"training_numbers": np.arange(2)}
        t_c = random.integers(0, 4, (n, 5)) * 10
        logs = np.where(random.random(n) < 0.2, np.nan, random.normal(0, 30, n))
        basin = {"t_c": t_c, "log_volume": logs, "training_t_c": t_c[:2], "training_log_volume": logs[:2]}
        write_arrays(folder / f"data/basin/{name}/{size}.safetensors", {**groups, **training, **basin}, size=size)
        energy = {"energy": random.normal(0, 1, (n, 2)), "training_energy": random.normal(0, 1, (2, 2))}
        energy["references"] = np.arange(2)
        write_arrays(folder / f"data/energy/{name}/{size}.safetensors", {**groups, **training, **energy}, size=size,
                     t0=4)


def write_report(folder, out):
    """Run the report stage on what `make_run` wrote."""
    from attractors.stages.report import main

    options = [option for kind in ("metrics", "plots", "data") for option in (f"--{kind}", folder / kind)]
    main([*map(str, options), "--runs", str(folder / "runs.yaml"), "--out", str(out)], standalone_mode=False)
