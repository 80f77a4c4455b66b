"""An audit of samples against a training set: in Python as one call, with tables and a page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attractors.arrays import array_hash
from attractors.auditing.measure import Measurement, Share, measure
from attractors.auditing.sets import ImageSet, encoded, for_cosine, load_encoder, perceptual, read_features
from attractors.data.images import brought_together
from attractors.distances.detection import DISTANCES, TYPES
from attractors.distances.lpips_embedding import read_embedding
from attractors.files import file_hash
from attractors.tables import write_csv, write_json
from attractors.yardsticks.ratio import distance_ratio

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {
    "given": "as given", "valley": "the valley of their histogram",
    "spacing": "a quarter of the typical distance between neighbours in the training set",
}


@dataclass(frozen=True)
class Audit:
    """An audit: the images of samples and training set, what was measured of them, and how."""

    samples: ImageSet
    training: ImageSet
    measured: Measurement
    settings: dict[str, Any]
    held_out: ImageSet | None = None
    against: ImageSet | None = None

    @property
    def memorized(self) -> Share:
        """The share of memorized samples."""
        return self.measured.shares()["memorized"]

    @property
    def fractions(self) -> dict[str, float]:
        """The shares of the three types."""
        return {kind: share.share for kind, share in self.measured.shares().items()}

    def sentence(self) -> str:
        """Return the answer, with its intervals and its yardstick of chance, in four sentences."""
        shares, measured, chance = self.measured.shares(), self.measured, self.measured.chance
        real = "held-out images" if self.held_out else "training images lie as near to another one"
        more = "more than" if self.memorized.low > chance.high else "no more than"
        return (
            f"{shares['memorized']} of {len(self.samples):,} samples are memorized: within delta_m = "
            f"{measured.delta_m.value:.4g} of a training image, where {chance} of {chance.count:,} {real}"
            f"{' lie as near' * bool(self.held_out)}. {shares['spurious']} are spurious: no copies, but within "
            f"delta_s = {measured.delta_s.value:.4g} of another sample; {shares['generalized']} are new. "
            f"The memorized share is {more} real images reach by chance."
        )

    def reasons(self) -> str:
        """Return in words why the thresholds are what they are."""
        named = (("delta_m", self.measured.delta_m), ("delta_s", self.measured.delta_s))
        return "; ".join(f"{name} is {SOURCES[threshold.source]}" for name, threshold in named) + "."

    def pairs(self) -> pd.DataFrame:
        """Return the table of pairs.csv: every sample with its nearest training image and nearest other sample."""
        import pandas as pd

        near, numbers = self.measured.samples, np.arange(len(self.samples))
        first, second = near.to_training.T
        return pd.DataFrame({
            "sample": numbers, "file": self.samples.names, "training": near.training[:, 0],
            "training_file": [self.training.names[i] for i in near.training[:, 0]], "d1": first, "d2": second,
            "ratio": distance_ratio(near.to_training), "other": near.others[:, 0],
            "other_file": [self.samples.names[i] for i in near.others[:, 0]],
            "d_other": near.within[:, 0], "type": [TYPES[code] for code in self.measured.codes],
        })

    def duplicates(self) -> pd.DataFrame:
        """Return the table of duplicates.csv: the groups of near-duplicates in the training set and of samples."""
        import pandas as pd

        measured, rows = self.measured, []
        for name, parts, images, distances in (
            ("training", measured.repeated_training(), self.training, measured.spacing),
            ("samples", measured.repeated_samples(), self.samples, measured.samples.within),
        ):
            for number, members in enumerate(parts):
                rows += [(name, number, len(members), i, images.names[i], distances[i, 0]) for i in members]
        return pd.DataFrame(rows, columns=["set", "group", "size", "number", "file", "nearest"])

    def summary(self) -> dict[str, Any]:
        """Return the content of summary.json: the answer, what it is made of, settings and versions."""
        measured = self.measured
        content = {
            "sentence": self.sentence(), "samples": len(self.samples), "training": len(self.training),
            "shares": {kind: asdict(share) for kind, share in measured.shares().items()},
            "chance": asdict(measured.chance) | {"of": "held-out" if self.held_out else "training"},
            "thresholds": {"delta_m": asdict(measured.delta_m), "delta_s": asdict(measured.delta_s)},
            "repeated_samples": [len(part) for part in measured.repeated_samples()],
            "repeated_training": [len(part) for part in measured.repeated_training()],
            "settings": self.settings,
        }
        if measured.against is not None:
            other = {kind: asdict(share) for kind, share in measured.shares(measured.against).items()}
            content["against"] = {"shares": other, "difference": measured.difference()}
        return content

    def to_html(self) -> str:
        """Return the page, which needs no other file."""
        from attractors.auditing.page import html

        return html(self.measured, self.samples, self.training, settings=self.settings, sentence=self.sentence(),
                    reasons=self.reasons(), beside=self.against.path if self.against else "")

    def write(self, folder: str | Path) -> None:
        """Write index.html, pairs.csv, duplicates.csv and summary.json to a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "pairs.csv", self.pairs())
        write_csv(folder / "duplicates.csv", self.duplicates())
        write_json(folder / "summary.json", self.summary())
        (folder / "index.html").write_text(self.to_html(), "utf-8", newline="\n")


def audit(
    samples: Any, training: Any, *, held_out: Any = None, against: Any = None, distance: str | None = None,
    features: Sequence[str | Path] = (), encoder: str | Path | None = None, resize: int | None = None,
    normalised: bool = True, size: int | None = None, lpips: str | Path | None = None, delta_m: float | str = "auto",
    delta_s: float | str = "auto", values: str | None = None, device: Any = "cpu", folder: str | Path | None = None,
    progress: Callable[[Iterable, int, str], Iterator] = lambda blocks, count, label: iter(blocks),
) -> Audit:
    """Audit samples against a training set: which are copies, which repeat each other, which are new.

    samples, training, held_out, against: paths that `read_images` takes, or arrays [n, C, H, W] in [-1, 1].
    distance: l2 or LPIPS (lpips_alex, lpips_vgg) of pixels, by default l2; cosine or l2 of features, by default cosine.
    features: .npy files [n, D] of samples, training set and, where these are given, held-out images and `against`.
    encoder: TorchScript or torch.export, which makes the features; `resize` is the side of its images in pixels,
    and `normalised` scales these by ImageNet's mean and deviation. lpips: the weights. delta_m, delta_s: distances, or
    auto. size: K, where S is the first K images of `training`. folder: where embeddings lie while this runs. Raises
    ValueError in one line for what does not fit together.
    """
    given = [samples, training, *(part for part in (held_out, against) if part is not None)]
    by_features = bool(features) or encoder is not None
    distance = distance or ("cosine" if by_features else "l2")
    if features and encoder:
        raise ValueError("features and an encoder: give one of them")
    if distance not in (("cosine", "l2") if by_features else DISTANCES):
        kinds = "features have cosine or l2" if by_features else f"images have {', '.join(DISTANCES)}"
        raise ValueError(f"--distance {distance}: {kinds}")
    if features and len(features) != len(given):
        raise ValueError(f"{len(features)} files of features for {len(given)} sets: one for each, in their order")
    sets = [ImageSet(part, values, by_features, size if number == 1 else None) for number, part in enumerate(given)]
    settings: dict[str, Any] = {"distance": distance, "sets": [(part.path or "array", part.said) for part in sets]}
    settings["versions"] = {name: version(name) for name in ("attractors", "numpy", "torch")}
    squared, temporary = distance != "l2", folder or tempfile.gettempdir()
    if features:
        tables: list[Any] = [read_features(path, len(part)) for path, part in zip(features, sets, strict=True)]
        settings["features_sha256"] = [file_hash(path) for path in features]
    elif encoder:
        encode = load_encoder(encoder, device)
        tables = [encoded(part, encode, resize, normalised, progress) for part in sets]
        settings |= {"encoder_sha256": file_hash(encoder), "resize": resize, "normalised": normalised}
    else:
        arrays = _together(sets, vouched=values is not None)
        settings["sha256"] = [array_hash(array) for array in arrays]
        if backbone := DISTANCES[distance]:
            path = lpips or f"models/lpips/{backbone}.safetensors"
            embedding = read_embedding(path, device)
            if embedding.backbone != backbone:
                raise ValueError(f"{path}: weights of {embedding.backbone}; {distance} needs those of {backbone}")
            settings["lpips_sha256"] = file_hash(path)
            tables = [perceptual(array, embedding, temporary) for array in arrays]
        else:
            tables = [array.reshape(len(array), -1) for array in arrays]
    tables = [for_cosine(table) for table in tables] if distance == "cosine" else tables
    names = ["samples", "training", *(["held_out"] if held_out is not None else []),
             *(["against"] if against is not None else [])]
    measured = measure(
        **dict(zip(names, tables, strict=True)), squared=squared, delta_m=delta_m, delta_s=delta_s, device=device,
        progress=lambda blocks, label: progress(blocks, len(blocks), label),
    )
    return Audit(**dict(zip(names, sets, strict=True)), measured=measured, settings=settings)


def _together(sets: list[ImageSet], vouched: bool) -> list[np.ndarray]:
    """Return the arrays of all sets. Raises ValueError where they cannot belong to the training set, the second."""
    training, arrays = sets[1].images, []
    for part in (sets[0], *sets[2:]):
        assert training is not None and part.images is not None
        training, other = brought_together(training, part.images, (sets[1].path, part.path), vouched)
        arrays.append(other.array)
    assert training is not None
    return [arrays[0], training.array, *arrays[1:]]
