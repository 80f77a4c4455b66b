"""Local intrinsic dimension: of a model by FLIPD (Kamkari et al. 2024; Ross et al. 2024), of data by its neighbours.

A memorized image is a point of dimension 0 in the model's density, although its neighbourhood in the data is wide.
The gap in the spectrum of the score's Jacobian (Ventura et al. 2024) is `landscape.summaries.spectral_gap`.
"""

import numpy as np

NEIGHBOURS = 20  # of the estimate for data; Levina and Bickel average over 10 to 20


def flipd(trace: np.ndarray, squared_norm: np.ndarray, sigma: float, dimensions: int) -> np.ndarray:
    """Return FLIPD = N + sigma_t^2 (tr grad s + |s|^2) at sqrt(alpha_bar_t) x (Kamkari et al. 2024): [n].

    trace: [n] is the trace of the Jacobian of the score s, squared_norm: [n] is |s|^2, both in units of x_t, and sigma
    is sigma_t. FLIPD is N plus the slope of log p against ln sigma as the noise vanishes. It equals d on a flat
    manifold of d dimensions that is wide compared with sigma_t, and 0 at an isolated memory. Estimates may lie outside
    [0, N].
    """
    return dimensions + sigma**2 * (np.asarray(trace, np.float64) + np.asarray(squared_norm, np.float64))


def neighbour_dimension(distances: np.ndarray) -> float:
    """Return the maximum likelihood estimate of the dimension of data (Levina and Bickel 2004) over all n points.

    distances: [n, k] > 0 are those to the k >= 2 nearest other points, ascending. The estimate is the inverse of the
    mean of ln(T_k / T_j) over j < k and over the points; averaging over the points before inverting follows MacKay and
    Ghahramani (2005). Points with a neighbour that is a copy, or missing, are left out. The result is nan where no
    point is left.
    """
    distances = np.asarray(distances, np.float64)
    kept = distances[(distances > 0).all(1) & np.isfinite(distances).all(1)]
    if not len(kept) or kept.shape[1] < 2:
        return float("nan")
    logs = np.log(kept[:, -1:] / kept[:, :-1]).mean()
    return float(1 / logs) if logs > 0 else float("nan")
