"""Every yardstick of one run: of its samples, of its training set, and of its model."""

import math

import numpy as np
import torch

from attractors.denoisers.controls import ExactNoise
from attractors.denoisers.diffusion import Diffusion, forward_process, noise_level
from attractors.denoisers.networks import LinearNoise
from attractors.denoisers.samplers import sample_noise
from attractors.distances.neighbours import nearest
from attractors.distances.twins import TWINS, in_words, one_each, originals
from attractors.landscape.summaries import spectral_gap
from attractors.settings.yardsticks import Yardsticks
from attractors.yardsticks.adaptive import adaptive_distance
from attractors.yardsticks.denoising import denoising_errors, level_times
from attractors.yardsticks.dimension import flipd
from attractors.yardsticks.fit import Constant, departures, path_states
from attractors.yardsticks.geometry import score_geometry
from attractors.yardsticks.ratio import distance_ratio
from attractors.yardsticks.times import collapse_time, largest_variance, posterior, speciation_time

Arrays = dict[str, np.ndarray]
STRIDE = 10  # steps between the times at which the posterior is evaluated


def of_samples(s: np.ndarray, s_prime: np.ndarray, settings: Yardsticks, device: torch.device) -> tuple[Arrays, str]:
    """Return (the ratio of distances and the adaptive distance of every sample, words on twins in S or none)."""
    flat, queries = s.reshape(len(s), -1), s_prime.reshape(len(s_prime), -1)
    count = max(settings.nearest, 2)
    first = originals(*(part.cpu().numpy() for part in nearest(flat, flat, TWINS + 1, True, device=device)))
    columns = count * int(np.bincount(first).max())
    distances, indices = (part.cpu().numpy() for part in nearest(queries, flat, columns, device=device))
    if columns > count:
        distances = one_each(distances, indices, first, count)
    adaptive = adaptive_distance(distances, settings.nearest, settings.factor)
    arrays = {"ratio": distance_ratio(distances).astype(np.float32), "adaptive": adaptive.astype(np.float32)}
    return arrays, in_words(first) if columns > count else ""


def of_data(s: np.ndarray, noise: np.ndarray, alpha_bar: np.ndarray) -> tuple[Arrays, dict[str, float]]:
    """Return the exact posterior along the diffusion, and the times of speciation and collapse (Biroli et al.).

    s: [K, ...], noise: [n, ...] of its first n images.
    """
    flat, z = (part.reshape(len(part), -1).astype(np.float64) for part in (s, noise))
    chosen = flat[: len(z)]
    products, norms = chosen @ flat.T, np.square(flat).sum(1)
    squares = np.maximum(norms[: len(z), None] + norms - 2 * products, 0)
    projections = (z * chosen).sum(1, keepdims=True) - z @ flat.T
    times = np.arange(0, len(alpha_bar), STRIDE)
    entropy, odds = posterior(squares, projections, np.arange(len(z)), alpha_bar[times])
    arrays = {"posterior_times": times, "posterior_entropy": entropy.mean(1), "log_odds": odds.mean(1)}
    last = len(alpha_bar) - 1
    return arrays, {
        "collapse_time": min(STRIDE * collapse_time(odds), last),
        "speciation_time": speciation_time(largest_variance(s), alpha_bar),
    }


def of_model(
    model: Diffusion, sets: dict[str, torch.Tensor], noise: dict[str, torch.Tensor], memories: torch.Tensor,
    seed: int, settings: Yardsticks,
) -> Arrays:
    """Return denoising errors, local dimensions and departures from the exact denoiser.

    sets: images by name, `samples`, `training` and, where there are any, `held_out`; noise: of the last two.
    """
    shape, batch, alpha_bar = tuple(memories.shape[1:]), settings.batch, model.alpha_bar
    times = level_times(alpha_bar, settings.levels)
    exact = Diffusion(ExactNoise(shape, alpha_bar, memories), model.betas).to(memories.device)
    linear = Diffusion(LinearNoise(shape, alpha_bar, memories), model.betas).to(memories.device)
    arrays: Arrays = {"times": np.array(times), "noise_levels": noise_level(alpha_bar[times]).cpu().numpy()}
    for name, z in noise.items():
        for label, denoiser in (("model", model), ("exact", exact), ("linear", linear)):
            arrays[f"{label}_{name}_error"] = denoising_errors(denoiser, sets[name], z, times, batch)
    for name, images in sets.items():
        geometry = score_geometry(model, images, settings.t0, seed, settings.probes, settings.full, batch)
        sigma = float(model.sigma(settings.t0))
        arrays[f"{name}_flipd"] = flipd(geometry["trace"], geometry["squared_norm"], sigma, math.prod(shape))
        if "singular_values" in geometry:
            arrays[f"{name}_gap_dimension"] = spectral_gap(geometry["singular_values"])[0]
    drawn = sample_noise(seed, range(len(sets["samples"])), shape, model.steps, memories.device)
    states = {
        "path": path_states(model, drawn, times),
        "training": [forward_process(sets["training"], noise["training"], t, alpha_bar) for t in times],
    }
    mean = Constant(memories.mean(0))
    for name, where in states.items():
        arrays[f"{name}_departure"] = departures(model, exact, where, times, batch)
        arrays[f"{name}_spread"] = departures(mean, exact, where, times, batch)
    return {key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in arrays.items()}
