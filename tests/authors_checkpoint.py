"""Checkpoints as the authors' train_unet.py writes them: their layer names and shapes, and options in their classes."""

import argparse
import dataclasses
import io
import sys
import types
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from attractors.denoisers.unet import Downsample

RESIDUAL = {"norm_1": "GroupNorm_0", "convolution_1": "Conv_0", "time": "Dense_0", "norm_2": "GroupNorm_1",
            "convolution_2": "Conv_1", "shortcut": "NIN_0"}
GROUPS = {
    "data": ("DataOptions", {"data_name": "mnist", "data_path": "../data", "results_path": "results"}),
    "train": ("TrainOptions", {"train_size": 500, "global_seed": 3407, "timesteps": 1000, "prediction_type": "epsilon",
                               "beta_schedule": "linear", "lr": 2e-4, "ema_decay": 0.9999}),
    "model": ("ModelOptions", {"image_size": 8, "in_channels": 1, "dim": 32, "dim_mults": (1, 2),
                               "attn_resolutions": (4,), "num_res_blocks": 1, "dropout": 0.1, "conditional": True,
                               "resamp_with_conv": True, "nonlinearity": "swish", "scale_by_sigma": False}),
}


def named(network):
    """The weights of our U-Net under the authors' names, all_modules.N in the order in which their network is built."""
    modules = [(network.time[0], ""), (network.time[2], ""), (network.input, "")]
    for block in [*network.down, *network.middle, *network.up]:
        modules.append((block.convolution, "Conv_0") if isinstance(block, Downsample) else (block.residual, RESIDUAL))
        if isinstance(getattr(block, "attention", nn.Identity()), nn.Identity):
            pass
        else:
            modules.append((block.attention, "attention"))
        if not isinstance(getattr(block, "upsample", nn.Identity()), nn.Identity):
            modules.append((block.upsample.convolution, "Conv_0"))
    weights = {}
    for number, (module, kind) in enumerate([*modules, (network.norm, ""), (network.output, "")]):
        prefix = f"all_modules.{number}"
        if isinstance(kind, str) and kind != "attention":
            parts = [(f"{prefix}.{kind}".rstrip("."), module.weight, module.bias)]
        elif kind == "attention":
            parts = [(f"{prefix}.GroupNorm_0", module.norm.weight, module.norm.bias)]
            thirds = zip(module.query_key_value.weight.chunk(3), module.query_key_value.bias.chunk(3), strict=True)
            parts += [(f"{prefix}.NIN_{i}", *layer) for i, layer in enumerate(thirds)]
            parts.append((f"{prefix}.NIN_3", module.output.weight, module.output.bias))
        else:
            layers = ((theirs, getattr(module, ours)) for ours, theirs in kind.items())
            parts = [(f"{prefix}.{theirs}", layer.weight, layer.bias) for theirs, layer in layers
                     if not isinstance(layer, nn.Identity)]
        for name, weight, bias in parts:
            nin = "NIN" in name
            weights[f"{name}.{'W' if nin else 'weight'}"] = weight.detach().flatten(1).T if nin else weight.detach()
            weights[f"{name}.{'b' if nin else 'bias'}"] = bias.detach()
    return weights


def checkpoint(network, **changes):
    """The bytes of a checkpoint of `network`, whose options are those of GROUPS, as far as `changes` has no others."""
    module, args = types.ModuleType("parse_utils"), argparse.Namespace(config_path=Path("configs/mnist.yaml"))
    for key, (name, values) in GROUPS.items():
        cls = dataclasses.make_dataclass(name, [(option, type(value), value) for option, value in values.items()])
        cls.__module__ = "parse_utils"
        setattr(module, name, cls)
        setattr(args, key, cls(**{option: value for option, value in changes.items() if option in values}))
    weights, file = named(network), io.BytesIO()
    optimiser = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.999)}]}
    content = {"model": {f"module.{name}": value for name, value in weights.items()}, "ema": weights, "opt": optimiser,
               "args": args, "iterations": 400_000}
    with mock.patch.dict(sys.modules, parse_utils=module):
        torch.save(content, file)
    return file.getvalue()
