"""Compare the toy model's landscape with its exact answer (Fig. 2): energy, score, minima and samples."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import AgglomerativeClustering

from attractors.theory import associative_memory
from attractors.theory.associative_memory import (
    attractors,
    circle_radius,
    exact_attractors,
    inverse_temperature,
    log_density,
    ripple,
)
from attractors.theory.likelihood import Field, exact_divergence, flow, prior_log_density
from attractors.theory.toy import ScoreNetwork, on_circle, score_jacobian


def grid(extent: float, side: int) -> np.ndarray:
    """Return the points of a side x side grid over [-extent, extent]^2: [side^2, 2].

    The first coordinate varies fastest.
    """
    axis = np.linspace(-extent, extent, side)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def empirical_field(memories: np.ndarray, sigma: float = 1.0) -> Field:
    """Return the field (x, t) -> (score, divergence) of the exact empirical distribution (Eq. 4), for
    `likelihood.flow`.
    """

    def field(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        beta, points = inverse_temperature(t, sigma), x.numpy()
        divergence = -beta * np.trace(associative_memory.hessian(points, memories, beta), axis1=1, axis2=2)
        return torch.from_numpy(associative_memory.score(points, memories, beta)), torch.from_numpy(divergence)

    return field


def energies(
    field: Field, memories: np.ndarray, x: np.ndarray, t: float, sigma: float = 1.0, T: float = 1.0
) -> dict[str, np.ndarray]:
    """Return E = -2 sigma^2 t log p (Eq. 25) at x: [B, 2] by the probability-flow ODE, once for each of two priors.

    The result is {"gaussian_prior": [B], "exact_prior": [B]}: the first takes p_T to be N(0, sigma^2 T I), as the paper
    does, and the second takes it from Eq. 4. The energy in the authors' code is twice this one.
    """
    x_T, integral = flow(field, torch.from_numpy(x), t, sigma, T)
    priors = {
        "gaussian_prior": prior_log_density(x_T, sigma, T),
        "exact_prior": log_density(x_T, memories, inverse_temperature(T, sigma)),
    }
    return {name: -2 * sigma**2 * t * (log_prior + integral) for name, log_prior in priors.items()}


def energy_error(energy: np.ndarray, exact: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Return the root mean square of energy - exact under weights: [B], after aligning their means.

    Energies are known up to a constant. The result has `rms`, `relative` (rms over the standard deviation of `exact`)
    and `offset` (the difference of the means).
    """
    weights = weights / weights.sum()
    offset = weights @ (energy - exact)
    rms = np.sqrt(weights @ (energy - exact - offset) ** 2)
    return {"rms": rms, "relative": rms / np.sqrt(weights @ (exact - weights @ exact) ** 2), "offset": offset}


def score_error(score: np.ndarray, exact: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Return the root mean square of |score - exact| under weights: [B], as {"rms", "relative"}.

    `relative` is the ratio to the root mean square of |exact|. score and exact are [B, 2].
    """
    weights = weights / weights.sum()
    rms = np.sqrt(weights @ ((score - exact) ** 2).sum(1))
    return {"rms": rms, "relative": rms / np.sqrt(weights @ (exact**2).sum(1))}


def learned_derivatives(
    model: ScoreNetwork, t: float
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Return the gradient -2 sigma^2 t s_theta of the learned energy at time t and its Hessian, as numpy functions.

    They map [B, 2] to [B, 2] and [B, 2, 2]. s_theta need not be a gradient, so the Hessian is the symmetric part of its
    Jacobian.
    """
    scale = -2 * model.sigma**2 * t

    def gradient(x: np.ndarray) -> np.ndarray:
        return scale * model(torch.from_numpy(x), t).numpy()

    def hessian(x: np.ndarray) -> np.ndarray:
        J = score_jacobian(model, torch.from_numpy(x), t).numpy()
        return scale / 2 * (J + J.transpose(0, 2, 1))

    return gradient, hessian


def learned_attractors(
    model: ScoreNetwork, memories: np.ndarray, t: float, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return `associative_memory.attractors` of the learned energy at time t."""
    return attractors(memories, *learned_derivatives(model, t), model.sigma * t**0.5, start)


def cluster(samples: np.ndarray, distance: float) -> np.ndarray:
    """Cluster samples: [n, 2] by agglomerative clustering with average linkage, cut at `distance` (A.2).

    Returns a label for each sample: [n]; the largest cluster has number 0. The paper states neither the linkage nor the
    number of clusters.
    """
    labels = AgglomerativeClustering(None, linkage="average", distance_threshold=distance).fit_predict(samples)
    rank = np.argsort(np.argsort(-np.bincount(labels), kind="stable"), kind="stable")
    return rank[labels]


def share_near(x: np.ndarray, memories: np.ndarray, delta: float) -> float:
    """Return the share of the points x: [n, 2] that lie within delta of a memory."""
    return float((cdist(x, memories).min(1) < delta).mean())


def all_minima(
    model: ScoreNetwork, memories: np.ndarray, t: float, start: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the `attractors` of both energies at time t, as {"exact": ..., "learned": ...}."""
    return {
        "exact": exact_attractors(memories, inverse_temperature(t, model.sigma), start),
        "learned": learned_attractors(model, memories, t, start),
    }


def count_minima(shared: np.ndarray, K: int) -> dict[str, int | list[int]]:
    """Count the minima that `attractors` found, from shared: [M].

    The result has the number of `minima`, how many are `spurious`, how many of the K `memories` descend into each, and
    how many are `lost`, because their descent did not converge.
    """
    return {
        "minima": len(shared), "spurious": int((shared != 1).sum()), "memories": sorted(shared.tolist(), reverse=True),
        "lost": K - int(shared.sum()),
    }


def compare(
    model: ScoreNetwork, memories: np.ndarray, samples: np.ndarray, x: np.ndarray, t: float, times: Sequence[float],
    cluster_distance: float, delta: float,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Compute all that Fig. 2 shows of a toy model and of its exact answer at time t: (metrics, arrays).

    model is a float64 `toy.ScoreNetwork`; memories: [K, 2]; samples: [n, 2]; x: [B, 2] is the grid. The energies in
    `arrays` are raw; Fig. 2 subtracts their minima. The errors in `metrics` align the means (see `energy_error`) and
    weight the grid's points alike (`grid`) or by the exact p(x, t) (`density`). Minima are counted at t and at each of
    `times`.
    """
    sigma, beta, ring = model.sigma, inverse_temperature(t, model.sigma), on_circle(np.linspace(0, 2 * np.pi, 721))
    labels = cluster(samples, cluster_distance)
    places = {
        "grid": x, "centroid": np.stack([samples[labels == c].mean(0) for c in range(labels.max() + 1)]),
        "valley": circle_radius(beta) * ring,
    }
    energy = {name: energies(exact_divergence(model), memories, at, t, sigma) for name, at in places.items()}
    of_exact_score = energies(empirical_field(memories, sigma), memories, x, t, sigma)
    exact = {name: -log_density(at, memories, beta) / beta for name, at in places.items()}
    score, exact_score = model(torch.from_numpy(x), t).numpy(), associative_memory.score(x, memories, beta)

    errors = {
        weighting: {
            "score": score_error(score, exact_score, weights),
            **{f"energy_{prior}": energy_error(e, exact["grid"], weights) for prior, e in energy["grid"].items()},
            "gaussian_prior_alone": energy_error(of_exact_score["gaussian_prior"], exact["grid"], weights),
        }
        for weighting, weights in {"grid": np.ones(len(x)), "density": np.exp(-beta * exact["grid"])}.items()
    }
    radius = np.linalg.norm(samples, axis=1)
    minima = {s: all_minima(model, memories, s, x) for s in sorted({t, *times})}
    metrics = {
        "K": len(memories),
        "t": t,
        "beta": beta,
        "error": errors,
        "solver_error": float(np.abs(of_exact_score["exact_prior"] - exact["grid"]).max()),
        "minima": [
            {"t": s, **{name: count_minima(shared, len(memories)) for name, (_, shared) in minima[s].items()}}
            for s in minima
        ],
        "ripple": {
            "exact": ripple(exact["valley"], beta),
            **{prior: ripple(e, beta) for prior, e in energy["valley"].items()},
        },
        "samples": {
            "near_a_training_point": share_near(samples, memories, delta),
            "near_by_chance": share_near(ring, memories, delta), "radius": radius.mean(),
            "radius_deviation": radius.std(), "clusters": len(places["centroid"]),
        },
    }
    arrays = {
        "memories": memories,
        "samples": samples,
        "labels": labels,
        "centroids": places["centroid"],
        **{f"{name}_minima": points for name, (points, _) in minima[t].items()},
        **{f"{name}_minima_memories": shared for name, (_, shared) in minima[t].items()},
        "x": x,
        "score": score,
        "exact_score": exact_score,
        "exact_energy": exact["grid"],
        **{f"energy_{prior}": e for prior, e in energy["grid"].items()},
        **{f"centroid_energy_{prior}": e for prior, e in energy["centroid"].items()},
    }
    return metrics, arrays
