"""What many tests begin with: commands here and in processes, random images, small models, LPIPS weights, files."""

import importlib
import os
import signal
import subprocess
import sys
import time

import click
import numpy as np
import torch
from click.testing import CliRunner
from conftest import ROOT

from attractors.arrays import write_arrays
from attractors.denoisers.controls import ExactNoise
from attractors.denoisers.diffusion import Diffusion, linear_betas
from attractors.denoisers.models import new_model, write_model
from attractors.denoisers.networks import ResidualMLP
from attractors.distances.lpips_embedding import BACKBONES, weights_hash


def called(command, *arguments):
    """click's result of a command: itself, its module, or the name of a stage. What it does not catch is raised."""
    if not isinstance(command, click.Command):
        command = importlib.import_module(f"attractors.stages.{command}") if isinstance(command, str) else command
        command = command.main
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(command, *arguments):
    """What a command prints that ends well."""
    result = called(command, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(command, *arguments, code=1):
    """The line in which a command refuses its arguments: its one error or, where code is 2, that below its usage."""
    result = called(command, *arguments)
    lines = [line for line in result.stderr.splitlines() if line.strip() and "%|" not in line]  # %|: a progress bar
    assert result.exit_code == code and lines[-1].startswith("Error: "), result.output
    assert len(lines) == 1 or code == 2, result.output
    return lines[-1]


def python(code, *arguments, folder=ROOT, **settings):
    """What a fresh Python prints that runs `code` with the source of this project on its path."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")} | settings
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=folder, env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def start(script, *arguments, folder=ROOT, **settings):
    """A process of a command, in `folder`, with more settings of the environment."""
    command = [sys.executable, ROOT / "src" / "main.py", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | settings)


def processed(script, *arguments, code=0, **options):
    """What a process of a command prints or, where it must fail, what its errors are."""
    process = start(script, *arguments, **options)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    return errors if code else output


def killed(resume, script, *arguments, wait=0.2, **options):
    """Kill a process at most `wait` seconds after more of its state lies in the folder `resume`; return that file."""
    def size():
        return sum(file.stat().st_size for file in resume.glob("[!.]*"))

    before, deadline = size(), time.monotonic() + 120
    process = start(script, *arguments, ATTRACTORS_CHECKPOINT_SECONDS="0", **options)
    while size() <= before and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(np.random.default_rng().uniform(0, wait))  # no result depends on when
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (state,) = resume.glob("[!.]*")
    return state


def images(count, shape=(1, 3, 3), seed=0):
    """Random images: [count, *shape] float32 in [-1, 1]."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32))


def exact_model(memories, betas=None):
    """The exact denoiser of memories: [K, C, H, W]."""
    betas = linear_betas() if betas is None else betas
    return Diffusion(ExactNoise(memories.shape[1:], torch.cumprod(1 - betas, 0), memories), betas).eval()


def learned_model(shape, betas=None, width=32):
    """A network of random weights: its outputs are as irregular as they come."""
    torch.manual_seed(0)
    betas = linear_betas() if betas is None else betas
    network = ResidualMLP(shape, torch.cumprod(1 - betas, 0), width=width, blocks=2)
    for layer in (network.output, *(block.second for block in network.blocks)):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return Diffusion(network, betas, "velocity").eval().requires_grad_(False)


def randomised(network, seed=0, bias=0.3):
    """A network with every weight drawn at random: the initialisation has zeros that would hide a difference."""
    random = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.data = torch.randn(p.shape, generator=random) * (bias if p.ndim == 1 else p[0].numel() ** -0.5)
    return network.eval()


def model_file(path, network, shape, size, diffusion=None, seed=3, images=None, change=lambda model: None):
    """Write the file of a new model, after a change of it; return the model.

    images: [K, *shape], which closed forms know.
    """
    model = new_model(network, diffusion or {}, shape, seed, images)
    change(model)
    write_model(path, model.state_dict(), network=network, diffusion=diffusion or {}, image_shape=list(shape),
                size=size, seed=seed)
    return model


def lpips_weights(backbone="alex"):
    """Random weights of a backbone under LPIPS and of its heads, by their names in a file."""
    random, weights, inputs = np.random.default_rng(0), {}, 3
    widths = {"alex": ((64, 11), (192, 5), (384, 3), (256, 3), (256, 3)),
              "vgg": tuple((width, 3) for width in (64, 64, 128, 128, *[256] * 3, *[512] * 6))}[backbone]
    for i, (outputs, side) in enumerate(widths):
        weight = random.standard_normal((outputs, inputs, side, side)) * (2 / (inputs * side**2)) ** 0.5
        weights |= {f"convolution_{i}.weight": weight, f"convolution_{i}.bias": 0.1 * random.standard_normal(outputs)}
        inputs = outputs
    compared = [outputs for (outputs, _), (*_, head) in zip(widths, BACKBONES[backbone], strict=True) if head]
    weights |= {f"head_{i}": random.random(width) for i, width in enumerate(compared)}
    return {name: values.astype(np.float32) for name, values in weights.items()}


def trunk(metric):
    """The convolutions of an lpips.LPIPS."""
    return [layer for layer in metric.net.modules() if isinstance(layer, torch.nn.Conv2d)]


def weights_of(metric):
    """The weights of an lpips.LPIPS by their names in a file."""
    weights = {f"head_{i}": head.model[-1].weight.detach().flatten() for i, head in enumerate(metric.lins)}
    for i, layer in enumerate(trunk(metric)):
        weights |= {f"convolution_{i}.weight": layer.weight.detach(), f"convolution_{i}.bias": layer.bias.detach()}
    return weights


def lpips_file(path, backbone="alex", weights=None):
    """Write LPIPS weights, random ones if none are given; return the path."""
    arrays = {name: np.asarray(values) for name, values in (weights or lpips_weights(backbone)).items()}
    write_arrays(path, arrays, backbone=backbone, weights_sha256=weights_hash(arrays))
    return path


def neighbours_file(folder, size, number, to_training, within, spacing=None, *, indices=None, name="x", **record):
    """Write the file of neighbours of replicate `number`; distances: [n] or [n, k]. Returns its stem, K or K-R."""
    stem = f"{size}-{number}" if number else f"{size}"
    arrays = {f"{source}_distances": np.asarray(distances, np.float32).reshape(len(distances), -1)
              for source, distances in (("training", to_training), ("synthetic", within))}
    arrays |= {"training_spacing": np.full(size, 2.0) if spacing is None else spacing}
    arrays["training_spacing"] = np.asarray(arrays["training_spacing"], np.float32)
    arrays |= {} if indices is None else {"synthetic_indices": indices}
    write_arrays(folder / f"data/neighbours/{name}/{stem}.safetensors", arrays, size=size, replicate=number,
                 **{"distance": "l2"} | record)
    return stem
