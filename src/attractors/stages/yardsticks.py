"""Other definitions of memorization on one run: its samples, its model and its training set."""

import math
from typing import Any

import click
import numpy as np
import torch

from attractors.arrays import array_hash, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.images import range_option
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.data.images import brought_together, open_images
from attractors.denoisers.diffusion import Diffusion, forward_process, noise_level
from attractors.denoisers.models import read_model
from attractors.denoisers.networks import ExactNoise, LinearNoise
from attractors.denoisers.samplers import sample_noise
from attractors.distances.neighbours import nearest
from attractors.distances.twins import TWINS, in_words, one_each, originals
from attractors.files import file_hash
from attractors.landscape.patterns import check_time
from attractors.landscape.summaries import spectral_gap
from attractors.randomness import YARDSTICKS, generator
from attractors.settings.yardsticks import Yardsticks
from attractors.yardsticks.adaptive import adaptive_distance
from attractors.yardsticks.denoising import denoising_errors, level_times
from attractors.yardsticks.dimension import NEIGHBOURS, flipd, neighbour_dimension
from attractors.yardsticks.fit import Constant, departures, path_states
from attractors.yardsticks.geometry import score_geometry
from attractors.yardsticks.ratio import distance_ratio, is_memorized
from attractors.yardsticks.times import collapse_time, largest_variance, posterior, speciation_time

Arrays = dict[str, np.ndarray]
STRIDE = 10  # steps between the times at which the posterior is evaluated


def of_samples(s: np.ndarray, s_prime: np.ndarray, settings: Yardsticks, device: torch.device) -> Arrays:
    """Return the ratio of distances and the adaptive distance of every sample."""
    flat, queries = s.reshape(len(s), -1), s_prime.reshape(len(s_prime), -1)
    count = max(settings.nearest, 2)
    first = originals(*(part.cpu().numpy() for part in nearest(flat, flat, TWINS + 1, True, device=device)))
    columns = count * int(np.bincount(first).max())
    distances, indices = (part.cpu().numpy() for part in nearest(queries, flat, columns, device=device))
    if columns > count:
        distances = one_each(distances, indices, first, count)
        click.echo(f"S: {in_words(first)}")
    adaptive = adaptive_distance(distances, settings.nearest, settings.factor)
    return {"ratio": distance_ratio(distances).astype(np.float32), "adaptive": adaptive.astype(np.float32)}


def of_data(s: np.ndarray, noise: np.ndarray, alpha_bar: np.ndarray) -> tuple[Arrays, dict[str, float]]:
    """Return the exact posterior along the diffusion, and the times of speciation and collapse (Biroli et al.).

    s: [K, ...], noise: [n, ...] of its first n images.
    """
    flat, z = (part.reshape(len(part), -1).astype(np.float64) for part in (s, noise))
    own = flat[: len(z)]
    products, norms = own @ flat.T, np.square(flat).sum(1)
    squares = np.maximum(norms[: len(z), None] + norms - 2 * products, 0)
    projections = (z * own).sum(1, keepdims=True) - z @ flat.T
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
        told = score_geometry(model, images, settings.t0, seed, settings.probes, settings.full, batch)
        sigma = float(model.sigma(settings.t0))
        arrays[f"{name}_flipd"] = flipd(told["trace"], told["squared_norm"], sigma, math.prod(shape))
        if "singular_values" in told:
            arrays[f"{name}_gap_dimension"] = spectral_gap(told["singular_values"])[0]
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


@stage("yardsticks", sweep=True, settings=Yardsticks)
@click.option("--synthetic", type=click.Path(), required=True, help="S': a synthetic set.")
@click.option("--training", type=click.Path(), required=True, help="S, or images in subset order.")
@range_option
@click.option("--size", type=click.IntRange(2), help="K: S is the first K of TRAINING.  [default: all]")
@click.option("--model", type=click.Path(dir_okay=False), help="The model; without one, distances alone.")
@seed_of_replicate
@device_option
@out_option
def main(
    sweep: dict | None, synthetic: str, training: str, values: str | None, size: int | None, model: str | None,
    seed: int, device: Any, out: str, settings: Yardsticks,
) -> None:
    """Measure by other definitions how much the samples SYNTHETIC and their MODEL memorize of the images TRAINING.

    For every sample: the ratio d1 / d2 and the adaptive distance. For the model: denoising errors at images of S and at
    later images of TRAINING, local dimensions, and departures from the exact denoiser. For S: the exact posterior.
    """
    device = find_device(device)
    sets = open_images(training, values=values), open_images(synthetic, values=values)
    whole, s_prime = (images.array for images in brought_together(*sets, (training, synthetic), values is not None))
    size = len(whole) if size is None else size
    if not 2 <= size <= len(whole):
        raise ValueError(f"{training}: holds {len(whole)} images; --size is {size}, and at least 2 are needed")
    s, others = whole[:size], whole[size : size + settings.images]
    record: dict[str, Any] = {"size": size, "count": len(s_prime), "seed": seed, "settings": settings.model_dump()}
    record |= {"training_sha256": array_hash(s), "synthetic_sha256": array_hash(s_prime)}
    if model:
        denoiser, trained = read_model(model, device)
        if tuple(trained["image_shape"]) != s.shape[1:] or trained["size"] != size:
            known = f"{trained['size']} images of shape {tuple(trained['image_shape'])}"
            raise ValueError(f"{model}: trained on {known}; S has {size} of shape {s.shape[1:]}")
        check_time(settings.t0, denoiser, model)
    arrays = of_samples(s, s_prime, settings, device)
    words = [f"{is_memorized(arrays['ratio']).mean():.3f} memorized by the ratio d1 / d2 < 1/3",
             f"{(arrays['adaptive'] < 1).mean():.3f} copies by the adaptive distance"]
    if model:
        chosen = {"training": s[: settings.images]} | ({"held_out": others} if len(others) else {})
        first = {"training": 0, "held_out": size}
        noise = {
            name: np.stack([
                generator(seed, YARDSTICKS, first[name] + i).standard_normal(s.shape[1:], np.float32)
                for i in range(len(images))
            ])
            for name, images in chosen.items()
        }
        posterior_arrays, found = of_data(s, noise["training"], denoiser.alpha_bar.cpu().numpy())
        on_device = {name: torch.from_numpy(z).to(device) for name, z in noise.items()}
        chosen = {"samples": s_prime[: settings.samples], **chosen}
        images = {name: torch.from_numpy(np.ascontiguousarray(part)).to(device) for name, part in chosen.items()}
        memories = torch.from_numpy(np.ascontiguousarray(s)).to(device)
        arrays |= posterior_arrays | of_model(denoiser, images, on_device, memories, seed, settings)
        flat = whole.reshape(len(whole), -1)
        around = nearest(flat[: settings.images], flat, NEIGHBOURS + 1, device=device)[0][:, 1:].cpu().numpy()
        record |= found | {"data_dimension": neighbour_dimension(around), "model_sha256": file_hash(model)}
        record |= {"dimensions": math.prod(s.shape[1:])}
        words.append(f"dimension {arrays['samples_flipd'].mean():.1f} (FLIPD) at samples, "
                     f"{record['data_dimension']:.1f} of the data")
    write_arrays(out, arrays, **record)
    click.echo(f"{out}: {len(s_prime):,} samples, K = {size}: {'; '.join(words)}")


if __name__ == "__main__":
    main()
