"""Types joined with measurements: against slow loops where all is measured, against populations where it is not."""

import math

import numpy as np
import pandas as pd
import pytest
from builders import refused, run
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as arrays_of

from attractors.arrays import read_arrays, write_arrays
from attractors.distances.detection import TYPES, classify
from attractors.landscape.selection import select
from attractors.measurements.curvature import RANKS, spectra_table
from attractors.results.joined import estimate
from attractors.stages.join import main
from attractors.tables import read_csv

N, TRIALS, DIMENSIONS, REFERENCES, DELTA_M, DELTA_S = 150, 3, 16, 2, 0.5, 0.4


def measure(random, prefix, count, number):
    """Random results of `count` samples or training images of a replicate, as the three stages would write them."""
    t_c = random.integers(0, 3 + number, (count, TRIALS)) * 50
    logs = np.where((t_c > 0).any(1), random.normal(3 + number, 2, count), np.nan)
    spectra = -np.sort(-random.gamma(2, 1, (count, DIMENSIONS)), 1)
    return {
        "basin": {f"{prefix}t_c": t_c, f"{prefix}log_volume": logs},
        "curvature": {f"{prefix}central": spectra, f"{prefix}jacobian": spectra[:, ::-1].copy()[:, ::-1] * 2,
                      f"{prefix}jacobian_trace": random.normal(-5, 1, count)},
        "energy": {f"{prefix}energy": random.normal(5 * number, 1, (count, REFERENCES))},
    }


RECORDS = {"basin": {"distance": "l2", "delta_d": 0.6}, "curvature": {"t0": 40, "sigma": 0.1}, "energy": {"t0": 3}}


@pytest.fixture
def sweep(tmp_path):
    """A function: numbers of samples in each group to the folder of a sweep of two K with random measurements.

    Replicates, which differ in their means, are joined in what it returns. The first has as many samples as the others
    and one more, so that an offset of the wrong replicate is seen.
    """

    def options(out, *others):
        return ["x", "--data", tmp_path / "data", "--metrics", tmp_path / out, *others]

    def write(replicates=1, **groups):
        found = {}
        for size in (8, 32):
            parts = []
            for number in range(replicates):
                random, count = np.random.default_rng([size, number]), N + (number == 0)
                to_training, within = np.abs(random.normal(0.6, 0.3, (2, count))).astype(np.float32)
                everything = [measure(random, *part, number) for part in (("", count), ("training_", size))]
                chosen = select(to_training, within, **groups, seed=1, size=size)
                distances = {"training_distances": to_training[:, None], "synthetic_distances": within[:, None]}
                files = {"neighbours": distances}
                for kind in RECORDS:
                    files[kind] = chosen._asdict() | {"training_numbers": np.arange(size)} | everything[1][kind]
                    files[kind] |= {name: values[chosen.numbers] for name, values in everything[0][kind].items()}
                files["energy"]["references"] = np.array([5, 7])
                for kind, content in files.items():
                    record = RECORDS.get(kind, {}) | {"size": size, "image_shape": [1, 4, 4]}
                    name = f"{size}-{number}" if number else f"{size}"
                    write_arrays(tmp_path / f"data/{kind}/x/{name}.safetensors", content, **record)
                parts.append((to_training, within, everything))
            to_training, within = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
            codes = classify(to_training, within, DELTA_M, DELTA_S)
            write_arrays(tmp_path / f"data/types/x/{size}.safetensors", {"codes": codes}, size=size)
            everything = [
                {kind: {key: np.concatenate([part[2][side][kind][key] for part in parts]) for key in names}
                 for kind, names in parts[0][2][side].items()}
                for side in (0, 1)
            ]
            owners = [np.repeat(range(replicates), [len(part[0]) for part in parts]),
                      np.repeat(range(replicates), size)]
            found[size] = to_training, within, codes, owners, everything
        run(main, *options("metrics"))
        return found

    write.folder, write.options = tmp_path, options
    return write


def literal(values):
    """(mean, standard deviation, standard error) of the finite ones of a list, one number after the other."""
    kept = [float(value) for value in values if not math.isnan(value)]
    mean = sum(kept) / len(kept)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in kept) / (len(kept) - 1))
    return mean, deviation, deviation / math.sqrt(len(kept))


def members(size, kind, found):
    """(numbers of all samples of a type, and of the five that C.2 takes first), by a loop over all samples."""
    to_training, within, *_ = found[size]
    mine = []
    for i in range(len(to_training)):
        memorized = to_training[i] <= DELTA_M
        spurious = within[i] <= DELTA_S and not memorized
        if kind == ("memorized" if memorized else "spurious" if spurious else "generalized"):
            mine.append(i)
    distance = within if kind == "spurious" else to_training
    return mine, sorted(mine, key=lambda i: (distance[i], i))


def check(row, name, values, nearest=None):
    """A row against plain means; its standard errors against those of sampling times the row's own dispersion."""
    wider = row[f"{name}_se"] / row[f"{name}_sampling"]
    assert [row[name], row[f"{name}_std"], row[f"{name}_sampling"]] == pytest.approx(literal(values), rel=2e-5)
    assert wider >= 1 - 1e-5
    if nearest is not None:
        mean, _, error = literal(nearest)
        assert [row[f"{name}_nearest"], row[f"{name}_nearest_se"]] == pytest.approx([mean, wider * error], rel=4e-5)


def between(values, owners):
    """How many times as much a mean varies as its samples say, squared, by its replicates: one after the other."""
    mean, _, error = literal(values)
    totals = {}
    for value, owner in zip(values, owners, strict=True):
        if not math.isnan(value):
            totals[owner] = totals.get(owner, 0) + value - mean
    count, kept = len(totals), sum(not math.isnan(value) for value in values)
    return count / (count - 1) * sum(total**2 for total in totals.values()) / kept**2 / error**2


@pytest.mark.parametrize("replicates", [1, 3])
def test_with_every_sample_measured_the_tables_are_those_of_classifying_all_of_them(sweep, replicates):
    """The oracle: loops over all samples, their types and plain means, where the weights are all 1."""
    found = sweep(replicates, nearest=2 * N, repeating=N, uniform=N)
    tables = {
        name: read_csv(sweep.folder / f"metrics/{name}/x.csv") for name in ("basin", "curvature", "spectra", "energy")
    }
    assert len(tables["basin"]) == 8
    assert len(tables["energy"]) == 8 * REFERENCES
    for size, (*_, everything) in found.items():
        for kind in (*TYPES, "training"):
            prefix = "training_" if kind == "training" else ""
            data = {k: v for part in everything[bool(prefix)].values() for k, v in part.items()}
            mine, ranked = (list(range(replicates * size)), []) if prefix else members(size, kind, found)
            owners = found[size][3][bool(prefix)]
            first = [i for i in ranked if i in set(ranked[:512])] or None
            at = {name: table[(size == table.K) & (table.type == kind)] for name, table in tables.items()}
            (basin,) = at["basin"].to_dict("records")
            assert (basin["n"], basin["total"], basin["replicates"]) == (len(mine), len(mine), replicates)
            t_c = data[f"{prefix}t_c"]
            means = [sum(t_c[i]) / TRIALS for i in mine]
            check(basin, "t_c", means, first and [sum(t_c[i]) / TRIALS for i in first])
            check(basin, "log_volume", [data[f"{prefix}log_volume"][i] for i in mine])
            lost = sum(t == 0 for i in mine for t in t_c[i]) / (TRIALS * len(mine))
            assert basin["unrecovered"] == pytest.approx(lost, rel=1e-5)
            for row in at["energy"].to_dict("records"):
                values = [data[f"{prefix}energy"][i, row["reference"] - 1] for i in mine]
                check(row, "energy", values)
                images = everything[1]["energy"]["training_energy"][:, row["reference"] - 1]
                zeros = [sum(images[number * size : (number + 1) * size]) / size for number in range(replicates)]
                gaps = [value - zeros[owners[i]] for i, value in zip(mine, values, strict=True)]
                assert row["gap"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-3, abs=1e-5)
                assert row["image"] == {1: 5, 2: 7}[row["reference"]]
            for row in at["curvature"].to_dict("records"):
                spectra = data[f"{prefix}{row['method']}"][mine]
                check(row, "largest", [max(s) for s in spectra])
                check(row, "smallest", [min(s) for s in spectra])
                check(row, "median", [sum(sorted(s)[7:9]) / 2 for s in spectra])
                entropy = [-sum(v / sum(s) * math.log(v / sum(s)) for v in s) for s in spectra]
                check(row, "effective_rank", [math.exp(value) for value in entropy])
                if row["method"] == "jacobian":
                    traces = [data[f"{prefix}jacobian_trace"][i] for i in mine]
                    check(row, "degrees_of_freedom", [DIMENSIONS + 0.01 * trace for trace in traces])
            for row in at["spectra"].to_dict("records"):
                check(row, "mean", [data[f"{prefix}{row['method']}"][i, row["rank"] - 1] for i in mine])


def test_standard_errors_are_wider_by_how_much_replicates_differ_and_single_ones_have_tables_of_their_own(sweep):
    found = sweep(3, nearest=2 * N, repeating=N, uniform=N)
    table = read_csv(sweep.folder / "metrics/basin/x.csv").set_index(["type", "K"])
    alone = read_csv(sweep.folder / "metrics/replicates/basin/x.csv").set_index(["type", "K", "replicate"])
    dispersions = read_csv(sweep.folder / "metrics/dispersion/x.csv").set_index(["table", "quantity", "type"])
    assert len(alone) == 24
    assert not set(alone.columns) & {"total", "replicates", "t_c_nearest", "t_c_between", "t_c_std"}
    largest = 0
    for kind in (*TYPES, "training"):
        prefix, ratios = "training_" if kind == "training" else "", {}
        for size, (*_, owners, everything) in found.items():
            owner, logs = owners[bool(prefix)], everything[bool(prefix)]["basin"][f"{prefix}log_volume"]
            mine = range(3 * size) if prefix else members(size, kind, found)[0]
            ratios[size] = between([logs[i] for i in mine], [owner[i] for i in mine])
            for number in range(3):
                row, own = alone.loc[kind, size, number], [logs[i] for i in mine if owner[i] == number]
                assert row.n == len(own)
                mean, _, error = literal(own)
                assert [row.log_volume, row.log_volume_se] == pytest.approx([mean, error], rel=2e-5)
        phi = max(1, sum(ratios.values()) / 2)
        for size, row in table.loc[kind].iterrows():  # three replicates: two degrees of its own and four of all sizes
            wider = row.log_volume_se / row.log_volume_sampling
            assert wider**2 == pytest.approx(max(1, (2 * ratios[size] + 4 * phi) / 6), rel=1e-4)
            assert row.degrees == 6
        row = dispersions.loc["basin", "log_volume", kind]
        assert (row.dispersion, row.degrees) == (pytest.approx(phi, rel=1e-4), 4)
        largest = max(phi, largest)
    assert largest > 3  # replicates do differ


def test_nearest_means_are_those_of_the_samples_that_the_paper_would_measure(sweep):
    found = sweep(nearest=2 * N, repeating=N, uniform=N)
    folder = sweep.folder
    run(main, *sweep.options("five", "--limit", 5))
    table, differing = read_csv(folder / "five/basin/x.csv").set_index(["K", "type"]), 0
    for size, (*_, everything) in found.items():
        for kind in TYPES:
            t_c = [everything[0]["basin"]["t_c"][i].mean() for i in members(size, kind, found)[1][:5]]
            row = table.loc[size, kind]
            assert (row["quantile"], row.degrees) == (pytest.approx(1.95996, rel=1e-5), 0)
            mean, _, error = literal(t_c)
            assert [row.t_c_nearest, row.t_c_nearest_se] == pytest.approx([mean, error], rel=1e-5)
            differing += row.t_c != pytest.approx(row.t_c_nearest, rel=1e-3)
    assert differing >= 4


def test_with_a_part_measured_means_are_weighted_and_totals_are_of_all_samples(sweep):
    found = sweep(nearest=20, repeating=10, uniform=40)
    table = read_csv(sweep.folder / "metrics/basin/x.csv").set_index(["K", "type"])
    for size, (to_training, within, codes, _, everything) in found.items():
        chosen = select(to_training, within, nearest=20, repeating=10, uniform=40, seed=1, size=size)
        for code, kind in enumerate(TYPES):
            above = below = count = 0
            for number, weight in zip(chosen.numbers, chosen.weight, strict=True):
                if codes[number] == code:
                    above += weight * everything[0]["basin"]["t_c"][number].mean()
                    below, count = below + weight, count + 1
            row = table.loc[size, kind]
            assert (row.n, row.total) == (count, (codes == code).sum())
            assert row.t_c == pytest.approx(above / below, rel=1e-5)


def test_rare_types_are_left_out_and_mismatches_are_one_line(sweep):
    found = sweep(nearest=20, repeating=10, uniform=40)
    folder = sweep.folder
    codes = found[8][2].copy()
    codes[codes == 1] = 2
    codes[0] = 1
    write_arrays(folder / "data/types/x/8.safetensors", {"codes": codes}, size=8)
    options = sweep.options("m", "--rare", 0.01)
    run(main, *options)
    table = read_csv(folder / "m/basin/x.csv")
    assert table.type[table.K == 8].tolist() == ["memorized", "generalized", "training"]
    write_arrays(folder / "data/types/x/8.safetensors", {"codes": codes[:40]}, size=8)
    for change, words in (
        (lambda: None, "basin/x/8.safetensors: measurements of sample"),
        (lambda: write_arrays(folder / "data/basin/x/8.safetensors", {"x": codes}, size=9), "at K = 9, not at 8"),
        (lambda: write_arrays(folder / "data/basin/x/8.safetensors", {"x": codes}, size=8), "basin/x/8.safetensors: "),
        ((folder / "data/basin/x/8.safetensors").unlink, "basin/x/8.safetensors: no such file"),
        (lambda: (folder / "data/types/x").rename(folder / "gone"), "no types (K.safetensors)"),
    ):
        change()
        assert words in refused(main, *options)


def test_replicates_that_were_measured_otherwise_are_one_line(sweep):
    sweep(2, nearest=20, repeating=10, uniform=40)
    path = sweep.folder / "data/basin/x/8-1.safetensors"
    arrays, record = read_arrays(path)
    for change in ({"t_c": arrays["t_c"][:, :2]}, {"more": arrays["t_c"]}):
        write_arrays(path, arrays | change, **record)
        assert "basin/x/8-1.safetensors: not measured as " in refused(main, *sweep.options("m"))


weighted = st.integers(2, 30).flatmap(
    lambda n: st.tuples(arrays_of(np.float64, (n, 2), elements=st.floats(-100, 100)),
                        arrays_of(np.float64, n, elements=st.integers(1, 9)))
)


@settings(max_examples=60, deadline=None)
@given(weighted, st.floats(0.1, 10))
def test_estimates_of_equal_weights_are_plain_and_weights_have_no_unit(pair, factor):
    values, weights = pair
    mean, deviation, error = estimate(values, np.full(len(values), factor))
    np.testing.assert_allclose(mean, values.mean(0), atol=1e-9)
    np.testing.assert_allclose(deviation, values.std(0, ddof=1), atol=1e-9)
    np.testing.assert_allclose(error, values.std(0, ddof=1) / np.sqrt(len(values)), atol=1e-9)
    for a, b in zip(estimate(values, weights), estimate(values, factor * weights), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    # A weight is how many members one stands for: the mean is that of a list in which it is repeated so often.
    np.testing.assert_allclose(estimate(values, weights)[0], np.repeat(values, weights.astype(int), 0).mean(0),
                               atol=1e-9)
    np.testing.assert_allclose(estimate(3 * values + 5, weights)[0], 3 * estimate(values, weights)[0] + 5, atol=1e-6)


def test_estimates_of_too_few_are_not_numbers():
    assert np.isnan(estimate(np.empty((0, 3)), np.empty(0))[0]).tolist() == [True] * 3
    mean, deviation, error = estimate(np.array([2.0]), np.array([5.0]))
    assert mean == 2 and np.isnan(deviation) and np.isnan(error)


def test_estimates_are_of_all_samples_of_a_type_though_the_measured_ones_are_not_drawn_evenly():
    """400 synthetic sets whose quantity grows with the distance to S: Hajek's means are right, plain ones are not."""
    found = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        to_training, within = random.lognormal(0, 0.5, (2, 1000))
        quantity = to_training + random.normal(0, 0.2, 1000)
        chosen = select(to_training, within, nearest=100, repeating=100, uniform=100, seed=seed, size=16)
        mine = to_training[chosen.numbers] > 0.5
        values, weights = quantity[chosen.numbers][mine], chosen.weight[mine]
        mean, _, error = estimate(values, weights)
        found.append((mean, error, values.mean(), quantity[to_training > 0.5].mean()))
    mean, error, plain, whole = np.array(found).T
    truth = whole.mean()
    assert abs(mean.mean() - truth) < 4 * mean.std() / 20
    assert abs(plain.mean() - truth) > 20 * plain.std() / 20
    # The error is that of the estimate, and 95 % of the intervals hold the mean of the distribution.
    assert error.mean() == pytest.approx(mean.std(), rel=0.1)
    assert 0.91 < (abs(mean - truth) < 1.96 * error).mean() < 0.98


def test_long_spectra_are_thinned_to_evenly_spaced_ranks_from_first_to_last():
    from attractors.results.joined import Kind

    values = np.arange(3000.0, 0, -1)[None].repeat(2, 0)
    kind = Kind("memorized", "", np.arange(2), np.ones(2), np.ones(2, bool), np.zeros(2, np.int16), 2)
    table = spectra_table(4, {"central": values}, {}, [kind])
    assert len(table) == RANKS
    assert table["rank"].iloc[[0, -1]].tolist() == [1, 3000]
    assert (table["mean"] == 3001 - table["rank"]).all()
    assert pd.Series(np.diff(table["rank"])).between(5, 6).all()
