"""Diffusion models as associative memories: the paper's equations as pure functions.

What measures anyone's samples is here by name, and is imported when it is first used.
"""

import importlib
from typing import Any

_HOMES = {
    "audit": "auditing.audit",
    "CopyFractions": "auditing.metric",
    "denoiser": "denoisers.code",
    "read_images": "data.images",
    "read_embedding": "distances.lpips_embedding",
    "nearest": "distances.neighbours",
    "copy_bound": "distances.thresholds",
    "classify": "distances.detection",
    "fractions": "distances.detection",
    "TYPES": "distances.detection",
}
__all__ = [name for name in _HOMES if name != "CopyFractions"]  # which needs torchmetrics


def __getattr__(name: str) -> Any:
    """Return a name of the public interface from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'attractors' has no attribute {name!r}")
    return getattr(importlib.import_module(f"attractors.{_HOMES[name]}"), name)
