"""The content of the explorer in the report: exact counts over thresholds, and samples near them with their neighbours.

Thresholds are edges of a grid of 40 to the decade, written with six digits. Counts use the comparison of
`detection.classify` on the very numbers that are shown, so the fractions on the page equal those of `classify`.
"""

import base64
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from safetensors import safe_open

from attractors.arrays import read_arrays, read_record
from attractors.results.measured import Measured, measured
from attractors.results.run import Run

PER_DECADE = 40
STEPS = np.arange(-3 * PER_DECADE, 2 * PER_DECADE + 1)  # thresholds 10^(step/40): 1e-3 to 100
GRID = np.array([float(f"{10 ** (step / PER_DECADE):.6g}") for step in STEPS])
NEIGHBOURS = 4


def edges(automatic: float) -> np.ndarray:
    """Return the grid with one K's automatic threshold among it: [len(GRID) + 1], ascending."""
    return np.insert(GRID, np.searchsorted(GRID, automatic), automatic)


def cells(to_training: np.ndarray, within: np.ndarray, delta_m: float, delta_s: float) -> np.ndarray:
    """Count samples by the first edge that is at least each distance: [M, S], with M = S = len(GRID) + 2.

    to_training, within: [n] float32. delta_m, delta_s: the automatic thresholds, which are edges beside the grid. A
    sample is in row i or above exactly where `to_training <= edges[i]` in float32, as `detection.classify` compares.
    """
    size = len(GRID) + 2
    row, column = (
        np.searchsorted(edges(delta).astype(np.float32), distances)
        for distances, delta in ((to_training, delta_m), (within, delta_s))
    )
    return np.bincount(row * size + column, minlength=size**2).reshape(size, size)


def fractions(counts: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return the shares of TYPES (Eqs. 9-11) for edge `row` as delta_m and edge `column` as delta_s.

    explorer.js computes the same.
    """
    memorized, spurious = counts[: row + 1].sum(), counts[row + 1 :, : column + 1].sum()
    return np.array([memorized, spurious, counts.sum() - memorized - spurious]) / counts.sum()


def position(step: int, automatic: float) -> int:
    """Return the number that edge `step` of the grid has among `edges`."""
    return step + (automatic <= GRID[step])


def encoded(array: np.ndarray, dtype: str) -> str:
    """Return an array as base64 of its bytes in little-endian order."""
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def packed(counts: np.ndarray) -> dict[str, str]:
    """Return the cells that are not empty: their numbers and their counts."""
    flat = counts.ravel()
    filled = np.flatnonzero(flat)
    return {"cells": encoded(filled, "<u2"), "counts": encoded(flat[filled], "<u4")}


def spread(distances: np.ndarray, threshold: float, count: int) -> np.ndarray:
    """Choose up to `count` of distances: [n], ascending; return their positions.

    Half of them are nearest to the threshold, as many below as above. The others are evenly spaced in log-distance, so
    that every other threshold has some too.
    """
    order = np.argsort(distances, kind="stable")
    ranked = distances[order]
    middle, side = np.searchsorted(ranked, threshold, "right"), max(count // 4, 1)
    near = order[max(middle - side, 0) : middle + side]
    low, high = np.log10(np.maximum(ranked[[0, -1]], GRID[0]))
    targets = 10 ** np.linspace(low, high, max(count - len(near), 2))
    even = order[np.clip(np.searchsorted(ranked, targets * (1 - 1e-9)), 0, len(order) - 1)]
    chosen = np.unique(np.concatenate([near, even]))
    return chosen[np.argsort(distances[chosen], kind="stable")]


def pictures(path: str | Path, numbers: Iterable[int], side: int) -> dict[int, np.ndarray]:
    """Read images of one file by number, and no others: {number: [h, w] or [h, w, 3] uint8}, at most `side` wide.

    Grey images are dark on white, as in the figures.
    """
    record, found = read_record(path), {}
    with safe_open(path, "np") as file:
        images = file.get_slice("images")
        for number in sorted(set(numbers)):
            image = images[number : number + 1][0].transpose(1, 2, 0).astype(np.float64)
            image = image / record["maximum"] if "maximum" in record else image / 2 + 0.5
            image = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
            image = 255 - image[..., 0] if image.shape[2] == 1 else image
            if image.shape[1] > side:
                height = round(side * image.shape[0] / image.shape[1])
                image = np.asarray(Image.fromarray(image).resize((side, height), Image.Resampling.BOX))
            found[number] = image
    return found


class Sprite:
    """Small pictures in one image file, in which each picture is stored once."""

    COLUMNS = 64

    def __init__(self) -> None:
        self.tiles, self.numbers = [], {}

    def add(self, tile: np.ndarray) -> int:
        """Return the number of a picture: [h, w] or [h, w, 3] uint8."""
        key = tile.tobytes()
        if key not in self.numbers:
            self.numbers[key] = len(self.tiles)
            self.tiles.append(tile)
        return self.numbers[key]

    def file(self) -> dict[str, Any]:
        """Return the image file as a data URI, with its columns, rows, and the width and height of a tile.

        Grey pictures become a PNG, and colour ones a WebP.
        """
        shape = self.tiles[0].shape
        height, width = shape[:2]
        rows = -(-len(self.tiles) // self.COLUMNS)
        sheet = np.full((rows * height, self.COLUMNS * width, *shape[2:]), 255, np.uint8)
        for number, tile in enumerate(self.tiles):
            y, x = divmod(number, self.COLUMNS)
            sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
        buffer = io.BytesIO()
        if sheet.ndim == 2:
            Image.fromarray(sheet).save(buffer, "png", optimize=True)
            kind = "png"
        else:
            Image.fromarray(sheet).save(buffer, "webp", quality=85, method=4)
            kind = "webp"
        uri = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return {"uri": uri, "columns": self.COLUMNS, "rows": rows, "width": width, "height": height}


def known(run: Run, name: str, size: int, found: Mapping[str, Measured]) -> dict[int, dict[str, Any]]:
    """Return the measurements of single samples of one run: {sample: {quantity: value}}.

    found: what `results.measured.measured` returns of t_c, log_volume and energy. spectrum: 32 of a sample's singular
    values, evenly by rank, by Alg. 2, else by Alg. 3, else of the Jacobian.
    """
    told = {}
    for quantity, part in found.items():
        for number, value in zip(part.numbers.tolist(), np.round(part.values, 4).tolist(), strict=True):
            if np.isfinite(value):
                told.setdefault(number, {})[quantity] = value
    path = run.data / "curvature" / name / f"{size}.safetensors"
    if path.is_file():
        arrays, _ = read_arrays(path)
        spectra = next(arrays[method] for method in ("central", "one_sided", "jacobian") if method in arrays)
        ranks = np.unique(np.linspace(0, spectra.shape[1] - 1, 32).round().astype(int))
        for number, values in zip(arrays["numbers"].tolist(), spectra[:, ranks].tolist(), strict=True):
            told.setdefault(number, {})["spectrum"] = [float(f"{value:.3g}") for value in values]
    return told


def by_yardsticks(run: Run, name: str, size: int, numbers: Iterable[int]) -> dict[int, dict[str, float]]:
    """Return {sample: {ratio, adaptive, flipd}} for samples of replicate 0, as far as they were measured.

    ratio: d1 / d2 to the two nearest images of S. adaptive: the distance of Carlini et al. flipd: the local dimension
    of the model, measured for the first samples only. The result is empty without a file of the stage `yardsticks`.
    """
    path = run.data / "yardsticks" / name / f"{size}.safetensors"
    if not path.is_file():
        return {}
    arrays, _ = read_arrays(path)
    known = {"ratio": "ratio", "adaptive": "adaptive", "flipd": "samples_flipd"}
    return {
        int(number): {
            quantity: float(f"{arrays[array][number]:.4g}")
            for quantity, array in known.items()
            if array in arrays and number < len(arrays[array])
        }
        for number in numbers
    }


def embedded_measurements(
    found: Mapping[str, Measured], to_training: np.ndarray, within: np.ndarray
) -> dict[str, Any]:
    """Return what explorer.js needs for means by type at any thresholds, as `results.joined` has them.

    found: {quantity: Measured}. `arrays` has each array once, as float32, and every quantity has their positions there:
    of the two distances of its samples, of their weights and of their values, which are nan where there is none.
    """
    shared, parts = {}, {}
    for quantity, part in found.items():
        arrays = {"m": to_training[part.numbers], "s": within[part.numbers], "weights": part.weights}
        arrays["values"] = part.values
        parts[quantity] = {key: shared.setdefault(encoded(array, "<f4"), len(shared)) for key, array in arrays.items()}
    return {"arrays": list(shared), **parts}


def examples(
    chosen: Iterable[int], arrays: dict[str, np.ndarray], tiles: dict[str, dict[int, int]],
    quantities: Mapping[int, dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return an entry for each chosen sample: its number, distances and picture, and its neighbours in S and in S'."""
    entries = []
    for sample in map(int, chosen):
        entry = {"sample": sample, "tile": tiles["synthetic"][sample], **quantities.get(sample, {})}
        for source in ("training", "synthetic"):
            pairs = zip(arrays[f"{source}_indices"][sample], arrays[f"{source}_distances"][sample], strict=True)
            pairs = [(int(i), float(d)) for i, d in pairs if i >= 0][:NEIGHBOURS]
            entry[source] = [[i, tiles[source][i], float(f"{d:.9g}")] for i, d in pairs]
        entries.append(entry)
    return entries


def explore(
    name: str, subset: Path, run: Run, limits: pd.DataFrame, count: int, side: int = 32
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """Return what the explorer shows of sweep `name`, as JSON, and {K: fractions at automatic thresholds}.

    Counts and means are of all replicates, pictures of the first. limits: the table of thresholds. run: its folder of
    data has synthetic/, neighbours/ and, where measured, basin/, energy/ and curvature/. count: samples near each
    threshold at each K; at most `side` pixels wide.
    """
    sprite, runs, shares, data = Sprite(), [], {}, run.data
    for row in limits.itertuples():
        path = data / "neighbours" / name / f"{row.K}.safetensors"
        arrays, record = read_arrays(path)
        to_training, within = run.distances(name, row.K)
        first = len(arrays["training_distances"])  # samples of replicate 0, whose pictures are shown
        counts = cells(to_training, within, row.delta_m, row.delta_s)
        at = [np.searchsorted(GRID, delta) for delta in (row.delta_m, row.delta_s)]
        shares[row.K] = fractions(counts, *at)
        others = np.flatnonzero(to_training[:first] > row.delta_m)
        chosen = {"m": spread(to_training[:first], row.delta_m, count)}
        chosen["s"] = others[spread(within[others], row.delta_s, count)] if len(others) else chosen["m"][:0]
        both = np.unique(np.concatenate(list(chosen.values())))
        numbers = {
            "training": arrays["training_indices"][both, :NEIGHBOURS].ravel(),
            "synthetic": np.append(both, arrays["synthetic_indices"][both, :NEIGHBOURS]),
        }
        files = {"training": subset, "synthetic": data / "synthetic" / name / f"{row.K}.safetensors"}
        tiles = {
            source: {
                number: sprite.add(image)
                for number, image in pictures(files[source], [int(n) for n in numbers[source] if n >= 0], side).items()
            }
            for source in files
        }
        found = measured(run, name, row.K)
        quantities = known(run, name, row.K, found)
        for number, values in by_yardsticks(run, name, row.K, both).items():
            quantities.setdefault(number, {}).update(values)
        runs.append({
            "K": row.K, "count": len(within), "auto": [row.delta_m, row.delta_s], "at": [int(n) for n in at],
            **packed(counts), **{axis: examples(part, arrays, tiles, quantities) for axis, part in chosen.items()},
            "measured": embedded_measurements(found, to_training, within),
            "images": {source: record[f"{source}_sha256"] for source in ("training", "synthetic")},
        })
    return {"name": name, "metric": record["distance"], "runs": runs, "sprite": sprite.file()}, shares
