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

if TYPE_CHECKING:
    from attractors.auditing.audit import Audit
    from attractors.auditing.sets import ImageSet

HERE = Path(__file__).parent
STYLE = HERE.parent / "report" / "page.css"
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


def _pairs(audit: Audit, chosen: Iterable[int]) -> Iterator[dict[str, Any]]:
    near = audit.measured.samples
    for i in map(int, chosen):
        j, (first, second) = int(near.training[i, 0]), near.to_training[i]
        yield {
            "sample": tile(audit.samples, i), "training": tile(audit.training, j), "number": i, "other": j,
            "file": audit.samples.names[i], "other_file": audit.training.names[j], "d": f"{first:.4g}",
            "ratio": f"{first / second:.2f}" if second > 0 else "-", "type": TYPES[audit.measured.codes[i]],
        }


def _groups(images: ImageSet, parts: list[np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"size": len(part), "members": [(tile(images, i), i, images.names[i]) for i in part[:MEMBERS].tolist()]}
        for part in parts[:GROUPS]
    ]


def html(audit: Audit) -> str:
    """Return the page of an audit as text."""
    from attractors.auditing.audit import said

    measured, cells = audit.measured, audit.measured.cells()
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
        other = measured.shares(measured.types(measured.against))
        for kind, change in measured.difference().items():
            verdict = "more than noise" if change["p"] < 0.05 else "no more than noise"
            compared.append((kind, said(measured.shares()[kind]), said(other[kind]), f"{change['p']:.2g}", verdict))
    repeated = measured.repeated_samples(), measured.repeated_training()
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True)
    return environment.get_template("page.html").render(
        audit=audit, style=Markup(STYLE.read_text("utf-8")), script=Markup((HERE / "page.js").read_text("utf-8")),
        data=Markup(json.dumps(data).replace("<", "\\u003c")), types=TYPES, shares=measured.shares(), said=said,
        curves=[_points(column) for column in shares_over(cells, middle).T], chance=_points(chance),
        ends=(f"{edges[0][0]:.3g}", f"{edges[0][middle]:.3g}", f"{edges[0][-1]:.3g}"), middle=middle, steps=len(STEPS),
        closest=list(_pairs(audit, order[:CLOSEST])), even=list(_pairs(audit, quantiles)), compared=compared,
        samples=_groups(audit.samples, repeated[0]), training=_groups(audit.training, repeated[1]),
        repeated=[(len(parts), sum(map(len, parts))) for parts in repeated], summary=audit.summary(),
    )
