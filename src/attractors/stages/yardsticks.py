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
from attractors.denoisers.models import read_model
from attractors.distances.neighbours import nearest
from attractors.files import file_hash
from attractors.landscape.patterns import check_time
from attractors.randomness import YARDSTICKS, generator
from attractors.settings.yardsticks import Yardsticks
from attractors.yardsticks.dimension import NEIGHBOURS, neighbour_dimension
from attractors.yardsticks.measuring import of_data, of_model, of_samples
from attractors.yardsticks.ratio import is_memorized


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
    arrays, twins = of_samples(s, s_prime, settings, device)
    if twins:
        click.echo(f"S: {twins}")
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
        posterior_arrays, posterior_record = of_data(s, noise["training"], denoiser.alpha_bar.cpu().numpy())
        on_device = {name: torch.from_numpy(z).to(device) for name, z in noise.items()}
        chosen = {"samples": s_prime[: settings.samples], **chosen}
        images = {name: torch.from_numpy(np.ascontiguousarray(part)).to(device) for name, part in chosen.items()}
        memories = torch.from_numpy(np.ascontiguousarray(s)).to(device)
        arrays |= posterior_arrays | of_model(denoiser, images, on_device, memories, seed, settings)
        flat = whole.reshape(len(whole), -1)
        around = nearest(flat[: settings.images], flat, NEIGHBOURS + 1, device=device)[0][:, 1:].cpu().numpy()
        record |= posterior_record | {"data_dimension": neighbour_dimension(around), "model_sha256": file_hash(model)}
        record |= {"dimensions": math.prod(s.shape[1:])}
        words.append(f"dimension {arrays['samples_flipd'].mean():.1f} (FLIPD) at samples, "
                     f"{record['data_dimension']:.1f} of the data")
    write_arrays(out, arrays, **record)
    click.echo(f"{out}: {len(s_prime):,} samples, K = {size}: {'; '.join(words)}")
