"""How the transition moves with the number of parameters: exponents against a fit point by point."""

import numpy as np
import pandas as pd
import pytest

from attractors.distances.detection import TYPES
from attractors.results.widths import exponents, widths_table

SIZES = np.array([8, 16, 32, 64, 128, 256, 512])


def test_exponents_are_those_of_polyfit_and_leave_out_what_is_missing():
    parameters, random = np.array([1e3, 1e4, 2e5]), np.random.default_rng(0)
    sizes = np.exp(random.normal(4, 1, (20, 3)))
    expected = [np.polyfit(np.log(parameters), np.log(row), 1)[0] for row in sizes]
    np.testing.assert_allclose(exponents(parameters, sizes), expected)
    sizes[0, 1] = np.nan
    assert exponents(parameters, sizes)[0] == pytest.approx(np.log(sizes[0, 2] / sizes[0, 0]) / np.log(200))
    assert np.isnan(exponents(parameters, np.array([[np.nan, 5.0, np.nan]]))).all()


def replicates(half, random, count=1000, models=3):
    """Fractions of sweeps whose memorized share falls to one half at K = `half`, alike up to the noise of samples."""
    rows = []
    for size in SIZES:
        memorized = 1 / (1 + (size / half) ** 3)
        spurious = memorized * (1 - memorized)
        for number in range(models):
            drawn = random.multinomial(count, [memorized, spurious, 1 - memorized - spurious]) / count
            rows.append({"K": size, "replicate": number, "count": count, **dict(zip(TYPES, drawn, strict=True))})
    return pd.DataFrame(rows)


def test_a_transition_at_the_square_root_of_the_parameters_has_exponent_one_half():
    parameters = {"c": 160_000, "a": 10_000, "b": 40_000}
    random = np.random.default_rng(1)
    single = {name: replicates(0.3 * np.sqrt(number), random) for name, number in parameters.items()}
    table, found = widths_table(parameters, single, np.random.default_rng(2))
    assert table.sweep.tolist() == ["a", "b", "c"]
    assert found["half_memorized_exponent"] == pytest.approx(0.5, abs=0.02)
    assert found["half_memorized_exponent_low"] < 0.5 < found["half_memorized_exponent_high"]
    np.testing.assert_allclose(table.half_memorized_K, [30, 60, 120], rtol=0.05)
    assert (table.half_memorized_K_low < table.half_memorized_K).all()


def test_a_peak_at_the_end_of_the_range_is_none():
    single = {"a": replicates(2, np.random.default_rng(5)), "b": replicates(60, np.random.default_rng(6))}
    table, found = widths_table({"a": 10, "b": 20}, single, np.random.default_rng(7))
    assert np.isnan(table.spurious_peak_K[0])
    assert table.spurious_peak_K[1] == 64
    assert found["spurious_peak_exponent"] is None


def test_without_a_crossing_there_is_no_exponent():
    single = {name: replicates(1e6, np.random.default_rng(3)) for name in ("a", "b")}
    _, found = widths_table({"a": 10, "b": 20}, single, np.random.default_rng(4))
    assert found["half_memorized_exponent"] is None
