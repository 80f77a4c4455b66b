"""The toy model's landscape against its exact answer (Fig. 2): energy, score, minima and samples."""

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
from attractors.theory.likelihood import exact_divergence, flow, prior_log_density
from attractors.theory.toy import on_circle, score_jacobian


def grid(extent, side):
    """A side x side grid over [-extent, extent]^2: [side^2, 2], the first coordinate fastest."""
    axis = np.linspace(-extent, extent, side)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def empirical_field(memories, sigma=1.0):
    """The exact score of the empirical distribution (Eq. 4) and its divergence, for `likelihood.flow`."""

    def field(x, t):
        beta, x = inverse_temperature(t, sigma), x.numpy()
        divergence = -beta * np.trace(associative_memory.hessian(x, memories, beta), axis1=1, axis2=2)
        return torch.from_numpy(associative_memory.score(x, memories, beta)), torch.from_numpy(divergence)

    return field


def energies(field, memories, x, t, sigma=1.0, T=1.0):
    """E = -2 sigma^2 t log p (Eq. 25) at x: [B, 2] by the probability-flow ODE, with each of two priors.

    Returns {"gaussian_prior": [B], "exact_prior": [B]}: p_T taken as N(0, sigma^2 T I), as in the paper, and as
    Eq. 4 says it is. The authors' code doubles this energy.
    """
    x_T, integral = flow(field, torch.from_numpy(x), t, sigma, T)
    priors = {
        "gaussian_prior": prior_log_density(x_T, sigma, T),
        "exact_prior": log_density(x_T, memories, inverse_temperature(T, sigma)),
    }
    return {name: -2 * sigma**2 * t * (log_prior + integral) for name, log_prior in priors.items()}


def energy_error(energy, exact, weights):
    """Root mean square of energy - exact under weights: [B], both up to a constant: their means are aligned.

    Also relative to the standard deviation of `exact`, and the difference of the means.
    """
    weights = weights / weights.sum()
    offset = weights @ (energy - exact)
    rms = np.sqrt(weights @ (energy - exact - offset) ** 2)
    return {"rms": rms, "relative": rms / np.sqrt(weights @ (exact - weights @ exact) ** 2), "offset": offset}


def score_error(score, exact, weights):
    """Root mean square of |score - exact| under weights: [B], also relative to that of |exact|."""
    weights = weights / weights.sum()
    rms = np.sqrt(weights @ ((score - exact) ** 2).sum(1))
    return {"rms": rms, "relative": rms / np.sqrt(weights @ (exact**2).sum(1))}


def learned_derivatives(model, t):
    """The gradient -2 sigma^2 t s_theta of the learned energy at time t and its Hessian, as numpy functions.

    s_theta need not be a gradient; the Hessian is the symmetric part of its Jacobian.
    """
    scale = -2 * model.sigma**2 * t

    def gradient(x):
        return scale * model(torch.from_numpy(x), t).numpy()

    def hessian(x):
        J = score_jacobian(model, torch.from_numpy(x), t).numpy()
        return scale / 2 * (J + J.transpose(0, 2, 1))

    return gradient, hessian


def learned_attractors(model, memories, t, start):
    """`associative_memory.attractors` of the learned energy at time t."""
    return attractors(memories, *learned_derivatives(model, t), model.sigma * t**0.5, start)


def cluster(samples, distance):
    """Agglomerative clustering (A.2) by average linkage, cut at `distance`: a label for each of samples: [n].

    The paper does not give linkage or number of clusters. The largest cluster is number 0.
    """
    labels = AgglomerativeClustering(None, linkage="average", distance_threshold=distance).fit_predict(samples)
    rank = np.argsort(np.argsort(-np.bincount(labels), kind="stable"), kind="stable")
    return rank[labels]


def share_near(x, memories, delta):
    """The share of x: [n, 2] within delta of a memory."""
    return float((cdist(x, memories).min(1) < delta).mean())


def all_minima(model, memories, t, start):
    """`attractors` of the exact and of the learned energy at time t, by these names."""
    return {
        "exact": exact_attractors(memories, inverse_temperature(t, model.sigma), start),
        "learned": learned_attractors(model, memories, t, start),
    }


def count_minima(shared, K):
    """How many minima; how many spurious; how many of the K memories descend into each, and how many (`lost`)
    into none, for lack of convergence. shared: [M], of `attractors`."""
    return {
        "minima": len(shared),
        "spurious": int((shared != 1).sum()),
        "memories": sorted(shared.tolist(), reverse=True),
        "lost": K - int(shared.sum()),
    }


def compare(model, memories, samples, x, t, times, cluster_distance, delta):
    """All that Fig. 2 shows of a toy model and its exact answer at time t: (metrics, arrays).

    model: a float64 `toy.ScoreNetwork`; memories: [K, 2]; samples: [n, 2]; x: [B, 2], the grid.
    Energies are raw: Fig. 2 subtracts their minima; errors align means (`energy_error`), with the grid's points
    weighted alike (`grid`) and by the exact p(x, t) (`density`).
    """
    sigma, beta, ring = model.sigma, inverse_temperature(t, model.sigma), on_circle(np.linspace(0, 2 * np.pi, 721))
    labels = cluster(samples, cluster_distance)
    places = {
        "grid": x,
        "centroid": np.stack([samples[labels == c].mean(0) for c in range(labels.max() + 1)]),
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
            "near_by_chance": share_near(ring, memories, delta),
            "radius": radius.mean(),
            "radius_deviation": radius.std(),
            "clusters": len(places["centroid"]),
        },
    }
    arrays = {
        "memories": memories,
        "samples": samples,
        "labels": labels,
        "centroids": places["centroid"],
        **{f"{name}_minima": found for name, (found, _) in minima[t].items()},
        **{f"{name}_minima_memories": shared for name, (_, shared) in minima[t].items()},
        "x": x,
        "score": score,
        "exact_score": exact_score,
        "exact_energy": exact["grid"],
        **{f"energy_{prior}": e for prior, e in energy["grid"].items()},
        **{f"centroid_energy_{prior}": e for prior, e in energy["centroid"].items()},
    }
    return metrics, arrays
