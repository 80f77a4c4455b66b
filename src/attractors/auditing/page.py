"""The page of an audit: one file with the answer, the pairs behind it, and sliders for the thresholds."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from attractors.auditing.measure import STEPS, steps_of
from attractors.distances.detection import TYPES
from attractors.yardsticks.ratio import distance_ratio

if TYPE_CHECKING:
    from attractors.auditing.measure import Measurement
    from attractors.auditing.sets import ImageSet

HERE = Path(__file__).parent
REPORT = HERE.parent / "report"
TILE = 96  # pixels of a picture's longer side on the page
CLOSEST, EVEN, GROUPS, MEMBERS = 12, 12, 8, 8
WIDTH, HEIGHT, LEFT, BASE = 640, 240, 44, 200  # of the curves, their left end and their zero


def tile(images: ImageSet, number: int) -> str:
    """Return one image as a data URI: PNG, at most TILE pixels to a side."""
    picture, buffer = images.picture(number), io.BytesIO()
    picture.thumbnail((TILE, TILE))
    picture.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shares_over(cells: np.ndarray, column: int) -> np.ndarray:
    """Return the shares of TYPES for each step of delta_m where delta_s is step `column`: [steps, 3].

    cells: as `Measurement.cells` counts them. page.js computes the same.
    """
    memorized = cells.sum(1).cumsum()[:-1]
    spurious = cells[:, : column + 1].sum() - cells[:, : column + 1].sum(1).cumsum()[:-1]
    return np.stack([memorized, spurious, cells.sum() - memorized - spurious], 1) / cells.sum()


def _points(shares: Iterable[float]) -> str:
    step = (WIDTH - LEFT - 10) / (len(STEPS) - 1)
    return " ".join(f"{LEFT + i * step:.1f},{BASE - 180 * share:.1f}" for i, share in enumerate(shares))


def _pairs(
    measured: Measurement, samples: ImageSet, training: ImageSet, chosen: Iterable[int]
) -> Iterator[dict[str, Any]]:
    near = measured.samples
    ratio = distance_ratio(near.to_training)
    for i in map(int, chosen):
        j = int(near.training[i, 0])
        yield {
            "sample": tile(samples, i), "training": tile(training, j), "number": i, "other": j,
            "file": samples.names[i], "other_file": training.names[j], "d": f"{near.to_training[i, 0]:.4g}",
            "ratio": f"{ratio[i]:.2f}", "type": TYPES[measured.codes[i]],
        }


def _groups(images: ImageSet, parts: list[np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"size": len(part), "members": [(tile(images, i), i, images.names[i]) for i in part[:MEMBERS].tolist()]}
        for part in parts[:GROUPS]
    ]


def html(measured: Measurement, samples: ImageSet, training: ImageSet, **shown: Any) -> str:
    """Return the page of an audit as text. shown: sentence, reasons, settings, and the path of other samples or ""."""
    cells = measured.cells()
    order = np.argsort(measured.samples.to_training[:, 0], kind="stable")
    quantiles = order[np.linspace(0, len(order) - 1, EVEN).round().astype(int)]
    edges = [steps_of(threshold.value) for threshold in (measured.delta_m, measured.delta_s)]
    real = np.searchsorted(np.sort(measured.real_distances), edges[0].astype(np.float32), "right")
    chance = real / len(measured.real_distances)
    middle = len(STEPS) // 2
    data = {"cells": cells.tolist(), "delta_m": edges[0].tolist(), "delta_s": edges[1].tolist(),
            "chance": chance.tolist(), "left": LEFT, "base": BASE, "width": WIDTH - LEFT - 10}
    compared = []
    if measured.against is not None:
        other = measured.shares(measured.against)
        for kind, change in measured.difference().items():
            verdict = "more than noise" if change["p"] < 0.05 else "no more than noise"
            compared.append((kind, measured.shares()[kind], other[kind], f"{change['p']:.2g}", verdict))
    repeated = measured.repeated_samples(), measured.repeated_training()
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader([HERE, REPORT]), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html").render(
        **shown, measured=measured, shares=measured.shares(), types=TYPES,
        style=Markup((REPORT / "page.css").read_text("utf-8")), script=Markup((HERE / "page.js").read_text("utf-8")),
        data=Markup(json.dumps(data).replace("<", "\\u003c")), middle=middle, steps=len(STEPS),
        curves=[_points(column) for column in shares_over(cells, middle).T], chance=_points(chance),
        ends=(f"{edges[0][0]:.3g}", f"{edges[0][middle]:.3g}", f"{edges[0][-1]:.3g}"),
        closest=list(_pairs(measured, samples, training, order[:CLOSEST])), compared=compared,
        even=list(_pairs(measured, samples, training, quantiles)),
        samples=_groups(samples, repeated[0]), training=_groups(training, repeated[1]),
        repeated=[(len(parts), sum(map(len, parts))) for parts in repeated],
    )
