"""Rename the weights of the U-Net to those of diffusers.UNet2DModel, and back. diffusers is not needed."""

from collections.abc import Iterator
from typing import Any

import torch

RESIDUAL = {
    "norm_1": "norm1", "convolution_1": "conv1", "time": "time_emb_proj",
    "norm_2": "norm2", "convolution_2": "conv2", "shortcut": "conv_shortcut",
}
# What UNet2DModel assumes where config.json is silent, and what the U-Net of B.4 has no counterpart for.
DEFAULTS = {
    "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1, "norm_eps": 1e-5, "attention_head_dim": 8,
}
FIXED = {
    "add_attention": True, "attn_norm_num_groups": None, "class_embed_type": None, "num_class_embeds": None,
    "downsample_type": "conv", "upsample_type": "conv", "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D", "resnet_time_scale_shift": "default",
}
# Names that UNet2DModel wrote for attention before version 0.12, and writes now.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _blocks(settings: dict[str, Any]) -> Iterator[tuple[str, str, int, bool]]:
    """Yield (our prefix, their block, its number there, whether it is a sampler) for every block of the network."""
    levels, blocks = len(settings["multipliers"]), settings["blocks"]
    down = 0
    for level in range(levels):
        for number in range(blocks):
            yield f"down.{down}", f"down_blocks.{level}", number, False
            down += 1
        if level < levels - 1:
            yield f"down.{down}", f"down_blocks.{level}.downsamplers.0.conv", 0, True
            down += 1
    yield "middle.0", "mid_block", 0, False
    yield "middle.1", "mid_block", 1, False
    for level in range(levels):
        for number in range(blocks + 1):
            yield f"up.{level * (blocks + 1) + number}", f"up_blocks.{level}", number, False
        if level < levels - 1:
            prefix = f"up.{level * (blocks + 1) + blocks}.upsample"
            yield prefix, f"up_blocks.{level}.upsamplers.0.conv", 0, True


def _modules(settings: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield (our module, their modules) for every layer. query_key_value corresponds to three of their modules."""
    yield from [
        ("time.0", ["time_embedding.linear_1"]), ("time.2", ["time_embedding.linear_2"]), ("input", ["conv_in"]),
        ("norm", ["conv_norm_out"]), ("output", ["conv_out"]),
    ]
    for ours, theirs, number, sampler in _blocks(settings):
        if sampler:
            yield f"{ours}.convolution", [theirs]
            continue
        for name, other in RESIDUAL.items():
            yield f"{ours}.residual.{name}", [f"{theirs}.resnets.{number}.{other}"]
        attention = f"{theirs}.attentions.{number}"
        yield f"{ours}.attention.norm", [f"{attention}.group_norm"]
        yield f"{ours}.attention.query_key_value", [f"{attention}.to_{part}" for part in "qkv"]
        yield f"{ours}.attention.output", [f"{attention}.to_out.0"]


def config_of(settings: dict[str, Any], image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return the UNet2DModel configuration of our network: a dict for config.json or UNet2DModel(**...).

    settings: width, multipliers, blocks, attention and dropout, all of them (UNet.settings). image_shape: (C, H, W).
    """
    attending = [image_shape[1] // 2**level in settings["attention"] for level in range(len(settings["multipliers"]))]
    return {
        "act_fn": "silu", "attention_head_dim": None, "center_input_sample": False,
        "block_out_channels": [int(settings["width"] * m) for m in settings["multipliers"]],
        "down_block_types": ["AttnDownBlock2D" if attend else "DownBlock2D" for attend in attending],
        "up_block_types": ["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attending)],
        "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "layers_per_block": settings["blocks"],
        "in_channels": image_shape[0], "out_channels": image_shape[0],
        "sample_size": image_shape[1] if image_shape[1] == image_shape[2] else list(image_shape[1:]),
        "norm_eps": 1e-6, "norm_num_groups": 32, "time_embedding_type": "positional", "dropout": settings["dropout"],
    }


def sides_of(sample_size: object, given: tuple[int, int] | None) -> tuple[int, int]:
    """Return (H, W) of a configuration's sample_size: one number, a pair, or None, for which `given` stands.

    Raises ValueError where it is None and none is given, and where both are there and differ.
    """
    pair = [sample_size] * 2 if isinstance(sample_size, int) else sample_size
    if pair is None:
        if given is None:
            raise ValueError("sample_size is null; --image-size says how large its images are")
        return given
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(type(n) is int and 0 < n < 2**14 for n in pair):
        raise ValueError(f"sample_size is {str(sample_size)[:80]!r}; a side, or a height and a width are read")
    if given not in (None, tuple(pair)):
        raise ValueError(f"sample_size is {pair}, and --image-size is {list(given)}")
    return pair[0], pair[1]


class OtherNetworkError(ValueError):
    """A UNet2DModel that is not the U-Net of B.4."""


def settings_of(config: dict, image_size: tuple[int, int] | None = None) -> tuple[dict, tuple[int, int, int]]:
    """Our network settings and image shape from a UNet2DModel's config.json: ({name: unet, ...}, (C, H, W)).

    image_size: (H, W), where the configuration has none. Raises OtherNetworkError naming a setting of theirs for which
    the U-Net of B.4 has no counterpart, and ValueError.
    """
    channels, sides = config["block_out_channels"], sides_of(config.get("sample_size"), image_size)
    width = channels[0]
    settings = {
        "name": "unet", "width": width, "multipliers": [c / width if c % width else c // width for c in channels],
        "blocks": config.get("layers_per_block", 2), "dropout": config.get("dropout", 0.0),
        "attention": [sides[0] // 2**i for i, kind in enumerate(config["down_block_types"]) if kind.startswith("Attn")],
    }
    shape = (config["in_channels"], *sides)
    expected = config_of(settings, shape) | FIXED | {"sample_size": config.get("sample_size")}
    for name, value in expected.items():
        found = config.get(name, DEFAULTS.get(name, value))
        if name == "attention_head_dim" and all(c == found for c in _attending_channels(config)):
            continue  # heads as wide as the layer: one head
        if (list(found) if isinstance(found, tuple) else found) != value:
            raise OtherNetworkError(f"{name} is {found!r}; the U-Net of B.4 has {value!r}")
    return settings, shape


def _attending_channels(config: dict[str, Any]) -> list[int]:
    """Return the channels of the levels that have attention, and those of the middle."""
    kinds = zip(config["block_out_channels"], config["down_block_types"], strict=True)
    return [c for c, kind in kinds if kind.startswith("Attn")] + [config["block_out_channels"][-1]]


def to_diffusers(weights: dict[str, torch.Tensor], settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return our state dict under the names of UNet2DModel. settings: `UNet.settings`."""
    renamed = {}
    for ours, theirs in _modules(settings):
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in weights:
                parts = weights[f"{ours}.{kind}"].chunk(len(theirs))
                renamed |= {f"{name}.{kind}": part.clone() for name, part in zip(theirs, parts, strict=True)}
    return renamed


def from_diffusers(weights: dict[str, torch.Tensor], settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return UNet2DModel's state dict under our names. Raises ValueError for a weight that has no counterpart."""
    weights = dict(weights)
    for name in list(weights):
        for old, new in OLD_ATTENTION.items():
            if f".{old}." in name and ".attentions." in name:
                weights[name.replace(f".{old}.", f".{new}.")] = weights.pop(name)
    renamed, used = {}, set()
    for ours, theirs in _modules(settings):
        for kind in ("weight", "bias"):
            names = [f"{name}.{kind}" for name in theirs]
            if present := [name for name in names if name in weights]:
                if present != names:
                    raise ValueError(f"{present[0]} without {', '.join(sorted(set(names) - set(present)))}")
                parts = [weights[name] for name in names]
                if ".attention." in ours and "norm" not in ours:
                    parts = [part.reshape(len(part), -1) if kind == "weight" else part for part in parts]
                renamed[f"{ours}.{kind}"] = torch.cat(parts) if len(parts) > 1 else parts[0]
                used |= set(names)
    if left := sorted(set(weights) - used):
        raise ValueError(f"no counterpart for {len(left)} weights, first {left[0]}")
    return renamed
