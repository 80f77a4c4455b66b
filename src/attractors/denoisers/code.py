"""Denoisers of one's own code: any network, whatever it predicts and however it is told how much noise there is."""

import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from attractors.denoisers.diffusion import Diffusion, linear_betas
from attractors.files import file_hash
from attractors.settings.network import Level, Prediction

ADDRESS = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")


class Function(nn.Module):
    """A function as a network without weights."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] and level: [B] to a prediction of the shape of x."""
        return self.function(x, level)


def denoiser(
    network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], image_shape: tuple[int, int, int],
    prediction: Prediction = "noise", level: Level = "time", betas: torch.Tensor | None = None,
) -> Diffusion:
    """Return any network as a model of which all measurements are made.

    network: a callable, such as an nn.Module, a TorchScript or an exported program, that maps images [B, C, H, W] of
    values from -1 to 1, with noise, and a level of noise: [B] to its prediction of that shape. A label or a text is
    fixed by the caller. image_shape: (C, H, W).
    prediction, level: what it returns, and what it is given (`Diffusion`): a network of DDPM is ("noise", "time"), the
    preconditioned denoiser of EDM ("image", "sigma"), and rectified flow ("flow", "flow"); where time runs from noise
    to images, the caller passes 1 - tau on and turns the sign.
    betas: [T] float64, the schedule of the network for the level `time`, and for the others the times at which samples
    and measurements are made; by default `linear_betas()`, those of B.4.
    Raises ValueError for a prediction or a level that is not known, and where the network does not take such images.
    """
    for value, known in ((prediction, get_args(Prediction)), (level, get_args(Level))):
        if value not in known:
            raise ValueError(f"{str(value)[:80]!r}; it must be one of {', '.join(known)}")
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"image_shape is {str(image_shape)[:80]}; it must be (C, H, W)")
    module = network if isinstance(network, nn.Module) else Function(network)
    model = Diffusion(module, linear_betas() if betas is None else torch.as_tensor(betas), prediction, level).eval()
    try:
        x = torch.zeros(2, *shape)
        with torch.no_grad():
            given = model.output(x, torch.tensor([0, model.steps - 1]))
        if not isinstance(given, torch.Tensor) or given.shape != x.shape or not given.isfinite().all():
            what = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
            raise ValueError(f"it returns {what} for images of {tuple(x.shape)}, or numbers that are not finite")
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(f"the network does not take images of {shape} and {level}: {words}") from error
    model.image_shape = shape  # type: ignore[assignment]
    return model.requires_grad_(False)


def is_code(path: object) -> bool:
    """Return whether `path` is FILE.py:NAME."""
    return ADDRESS.fullmatch(str(path)) is not None


def from_code(address: str, size: int | None = None) -> tuple[Diffusion, dict[str, Any]]:
    """Return (the model that FILE.py:NAME builds, its record). The file is run, because its user named it.

    NAME is a function that returns a `denoiser`. If it takes an argument, that is size, K.
    Raises ValueError naming the address.
    """
    file, name = ADDRESS.fullmatch(str(address)).group("file", "name")  # type: ignore[union-attr]
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    specification = importlib.util.spec_from_file_location(f"denoiser_{file_hash(path)[:16]}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        build = getattr(module, name)
        model = build(size) if inspect.signature(build).parameters else build()
    except Exception as error:
        raise ValueError(f"{address}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(model, Diffusion) or not hasattr(model, "image_shape"):
        raise ValueError(f"{address}: returns a {type(model).__name__}; it must return attractors.denoiser(...)")
    record = {"network": {"name": "code", "address": str(address), "sha256": file_hash(path)},
              "diffusion": {"prediction": model.prediction, "level": model.level, "steps": model.steps},
              "image_shape": list(model.image_shape)}  # type: ignore[arg-type]
    return model, record


def again(record: dict[str, Any]) -> Diffusion:
    """Return the model of a record that `from_code` returned, before its weights are loaded.

    The file is run again only if it is the one that was imported, byte for byte. Raises ValueError.
    """
    address = str(record["network"].get("address"))
    if not is_code(address):
        raise ValueError(f"its code is {address[:80]!r}, and not FILE.py:NAME")
    path = Path(address.rpartition(":")[0])
    if not path.is_file() or file_hash(path) != record["network"].get("sha256"):
        raise ValueError(f"{path.name} is not the file that was imported; run import_checkpoint {path.name}:... again")
    return from_code(address, record["size"])[0]
