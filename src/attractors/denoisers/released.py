"""The authors' released models: a file K.pt of a repository of the Hugging Face hub in place of a trained model.

The library huggingface_hub downloads, with its cache, resumed downloads, tokens, and HF_ENDPOINT for mirrors.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch

from attractors.arrays import array_hash, read_record
from attractors.data.images import read_images
from attractors.denoisers.diffusion import Diffusion
from attractors.denoisers.foreign import from_authors, noise_error
from attractors.denoisers.models import new_model, write_model
from attractors.settings.network import diffusion_settings, network_settings
from attractors.settings.train import Release

EXTRA = 'pip install "attractors[released]", or in a checkout: pip install huggingface_hub'
DATASETS = {"fashionmnist": "fashion_mnist", "lsun-church": "lsun_church"}  # by the authors' names, where ours differ


def _hub() -> Any:
    try:
        import huggingface_hub
        from huggingface_hub.utils import logging
    except ImportError:
        raise ValueError(f"released models are downloaded with huggingface_hub: {EXTRA}") from None
    logging.set_verbosity_error()
    return huggingface_hub


def _reason(error: Exception, release: Release, name: str) -> str:
    """Return in one line what went wrong with a request to the hub."""
    from huggingface_hub import errors

    kinds = (  # a kind stands before those that it extends
        (errors.GatedRepoError, "gated; accept its licence on its page, then `hf auth login`"),
        (errors.RepositoryNotFoundError, "no such repository, or it needs a token: `hf auth login`"),
        (errors.RevisionNotFoundError, f"no revision {release.revision}"),
        (errors.LocalEntryNotFoundError, f"the hub is out of reach, and the cache has no {name}"),
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set, and a list of files is only to be had online"),
        (errors.EntryNotFoundError, f"no {name} in it"),
    )
    for kind, words in kinds:
        if isinstance(error, kind):
            return words
    return f"{name} could not be downloaded ({' '.join(str(error).split())[:150]})"


def released_sizes(release: Release) -> tuple[list[int], str]:
    """Return (the K for which the repository holds K.pt, its commit). Raises ValueError."""
    hub = _hub()
    try:
        described = hub.HfApi().repo_info(release.released, revision=release.revision)
    except Exception as error:  # of the hub's client, and of the HTTP library below it
        raise ValueError(f"{release.released}: {_reason(error, release, 'list of files')}") from None
    names = [re.fullmatch(r"(\d+)\.pt", file.rfilename) for file in described.siblings]
    return sorted(int(name[1]) for name in names if name), described.sha


def downloaded(release: Release, size: int) -> tuple[Path, dict[str, str]]:
    """Return (the file K.pt in the hub's cache, {repository, commit, file, sha256}). Raises ValueError.

    The hub names a large file by its sha256, which is held against that of what arrived.
    """
    hub, name = _hub(), f"{size}.pt"
    try:
        path = Path(hub.hf_hub_download(release.released, name, revision=release.revision))
    except Exception as error:  # of the hub's client, and of the HTTP library below it
        if getattr(error, "errno", None):  # a full disk
            raise
        raise ValueError(f"{release.released}: {_reason(error, release, name)}") from None
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and blob.name != sha256:
        forget(path)
        raise ValueError(f"{release.released}: {name} has another sha256 than the hub says; it was deleted, try again")
    assert release.released is not None
    return path, {"repository": release.released, "commit": path.parent.name, "file": name, "sha256": sha256}


def forget(path: Path) -> None:
    """Delete a file of the hub's cache, and the entry that points to it."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    return [f"{name} is {theirs[name]}, not {ours[name]}" for name in ours if theirs.get(name) != ours[name]]


def converted(
    path: Path, described: dict[str, dict[str, Any]], run: dict[str, Any], check: bool = True
) -> tuple[Diffusion, dict[str, Any]]:
    """Return (the model of the authors' file at `path`, its record), after it was held against a run.

    described: the run's sections network and diffusion. run: its size K, image_shape, seed and dataset.
    check: refuse a model that does not recognise pure noise. Raises ValueError naming what differs, or the first
    layer that does not fit. Dropout may differ, because only training has it.
    """
    weights, record, _ = from_authors(path)
    network = network_settings(record["network"]).model_dump(mode="json")
    diffusion = diffusion_settings(record["diffusion"] | {"prediction": "noise"}).model_dump(mode="json")
    dataset = str(record["options"].get("data_name"))
    seen = {key: record[key] for key in ("size", "image_shape", "seed")} | {"dataset": DATASETS.get(dataset, dataset)}
    ours = {key: value for key, value in described["network"].items() if key != "dropout"}
    if other := _differences(seen, run) + _differences(network, ours) + _differences(diffusion, described["diffusion"]):
        raise ValueError(f"{path.name}: not the model of this run: in the file {'; '.join(other)}")
    model = new_model(network, diffusion, tuple(record["image_shape"]), 0, torch.empty(0))
    model.network.load_state_dict(weights)
    error = noise_error(model.eval(), tuple(record["image_shape"]))
    if check and not error < 0.25:
        raise ValueError(
            f"{path.name}: takes pure noise for something else (mean squared error {error:.3g}, 1 for chance): weights "
            "in the wrong layers, or untrained; train --no-check takes them all the same"
        )
    return model, record | {"network": network, "diffusion": diffusion}


def fetch(described: dict[str, Any], subset: str, size: int, seed: int, out: str, release: Release) -> str:
    """Download a released model, hold it against the run, write it as `train` writes its own, and say so in a line.

    described: the run's sections network and diffusion. subset: images in subset order, of which the first `size`
    are the training set. Raises ValueError.
    """
    images = read_images(subset, size)
    dataset, shape = read_record(subset).get("dataset"), list(images.shape[1:])
    path, source = downloaded(release, size)
    run = {"size": size, "image_shape": shape, "seed": seed, "dataset": dataset}
    model, record = converted(path, described, run, release.check)
    record |= {"released": source | {"options": record.pop("options")}, "subset_sha256": array_hash(images)}
    write_model(out, model.state_dict(), **record)
    if not release.keep_download:
        forget(path)
    parameters = sum(p.numel() for p in model.parameters())
    return f"{out}: {parameters:,} parameters of {source['repository']} at {source['commit'][:7]}, {path.name}"
