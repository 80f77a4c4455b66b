"""Folders that diffusers and the hub's cache write: their revision, their weights, and which schedulers are DDPM's."""

import json
import re
from pathlib import Path

from attractors.data.kinds import ARRAYS, PICTURES, kind_of_file, suffix_of

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
    if path.is_file():
        kind_of_file(path)  # raises for a pointer of git-lfs
    try:
        content = json.loads(path.read_text("utf-8-sig"))
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


# Pipelines that draw pixels, and the parts of a pipeline that draws something else, such as latents.
PIPELINES = ("DDPMPipeline", "DDIMPipeline")
PARTS = ("vae", "vqvae", "movq", "text_encoder", "tokenizer", "bert", "prior", "image_encoder")
AVERAGES = "unet_ema"


def is_model(folder: Path) -> bool:
    """Return whether a folder is a model of diffusers, also as the hub's cache keeps it, and no set of images.

    A config.json alone does not tell: a training run leaves one beside its samples.
    """
    folder = hub_snapshot(folder)
    signs = ("model_index.json", "unet/config.json", f"{AVERAGES}/config.json")
    if any((folder / sign).is_file() for sign in signs) or any(folder.glob("diffusion_pytorch_model*")):
        return True
    if not (named := folder / "config.json").is_file():
        return False
    try:
        config = read_config(named)
    except ValueError:  # which a model's reader says better
        return not any(suffix_of(path.name) in (*PICTURES, *ARRAYS) for path in folder.iterdir())
    return "block_out_channels" in config or str(config.get("_class_name", "")).startswith("UNet")


def parts_of(folder: Path) -> tuple[Path, Path, list[str]]:
    """Return (the pipeline's folder, that of its U-Net, what is said) of a folder of diffusers, or of its U-Net.

    Averaged weights, unet_ema, are taken where they lie beside others. Raises ValueError for a pipeline whose U-Net
    does not draw pixels.
    """
    folder, notes = hub_snapshot(folder), []
    unet = folder
    if (folder.absolute().parent / "model_index.json").is_file() and (folder / "config.json").is_file():
        folder = folder.absolute().parent
    elif (folder / AVERAGES / "config.json").is_file():
        unet = folder / AVERAGES
        notes += [f"weights of unet: those of {AVERAGES}, their averages, are taken"] * (folder / "unet").is_dir()
    elif (folder / "unet").is_dir():
        unet = folder / "unet"
    if (index := folder / "model_index.json").is_file():
        name = read_config(index).get("_class_name", PIPELINES[0])
        if name not in PIPELINES:
            raise ValueError(f"{index}: of a {str(name)[:80]}; {' and '.join(PIPELINES)}, which draw pixels, are read")
    if others := [name for name in PARTS if (folder / name).is_dir()]:
        raise ValueError(f"{folder}: holds {', '.join(others)}: its U-Net draws latents or follows a text, not pixels")
    return folder, unet, notes


def whole(files: list[Path]) -> list[Path]:
    """Return the pieces of a model's weights. Raises ValueError where some of those that their names count are missing.
    """
    counted = re.search(r"-of-(\d{5})", files[0].name)
    pieces = [file for file in files if "-of-" in file.name]
    if pieces and len(pieces) < len(files):
        return [file for file in files if file not in pieces]
    if counted and len(files) != int(counted[1]):
        raise ValueError(f"{files[0].parent}: {len(files)} of {int(counted[1])} pieces of its weights")
    return files


def weight_files(folder: Path, usual: str) -> list[Path]:
    """Return the files of a model's weights: the usual one, else the only variant (fp16, ema), in one piece or several.

    Raises ValueError listing what is there instead.
    """
    ends = (".safetensors", ".bin")
    names = sorted(path.name for path in folder.glob("[!.]*") if path.is_file() and path.name.endswith(ends))
    pieces = {}
    for name in names:
        stem, suffix = name.rsplit(".", 1)
        pieces.setdefault((re.sub(r"-\d{5}-of-\d{5}", "", stem), suffix), []).append(folder / name)
    for suffix in ("safetensors", "bin"):
        if files := pieces.get((usual, suffix)):
            return whole(files)
    variants = [key for key in pieces if key[0].startswith(f"{usual}.")]
    kinds = {stem for stem, _ in variants}
    if len(kinds) == 1:
        return whole(pieces[max(variants, key=lambda key: key[1])])  # safetensors, where there is a .bin too
    listed = ", ".join(names) or "no .safetensors and no .bin"
    raise ValueError(f"{folder}: no {usual}.safetensors, and not one variant of it; it holds {listed}")
