"""Models on disk: averaged weights as safetensors, and everything needed to rebuild the network in the header."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from attractors.arrays import read_arrays, write_arrays
from attractors.denoisers import code, networks
from attractors.denoisers.diffusion import Diffusion, linear_betas
from attractors.randomness import INITIALISATION, integer
from attractors.settings.network import diffusion_settings, network_settings


def new_model(
    network: Mapping[str, Any], diffusion: Mapping[str, Any], image_shape: tuple[int, ...], seed: int,
    memories: torch.Tensor,
) -> Diffusion:
    """Return an untrained Diffusion.

    network and diffusion are sections of the sweep's file; image_shape is (C, H, W).
    memories: [K, C, H, W] are the training images, which the closed forms keep as weights.
    Raises ValueError for an unknown or invalid setting.
    """
    described, process = network_settings(network), diffusion_settings(diffusion)
    betas = linear_betas(process.steps, process.beta_min, process.beta_max)
    alpha_bar = torch.cumprod(1 - betas, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer(seed, INITIALISATION))
        return Diffusion(networks.build(described, image_shape, alpha_bar, memories), betas, process.prediction)


def write_model(path: str | Path, weights: dict[str, torch.Tensor], **record: Any) -> None:
    """Write a state dict with its record: network, diffusion, image_shape, size, seed, step, subset_sha256, train."""
    write_arrays(path, {name: value.cpu().numpy() for name, value in weights.items()}, **record)


def read_model(path: str | Path, device: torch.device | str = "cpu") -> tuple[Diffusion, dict[str, Any]]:
    """Return (the model on `device`, ready to evaluate, its record).

    Raises ValueError naming the file where it is not a model of this repository.
    """
    weights, record = read_arrays(path)
    try:
        shape, size, seed = tuple(record["image_shape"]), record["size"], record["seed"]
        numbers = [*shape, size, seed]
        if len(shape) != 3 or not all(type(n) is int and 0 <= n < 2**63 for n in numbers) or 0 in numbers[:4]:
            raise ValueError("image_shape, size and seed must be whole numbers")
        if isinstance(record["network"], dict) and record["network"].get("name") == "code":
            model = code.again(record)
            model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
            return model.to(device), record
        with torch.device("meta"):  # of no size, in case the record claims more than the file holds
            claimed = new_model(record["network"], record["diffusion"], shape, seed, torch.zeros(size, *shape))
        memories = torch.zeros(size if "network.memories" in weights else 0, *shape)  # other networks take none
        if other := {name: tuple(value.shape) for name, value in claimed.state_dict().items()}.items() ^ {
            (name, value.shape) for name, value in weights.items()
        }:
            raise ValueError("weights other than its record claims: {} of shape {}".format(*min(other)))
        model = new_model(record["network"], record["diffusion"], shape, seed, memories)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not a model of this repository ({' '.join(str(error).split())[:200]})") from None
    return model.to(device).eval().requires_grad_(False), record
