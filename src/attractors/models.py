"""Models on disk: averaged weights as safetensors, everything needed to rebuild the network in the header."""

import torch

from attractors import networks
from attractors.diffusion import Diffusion, linear_betas
from attractors.randomness import INITIALISATION, integer
from attractors.records import read_arrays, write_arrays


def new_model(network, diffusion, image_shape, seed, memories):
    """An untrained Diffusion. network, diffusion: the sweep's sections; image_shape: (C, H, W).

    memories: [K, C, H, W], used by the exact denoiser, whose weights they are.
    """
    diffusion = dict(diffusion)
    prediction = diffusion.pop("prediction", "noise")
    try:
        betas = linear_betas(**diffusion)
    except TypeError as error:
        raise ValueError(f"diffusion: {str(error).split('() ')[-1]}") from None
    alpha_bar = torch.cumprod(1 - betas, 0)
    extra = {"memories": memories} if network.get("name") == "exact" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer(seed, INITIALISATION))
        return Diffusion(
            networks.build(image_shape=image_shape, alpha_bar=alpha_bar, **network, **extra), betas, prediction
        )


def write_model(path, weights, **record):
    """Write a state dict with its record: network, diffusion, image_shape, size, seed, step, subset_sha256, train."""
    write_arrays(path, {name: value.cpu().numpy() for name, value in weights.items()}, **record)


def read_model(path, device="cpu"):
    """(the model on `device`, ready to evaluate, its record). Raises ValueError naming a file that is no model."""
    weights, record = read_arrays(path)
    try:
        shape = tuple(record["image_shape"])
        memories = torch.zeros(record["size"], *shape)
        model = new_model(record["network"], record["diffusion"], shape, record["seed"], memories)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path}: not a model of this repository ({str(error).splitlines()[0]})") from None
    return model.to(device).eval().requires_grad_(False), record
