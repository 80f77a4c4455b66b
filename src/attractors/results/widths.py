"""How the transition moves with the number of parameters of the network (Figs. 7 and 8)."""

from typing import Any

import numpy as np
import pandas as pd

from attractors.results.replicates import (
    RESAMPLES,
    counts_of,
    dispersion,
    dispersions,
    drawn,
    interval,
    peak_interval,
    quantities,
)

MOVING = ("spurious_peak_K", "half_memorized_K")


def exponents(parameters: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the least-squares slopes of ln K against ln parameters: [n]; nan where fewer than two K are finite.

    parameters: [m] of networks. sizes: [n, m] K at which something happens, for n draws.
    """
    known = np.isfinite(sizes)
    x = np.where(known, np.log(parameters), 0.0)
    y = np.where(known, np.log(np.where(known, sizes, 1.0)), 0.0)
    count = known.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = x.sum(1) / count, y.sum(1) / count
        centred = np.where(known, x - mean_x[:, None], 0.0)
        slopes = (centred * (y - mean_y[:, None])).sum(1) / (centred**2).sum(1)
    return np.where(count >= 2, slopes, np.nan)


def widths_table(
    parameters: dict[str, int], single: dict[str, pd.DataFrame], random: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return (the K of the peak and of the half of each sweep with 95% intervals, the exponents with theirs).

    parameters: of the network of each sweep. single: its fractions with one row for each K and replicate. The
    dispersion of replicates is moderated by that of all sweeps together. A peak at an end of a sweep's range is none.
    An exponent a means that K grows as parameters^a.
    """
    names = sorted(parameters, key=parameters.__getitem__)
    counts = {name: counts_of(single[name]) for name in names}
    phi = dispersion([part for name in names for part in counts[name]])
    rows: list[dict[str, Any]] = []
    centre: dict[str, list[float]] = {key: [] for key in MOVING}
    draws: dict[str, list[np.ndarray]] = {key: [] for key in MOVING}
    for name in names:
        sizes = np.unique(single[name].K)
        shares = np.stack([part.sum(0) / part.sum() for part in counts[name]])[None]
        measured = quantities(sizes, shares)
        others = quantities(sizes, drawn(counts[name], dispersions(counts[name], phi), RESAMPLES, random))
        for side in (measured, others):  # at an end of the range there is no peak to be seen, only a slope
            peaks = side["spurious_peak_K"]
            side["spurious_peak_K"] = np.where((sizes[0] < peaks) & (peaks < sizes[-1]), peaks, np.nan)
        row: dict[str, Any] = {"sweep": name, "parameters": parameters[name]}
        for key in ("spurious_peak", *MOVING):
            row[key] = measured[key][0]
            ends = peak_interval(row[key], others[key]) if key == "spurious_peak" else interval(others[key])
            row[f"{key}_low"], row[f"{key}_high"] = ends
        rows.append(row)
        for key in MOVING:
            centre[key].append(float(measured[key][0]))
            draws[key].append(others[key])
    numbers = np.array([parameters[name] for name in names], float)
    summary: dict[str, Any] = {"dispersion": round(phi.value, 2), "dispersion_degrees": phi.degrees}
    for key in MOVING:
        value = exponents(numbers, np.array(centre[key])[None])[0]
        low, high = interval(exponents(numbers, np.stack(draws[key], 1)))
        for suffix, number in (("", value), ("_low", low), ("_high", high)):
            summary[f"{key.removesuffix('_K')}_exponent{suffix}"] = (
                round(float(number), 3) if np.isfinite(number) else None
            )
    return pd.DataFrame(rows), summary


def exponent_in_words(exponents: dict, name: str) -> str:
    """Return an exponent with its interval, or that there is none."""
    values = [exponents[f"{name}_exponent{end}"] for end in ("", "_low", "_high")]
    return "no exponent" if None in values else "exponent {:g} ({:g} to {:g})".format(*values)
