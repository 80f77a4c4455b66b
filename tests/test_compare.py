"""What compare.py says of two runs: known differences are found, none is found where there is none."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from builders import refused, run
from pygit2 import GitError
from scipy.stats import t
from small_scale import commit, git

from attractors.commands import compare as command
from attractors.distances.detection import TYPES
from attractors.results.comparison import compare_fractions, compare_means, compare_quantities, holm
from attractors.results.replicates import counts_of, dispersion
from attractors.results.run import crossings

SIZES = np.array([2, 16, 64, 256])


def table(shares, count=1000):
    """A table of replicates that has one at each K."""
    shares = np.array(shares, float)
    return pd.DataFrame({"K": SIZES, "replicate": 0, "count": count, **dict(zip(TYPES, shares.T, strict=True))})


FALL = [(1, 0, 0), (0.8, 0.1, 0.1), (0.3, 0.25, 0.45), (0, 0.05, 0.95)]


def draw(shares, seed, count=1000):
    random = np.random.default_rng(seed)
    return table([random.multinomial(count, row) / count for row in shares], count)


def test_crossing_is_the_line_through_two_points_in_log_k():
    found = crossings(SIZES, np.array([[1, 0.8, 0.2, 0], [1, 1, 1, 0.9], [0.4, 0.3, 0.2, 0.1], [1, 0.5, 0.2, 0.7]]))
    np.testing.assert_allclose(found, [np.sqrt(16 * 64), np.nan, np.nan, 16])
    random = np.random.default_rng(0)
    shares = np.sort(random.random((30, 4)))[:, ::-1]
    for found, row in zip(crossings(SIZES, shares), shares, strict=True):
        inside = row[0] > 0.5 >= row[-1]
        expected = np.exp(np.interp(-0.5, -row, np.log(SIZES))) if inside else np.nan
        np.testing.assert_allclose(found, expected)


def test_counts_come_back_from_fractions_of_six_digits():
    counts = np.random.default_rng(0).multinomial(199_999, [0.3, 0.1, 0.6], 4)
    shares = [[float(f"{share:.6g}") for share in row / 199_999] for row in counts]
    np.testing.assert_array_equal(np.concatenate(counts_of(table(shares, 199_999))), counts)
    first, second = (table(shares, 199_999).assign(K=[2, 2, 64, 64]) for _ in range(2))
    found = counts_of(pd.concat([first[::2], second[1::2]]))  # rows in any order
    assert [part.shape for part in found] == [(2, 3), (2, 3)]
    np.testing.assert_array_equal(found[0], counts[:2])


def test_two_draws_of_one_transition_differ_by_noise_about_nineteen_times_in_twenty():
    found = [
        compare_quantities(draw(FALL, seed), draw(FALL, 1000 + seed), np.random.default_rng(seed)) for seed in range(60)
    ]
    verdicts = pd.concat(found)
    for name in ("peak of the spurious fraction", "K where memorized fall to 1/2"):
        assert verdicts[verdicts.quantity == name].noise.mean() > 0.85
    fractions = [compare_fractions(draw(FALL, seed), draw(FALL, 1000 + seed)).p.min() for seed in range(60)]
    assert np.mean(np.array(fractions) < 0.05) < 0.15


def test_a_transition_that_came_later_is_more_than_noise():
    later = [(1, 0, 0), (0.98, 0.01, 0.01), (0.7, 0.15, 0.15), (0.1, 0.4, 0.5)]
    found = compare_quantities(draw(FALL, 0), draw(later, 1), np.random.default_rng(2)).set_index("quantity")
    assert list(found.noise) == [False, False, False]
    assert found.A["K of that peak"] == 64
    assert found.B["K of that peak"] == 256
    assert list(compare_fractions(draw(FALL, 0), draw(later, 1)).p < 0.001) == [False, True, True, True]


def test_holm_on_the_numbers_of_a_textbook():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_means_two_and_a_half_errors_apart_have_the_p_of_the_normal_distribution():
    rows = {"K": [2, 2], "type": ["memorized", "spurious"], "log_volume": [1.0, 2.0], "log_volume_se": [0.3, np.nan]}
    first = pd.DataFrame(rows)
    second = first.assign(log_volume=[1 + 2.5 * 0.5, 5], log_volume_se=[0.4, 0.4])
    found = compare_means(first, second, "log_volume").p
    assert found[0] == pytest.approx(0.012419, rel=1e-3)
    assert np.isnan(found[1])
    found = compare_means(first.assign(degrees=14), second.assign(degrees=[6, 14]), "log_volume").p
    assert found[0] == pytest.approx(2 * t.sf(2.5, 6))
    found = compare_means(first.assign(degrees=14), second.assign(degrees=0), "log_volume").p
    assert found[0] == pytest.approx(2 * t.sf(2.5, 14))


def table_of_replicates(shares, count):
    """The table of so many replicates, each with 1000 samples at each K."""
    return pd.concat([draw(shares, number).assign(replicate=number) for number in range(count)])


def write(folder, shares, delta_m, samples, replicates=0):
    """A run whose fractions are in the table of all samples and, of so many replicates, in theirs."""
    for kind in ("fractions", "thresholds", "replicates/fractions"):
        (folder / "metrics" / kind).mkdir(parents=True, exist_ok=True)
    draw(shares, 0).drop(columns="replicate").to_csv(folder / "metrics/fractions/x.csv", index=False)
    if replicates:
        table_of_replicates(shares, replicates).to_csv(folder / "metrics/replicates/fractions/x.csv", index=False)
    limits = {"K": SIZES, "delta_m": delta_m, "delta_m_source": "given", "delta_s": 0.3, "delta_s_source": "valley"}
    pd.DataFrame(limits).to_csv(folder / "metrics/thresholds/x.csv", index=False)
    dep = f"{{path: data/neighbours/x, md5: {samples}}}"
    (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  classify@x:\n    cmd: x\n    deps: [{dep}]\n")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    write(folder, FALL, 0.4, "one.dir")
    commit(folder)
    git(folder, "tag", "first")
    write(folder, [FALL[0], (0.4, 0.3, 0.3), *FALL[2:]], 0.2, "one.dir")
    return folder


def compare(folder, *arguments, by=run):
    return by(command, *arguments, "--folder", folder)


def test_a_revision_against_the_workspace(repository):
    said = compare(repository, "first")
    assert "The same samples under other thresholds" in said
    assert "Thresholds that moved" in said
    assert "== x ==\n\nMore than noise: peak of the spurious fraction; K of that peak; " in said
    assert "; fractions at K = 16.\n" in said
    line = next(line for line in said.splitlines() if line.strip().startswith("peak of the spurious fraction"))
    assert line.endswith("more than noise")
    assert "no more" not in line
    assert "p of a chi-squared test of samples alone, for there are no replicates" in said


def test_a_revision_against_itself(repository):
    said = compare(repository, "first", "HEAD")
    assert "Nothing changed" in said
    assert "No threshold moved." in said


def test_a_name_that_is_none_is_one_line(repository):
    said = compare(repository, "nothing-of-the-kind", by=refused)
    assert said.startswith("Error: nothing-of-the-kind: neither a revision nor an experiment here")
    assert "y: not in both; those are x" in refused(command, "first", "--sweep", "y", "--folder", repository, code=2)


def test_a_repository_of_another_user_is_one_line_that_says_what_to_do(repository, monkeypatch):
    def of_another(*_, **__):
        raise GitError(f"repository path '{repository}' is not owned by current user")

    monkeypatch.setattr("dvc.api.DVCFileSystem", of_another)
    assert compare(repository, "first", by=refused) == (
        f"Error: repository path '{repository}' is not owned by current user; "
        f"git config --global --add safe.directory {repository}")


def test_a_project_in_a_folder_of_a_larger_repository(tmp_path):
    git(tmp_path, "init", "-q")
    folder = tmp_path / "papers" / "this one"
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--subdir"], cwd=folder, check=True)
    write(folder, FALL, 0.4, "one.dir", replicates=3)
    commit(tmp_path)
    said = compare(folder, "HEAD")
    assert "Nothing changed" in said
    write(folder, FALL[:2] + FALL[1:3], 0.4, "two.dir", replicates=3)
    said = compare(folder, "HEAD")
    phi = dispersion(
        [*counts_of(table_of_replicates(FALL, 3)), *counts_of(table_of_replicates(FALL[:2] + FALL[1:3], 3))]
    )
    assert (
        f"replicates differ {phi.value:.3g} times as much as samples, {phi.degrees} degrees of freedom" in said
    )
