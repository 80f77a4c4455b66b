"""Models of other programs as models of this one: the authors' checkpoints, and diffusers' DDPM folders.

Nothing in a file is ever called: PyTorch's restricted loader admits tensors, and stand-ins for the authors' options.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from attractors.data.kinds import kind_of_file
from attractors.data.unpickling import read_torch
from attractors.denoisers import unet_diffusers
from attractors.denoisers.diffusers_folder import check_scheduler, parts_of, read_config, weight_files
from attractors.denoisers.diffusion import Diffusion
from attractors.denoisers.through_diffusers import CLASSES, DiffusersNetwork
from attractors.denoisers.unet import UNet
from attractors.settings.network import network_settings

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
OPTIONS = {"conditional": True, "resamp_with_conv": True, "nonlinearity": "swish", "scale_by_sigma": False}
FAMILY = ("GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1", "Conv_2", "NIN_0", "NIN_1", "NIN_2", "NIN_3")
BETAS = {"beta_start": "beta_min", "beta_end": "beta_max"}  # the authors' options, and ours
# What `sample` does, by diffusers' names; another choice changes samples drawn from a model, and not the model.
SAMPLING = {
    "variance_type": "fixed_small", "clip_sample": True, "clip_sample_range": 1.0, "thresholding": False,
    "timestep_spacing": "leading", "steps_offset": 0, "use_karras_sigmas": False, "set_alpha_to_one": True,
}
KINDS = {"weight": "weight", "W": "weight", "bias": "bias", "b": "bias"}


def unwrapped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict without the prefixes that DataParallel and torch.compile put before its names."""
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            return unwrapped({name.removeprefix(prefix): value for name, value in weights.items()})
    return weights


def _forward_position(name: str) -> tuple[float, ...] | None:
    """Return what sorts a layer into the forward pass, or None where its name belongs to no known family.

    The known families are score-SDE (all_modules.3.Conv_0) and ports of Ho et al. (down.0.block.1.conv1,
    up.2.attn.0.q).
    """
    if found := re.match(r"all_modules\.(\d+)\.(?:(\w+)\.)?\w+$", name):
        number, part = found.groups()
        return (int(number), FAMILY.index(part) if part in FAMILY else -1)
    if found := re.match(r"(down|up)\.(\d+)\.(block|attn|downsample|upsample)\.(?:(\d+)\.)?", name):
        way, level, kind, block = found.groups()
        place = (float("inf"),) if kind.endswith("sample") else (int(block), kind == "attn")
        return (1, int(level), *place) if way == "down" else (3, -int(level), *place)
    stages = ("temb", "conv_in", "mid", "norm_out", "conv_out")
    return next((order for stage, order in zip(stages, ((-1,), (0,), (2,), (4,), (5,)), strict=True)
                 if name.startswith(stage)), None)


def forward_order(weights: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of a state dict's layers in the order of the forward pass.

    Where no family of names is recognised, this is the order in which they are stored.
    """
    names = [name for name in weights if name.rpartition(".")[2] in KINDS]
    places = {name: _forward_position(name) for name in names}
    known = {name: place for name, place in places.items() if place is not None}
    return sorted(names, key=known.__getitem__) if len(known) == len(places) else names


def aligned(weights: dict[str, torch.Tensor], network: UNet) -> dict[str, torch.Tensor]:
    """Return a foreign state dict under the names of `network`, layer by layer in the order of the forward pass.

    weights has weight and bias (or W: [in, out] and b) of every layer, under any names; other entries are ignored.
    Raises ValueError at the first layer whose shape does not fit.
    """
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name in forward_order(weights):
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[KINDS[kind]] = weights[name].T if kind == "W" else weights[name]
    foreign, renamed = iter(layers.items()), {}
    for name, own in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == "bias":
            continue
        pieces = []
        for shape in [own.chunk(3)[0].shape] * 3 if layer.endswith("query_key_value") else [own.shape]:
            other, tensors = next(foreign, (None, {}))
            if other is None:
                raise ValueError(f"the weights end where {layer} of {tuple(shape)} should be")
            found = tensors.get("weight", torch.empty(0))
            if found.numel() != shape.numel() or found.shape[:2] != shape[:2] or len(tensors) != 2:
                raise ValueError(f"{other} of shape {tuple(found.shape)} where {layer} of {tuple(shape)} should be")
            pieces.append((found.reshape(shape), tensors["bias"]))
        renamed[name], renamed[f"{layer}.bias"] = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    if left := next(foreign, None):
        raise ValueError(f"{left[0]} has no counterpart")
    return renamed


def from_authors(path: str | Path) -> tuple[dict, dict, list[str]]:
    """Return (weights, record, what is not kept) of a checkpoint of the authors' train_unet.py: ema, args, iterations.

    Raises ValueError for another file, and for a network or a schedule other than B.4's.
    """
    content: Any = read_torch(path)
    try:
        options, train = content["args"].model, content["args"].train
        shape = (options.in_channels, options.image_size, options.image_size)
        network = {
            "width": options.dim, "multipliers": list(options.dim_mults), "blocks": options.num_res_blocks,
            "attention": list(options.attn_resolutions), "dropout": options.dropout,
        }
        record = {"size": train.train_size, "step": content["iterations"], "seed": train.global_seed}
        groups = [vars(group) for group in vars(content["args"]).values() if hasattr(group, "__dict__")]
        plain = {name: value for group in groups for name, value in group.items()
                 if isinstance(value, str | int | float | tuple | list)}
        diffusion = {"steps": train.timesteps, **{ours: getattr(train, theirs) for theirs, ours in BETAS.items()
                                                  if hasattr(train, theirs)}}
        prediction, weights = train.prediction_type, content["ema"]
        other = {name: getattr(options, name, value) for name, value in OPTIONS.items()}
        weights = {str(name): value for name, value in weights.items() if isinstance(value, torch.Tensor)}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a checkpoint of the authors' (no {error})") from None
    if prediction != "epsilon" or train.beta_schedule != "linear":
        raise ValueError(f"{path}: it predicts {prediction} with {train.beta_schedule} betas; epsilon, linear are read")
    if other != OPTIONS:
        raise ValueError(f"{path}: a network other than B.4's ({other})")
    try:
        network_settings({"name": "unet", **network})
        if not all(type(n) is int and 0 < n < 2**14 for n in shape):
            raise ValueError(f"images of shape {str(shape)[:80]}")
        with torch.device("meta"):
            own = UNet(shape, torch.empty(0), **network)
        weights = aligned(unwrapped(weights), own)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None
    described = {"network": {"name": "unet", **network}, "diffusion": diffusion, "image_shape": list(shape)}
    return weights, {**described, **record, "options": plain}, []


def _weights(unet: Path, notes: list[str]) -> dict:
    files, weights = weight_files(unet, "diffusion_pytorch_model"), {}
    for file in files:
        kind_of_file(file)  # raises for a pointer of git-lfs
        try:
            content: Any = load_file(file) if file.suffix == ".safetensors" else read_torch(file)
            weights |= content
        except (SafetensorError, OSError, TypeError) as error:
            raise ValueError(f"{file}: {error}") from None
    if not weights or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(f"{files[0]}: not the weights of a network")
    if bad := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"{files[0]}: NaN or infinity in {len(bad)} weights, first {bad[0]}")
    if files[0].name.count(".") > 1:
        notes.append(f"weights are those of {files[0].name}, the only variant there")
    if half := sorted({str(value.dtype) for value in weights.values()} - {"torch.float32"}):
        notes.append(f"weights of {', '.join(half).replace('torch.', '')} are computed with in float32")
    bare = unwrapped(weights)
    if bare.keys() != weights.keys():
        notes.append(f"the prefix of {min(weights)}, from torch.compile or DataParallel")
    return {name: value.float() for name, value in bare.items()}


def schedule_of(schedule: dict, source: object) -> tuple[dict, list[str]]:
    """Return (our section `diffusion`, what of it is not kept) of a scheduler_config.json.

    Raises ValueError for a scheduler that is not known, and for whatever makes another schedule or prediction of it.
    """
    check_scheduler(schedule, source)
    predictions = {"epsilon": "noise", "v_prediction": "velocity"}
    kind, betas = schedule.get("prediction_type", "epsilon"), schedule.get("beta_schedule", "linear")
    if kind not in predictions or betas != "linear" or schedule.get("trained_betas") is not None:
        raise ValueError(f"{source}: prediction {kind} with {betas} betas; epsilon or v_prediction, linear are read")
    notes = [
        f"{name} {schedule[name]!r} of the scheduler: sample takes {own!r}"
        for name, own in SAMPLING.items()
        if name in schedule and schedule[name] != own
    ]
    if (name := schedule.get("_class_name", "DDPMScheduler")) != "DDPMScheduler":
        notes.append(f"the sampler of {name}: sample is ancestral, as in B.4")
    return {
        "prediction": predictions[kind], "steps": schedule.get("num_train_timesteps", 1000),
        "beta_min": schedule.get("beta_start", 1e-4), "beta_max": schedule.get("beta_end", 2e-2),
    }, notes


def described(config: dict, image_size: tuple[int, int] | None, notes: list[str]) -> tuple[dict, tuple[int, ...]]:
    """Return (our section `network`, (C, H, W)) of a config.json, and add to the notes where diffusers computes it."""
    if (name := config.get("_class_name", CLASSES[0])) == CLASSES[0]:
        try:
            return unet_diffusers.settings_of(config, image_size)
        except unet_diffusers.OtherNetworkError as error:
            notes.append(f"the U-Net of B.4, for which another network stands, computed by diffusers ({error})")
    channels = config.get("in_channels", {CLASSES[0]: 3, CLASSES[1]: 4}[name])
    sides = unet_diffusers.sides_of(config.get("sample_size"), image_size)
    if type(channels) is not int or not 0 < channels < 2**14:
        raise ValueError(f"in_channels is {str(channels)[:80]}")
    return {"name": "diffusers", "config": config}, (channels, *sides)


def check_weights(weights: dict[str, torch.Tensor], settings: dict, shape: tuple[int, ...], source: object) -> None:
    """Raise ValueError where weights are not those of the network of diffusers that `settings` describe."""
    with torch.device("meta"):  # of no size, in case the settings claim more than the files hold
        claimed = DiffusersNetwork(shape, torch.empty(0), settings["config"]).state_dict()
    shapes = ({name: tuple(value.shape) for name, value in part.items()} for part in (claimed, weights))
    if other := dict.fromkeys(name for name, _ in set.symmetric_difference(*(set(part.items()) for part in shapes))):
        raise ValueError(f"{source}: weights other than its config.json claims, first {min(other)}")


def from_diffusers(folder: str | Path, image_size: tuple[int, int] | None = None) -> tuple[dict, dict, list[str]]:
    """(weights, record, what is not kept) of a folder of diffusers: a network, and a scheduler of DDPM's family.

    A UNet2DModel that is the U-Net of B.4 becomes ours; others, and a DiTTransformer2DModel, stay with diffusers.
    image_size: (H, W), for a model whose configuration names none. Raises ValueError.
    """
    folder, unet, notes = parts_of(Path(folder))
    config = read_config(unet / "config.json")
    if (name := config.get("_class_name", CLASSES[0])) not in CLASSES:
        raise ValueError(f"{unet / 'config.json'}: of a {str(name)[:80]}; {' and '.join(CLASSES)} are read")
    try:
        settings, shape = described(config, image_size, notes)
        network_settings(settings)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"{unet / 'config.json'}: not of a {name} that is read here ({error})") from None
    weights = _weights(unet, notes)
    if settings["name"] == "diffusers":
        weights = {f"model.{key}": value for key, value in weights.items()}
        check_weights(weights, settings, shape, unet)
    else:
        try:
            weights = unet_diffusers.from_diffusers(weights, settings)
        except ValueError as error:
            raise ValueError(f"{unet}: {error}") from None
    places = [folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"]
    place = next((place for place in places if place.exists()), None)
    diffusion, dropped = schedule_of(read_config(place) if place else {}, place or folder)
    if not place:
        dropped.append("no scheduler_config.json here: noise prediction with the 1000 linear betas of B.4 is assumed")
    return weights, {"network": settings, "diffusion": diffusion, "image_shape": list(shape)}, notes + dropped


@torch.inference_mode()
def noise_error(model: Diffusion, image_shape: tuple[int, ...], count: int = 16) -> float:
    """Return a model's mean squared error for pure noise at t = T - 1, where x is almost only noise.

    It is near 0 for a trained noise prediction, and near 1 for a network whose weights are in the wrong layers.
    """
    noise = torch.randn(count, *image_shape, generator=torch.Generator().manual_seed(0))
    return (model.noise_prediction(noise, model.steps - 1) - noise).square().mean().item()
