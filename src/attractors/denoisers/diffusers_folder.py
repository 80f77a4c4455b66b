"""Folders that diffusers and the hub's cache write: their revision, their weights, and which schedulers are DDPM's."""

import json
import re
from pathlib import Path

from attractors.data.pictures import files_in

# Samplers of one and the same diffusion: each reads the same betas and prediction from its scheduler_config.json.
KNOWN = (
    "DDPMScheduler", "DDIMScheduler", "DDIMInverseScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler",
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)
# Settings that make another diffusion, or another prediction, of a known scheduler, and what leaves it as it is.
CHANGES = {"rescale_betas_zero_snr": False, "use_flow_sigmas": False, "snr_shift_scale": None}
LEARNED = ("learned", "learned_range")


def check_scheduler(config: dict, source: object) -> None:
    """Raise ValueError for a scheduler_config.json that is not known to mean the diffusion of DDPM.

    config: its content. A file without a class is taken for DDPM's, as diffusers wrote it before it named them.
    """
    name = config.get("_class_name", "DDPMScheduler")
    if name not in KNOWN:
        raise ValueError(
            f"{source}: a model for {str(name)[:80]}, which is not known here as a sampler of DDPM's diffusion; "
            f"known are {', '.join(KNOWN)}"
        )
    for key, value in CHANGES.items():
        if config.get(key, value) not in (value, None):
            raise ValueError(f"{source}: {key} is {config[key]!r}, which makes another schedule; {value!r} is read")
    if config.get("variance_type") in LEARNED:
        raise ValueError(
            f"{source}: variance_type is {config['variance_type']!r}: a network that also learns variances"
        )


def read_config(path: Path) -> dict:
    """Return the settings in a JSON file of diffusers. Raises ValueError naming it where it is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a mapping of settings")
    return content


def hub_snapshot(folder: Path) -> Path:
    """The files in a folder of the hub's cache, models--OWNER--NAME/snapshots/REVISION: of `main`, or the only one.

    Any other folder is returned as it is. Raises ValueError where it cannot be known which revision is meant.
    """
    if not (folder / "snapshots").is_dir():
        return folder
    revisions = sorted(path for path in (folder / "snapshots").iterdir() if path.is_dir())
    main = folder / "refs" / "main"
    if main.is_file() and (chosen := folder / "snapshots" / main.read_text("utf-8").strip()) in revisions:
        return chosen
    if len(revisions) != 1:
        raise ValueError(f"{folder}: {len(revisions)} revisions in snapshots/ and none of them main; name one of them")
    return revisions[0]


def weight_files(folder: Path, usual: str) -> list[Path]:
    """Return the files of a model's weights: the usual one, else the only variant (fp16, ema), in one piece or several.

    Raises ValueError listing what is there instead.
    """
    names = [name for name in files_in(folder) if "/" not in name and name.endswith((".safetensors", ".bin"))]
    pieces = {}
    for name in names:
        stem, suffix = name.rsplit(".", 1)
        pieces.setdefault((re.sub(r"-\d{5}-of-\d{5}", "", stem), suffix), []).append(folder / name)
    for suffix in ("safetensors", "bin"):
        if found := pieces.get((usual, suffix)):
            return found
    variants = [key for key in pieces if key[0].startswith(f"{usual}.")]
    kinds = {stem for stem, _ in variants}
    if len(kinds) == 1:
        return pieces[max(variants, key=lambda key: key[1])]  # safetensors, where there is a .bin too
    listed = ", ".join(names) or "no .safetensors and no .bin"
    raise ValueError(f"{folder}: no {usual}.safetensors, and not one variant of it; it holds {listed}")
