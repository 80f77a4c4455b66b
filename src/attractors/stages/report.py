"""Write one page with every figure of the paper, what it says, what this run shows, and an explorer of thresholds."""

import base64
import contextlib
import gzip
import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import metadata
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from attractors.cli.progress import progress
from attractors.cli.settings import ROOT, read_runs
from attractors.cli.stage import data_option, metrics_option, out_option, stage
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure, figures
from attractors.files import atomic, file_hash
from attractors.report.explorer import GRID, PER_DECADE, explore
from attractors.report.words import answer, claims, headline, tally
from attractors.results.replicates import counts_of, dispersions
from attractors.results.run import Run

PAGE = Path(__file__).parents[1] / "report"
ANSWER = "figure_transition"  # stands first: what one opens the report for
SHOWN = 200  # longer tables are for downloading only
# figures whose colours dark mode leaves as they are
IMAGES = ("samples", "interpolation", "stable_diffusion", "toy")
RANKS = 128  # of a spectrum in such a table
COMPRESSED = 10_000  # bytes of a table above which it is a .gz
LOSSLESS = 100_000  # bytes of a picture above which it is not lossless
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib", "dvc", "vl-convert-python")


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as a data: URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def found(folder: Path, patterns: Iterable[str], names: Iterable[str], suffix: str) -> Iterator[list[Path]]:
    """Yield lists of the files that patterns name, where {} stands for each name.

    A list is FOLDER/x.suffix alone, or the files of each folder in FOLDER/x, sorted by K or name.
    """
    for pattern in patterns:
        for name in names if "{}" in pattern else [""]:
            path = folder / pattern.format(name)
            if (single := path.with_name(path.name + suffix)).is_file():
                yield [single]
            elif path.is_dir():
                files = sorted(path.rglob(f"*{suffix}"), key=lambda part: (part.parent, len(part.stem), part.stem))
                yield from (list(group) for _, group in groupby(files, key=lambda part: part.parent))


def thinned(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return (at most RANKS of the ranks in a table of spectra, evenly spaced; words that say so)."""
    ranks = frame["rank"].astype(int) if "rank" in frame else pd.Series(dtype=int)
    if not len(ranks) or ranks.max() <= 4 * RANKS:
        return frame, ""
    kept = np.linspace(1, ranks.max(), RANKS).round().astype(int)
    return frame[ranks.isin(kept)], f"{RANKS} of {ranks.max():,} ranks; "


def table(paths: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Return what the page shows of a table, and the table to download.

    It is one file, or those of a folder as one.
    """
    frame = pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths], ignore_index=True)
    relative, content, words = paths[0].relative_to(folder.parent), paths[0].read_bytes(), ""
    if len(paths) > 1:
        relative = relative.parent
        frame, words = thinned(frame.fillna(""))
        content, words = frame.to_csv(index=False).encode(), f"{words}{len(paths)} files joined"
    file, kind = f"{'-'.join(relative.with_suffix('').parts[1:])}.csv", "text/csv"
    if len(content) > COMPRESSED:
        content, file, kind = gzip.compress(content, mtime=0), f"{file}.gz", "application/gzip"
    return {
        "path": str(relative), "file": file, "uri": data_uri(content, kind), "rows": len(frame), "words": words,
        "columns": list(frame), "cells": frame.to_numpy().tolist() if len(frame) <= SHOWN else None,
    }


def picture(path: Path, folder: Path, title: str, chart: bool) -> dict[str, Any]:
    """Return a picture as WebP, with its size, so that the page does not jump.

    A chart keeps 64 colours and loses nothing else. Any other picture loses nothing where that is at most LOSSLESS.
    """
    relative, content = path.relative_to(folder.parent), BytesIO()
    with Image.open(path) as image:
        width, height = image.size
        kept = image.convert("RGB").quantize(64).convert("RGB") if chart else image
        kept.save(content, "webp", lossless=True, exact=True, method=4)
        if content.tell() > LOSSLESS:
            content = BytesIO()
            image.save(content, "webp", quality=75, method=4)
    uri = data_uri(content.getvalue(), "image/webp")
    return {"path": str(relative), "uri": uri, "width": width, "height": height, "alt": f"{title} ({path.stem})"}


def entry(
    figure: Figure, run: Run, plots: Path, datasets: tuple[str, ...], used: list[Path], threads: Executor
) -> dict[str, Any]:
    """Return one figure for the page, and add the files that it is made of to `used`.

    Its pictures are an iterator, which waits for `threads` to make them.
    """
    sweeps = run.learned + run.controls + run.studies
    names = tuple(dict.fromkeys(run.learned + datasets + run.studies))
    pictures = [path for paths in found(plots, figure.pictures, names, ".png") for path in paths]
    tables = list(found(run.metrics, figure.tables, sweeps, ".csv"))
    chart = figure.stage.removeprefix("figure_") not in IMAGES
    used.extend(pictures + [path for paths in tables for path in paths])
    return {
        "chart": chart, "supplement": figure.supplement,
        "label": figure.label, "title": figure.title, "paper": figure.paper, "findings": list(figure.findings(run)),
        "pictures": threads.map(lambda path: picture(path, plots, figure.title, chart), pictures),
        "tables": [table(paths, run.metrics) for paths in tables],
    }


def intervals(limits: pd.DataFrame, column: str) -> Iterator[str]:
    """Yield the 95% interval of each threshold in words, which is that of its valley."""
    for row in limits.to_dict("records"):
        ends = [row[f"{column}_valley_{end}"] for end in ("low", "high")]
        yield "{:.3g} to {:.3g}".format(*ends) if row[f"{column}_source"] == "valley" else "none"


def thresholds(name: str, run: Run) -> dict[str, Any]:
    """Return the table of thresholds of a sweep, in short."""
    limits = run.table("thresholds", name)
    rows = {"K": limits.K}
    for column in ("delta_m", "delta_s"):
        rows[column] = limits[column].map("{:.4g}".format)
        rows[f"{column}, 95% interval"] = list(intervals(limits, column))
        rows[f"{column} from"] = limits[f"{column}_source"]
        rows[f"{column} at most"] = limits[f"{column}_bound"].map("{:.4g}".format)
    path = run.metrics / "thresholds" / f"{name}.csv"
    return table([path], run.metrics) | {
        "columns": list(rows),
        "cells": pd.DataFrame(rows).astype(str).to_numpy().tolist(),
    }


def versions() -> list[tuple[str, str]]:
    """Return (name, version) of Python and of the installed packages that the numbers and this page come from."""
    found = [("Python", platform.python_version())]
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append((name, metadata.version(name)))
    return found


def setting(name: str, limits: pd.DataFrame, column: str) -> str:
    """Return what `-S COLUMN=` must say so that the thresholds of a sweep are those in `limits`, its table of them."""
    rules = {
        size: f"{value}" if source == "given" else source if source == "ratio" else "auto"
        for size, value, source in zip(limits.K, limits[column], limits[f"{column}_source"], strict=True)
    }
    first, *others = dict.fromkeys(rules.values())
    return f"{{{name}: {{{', '.join(f'{size}: {rule}' for size, rule in rules.items())}}}}}" if others else first


def explored(name: str, dataset: str, run: Run, examples: int) -> dict[str, Any] | None:
    """Return the explorer's data of a sweep, or None where its neighbours are not on this machine.

    Raises ValueError where tables and neighbours are not of the same run.
    """
    limits, shares = run.table("thresholds", name), run.table("fractions", name)
    needed = [
        run.data / kind / name / f"{size}.safetensors" for kind in ("neighbours", "synthetic") for size in limits.K
    ]
    if not all(path.is_file() for path in needed):
        return None
    content, counted = explore(name, run.data / "subsets" / f"{dataset}.safetensors", run, limits, examples)
    ratio = dict(zip(limits.K, limits.delta_m_source, strict=True))  # a rule that no pair of thresholds replaces
    for size, row in zip(shares.K, shares[list(TYPES)].to_numpy(), strict=True):
        if ratio.get(size) != "ratio" and np.abs(counted[size] - row).max() > 1e-4:
            raise ValueError(f"{run.metrics}/fractions/{name}.csv: not of {run.data}/neighbours/{name} at K={size}")
    single = run.replicates("fractions", name)  # as `classify` has it: how much replicates differ beyond sampling
    phis = dispersions(counts_of(single))
    for row, phi in zip(content["runs"], phis, strict=True):
        row |= {"dispersion": phi.value, "quantile": phi.quantile()}
    given = {axis: setting(name, limits, f"delta_{axis}") for axis in "ms"}
    return content | {"given": given, "start": int(shares.spurious.idxmax())}


def share(budget: float, sweeps: int, sizes: int, tile: int) -> int:
    """Return how many samples near each threshold keep `sizes` runs of each of `sweeps` within a budget of bytes."""
    return int(np.clip(budget / (sweeps * sizes * 2 * 9 * tile), 4, 32))


def embedded(text: str) -> Markup:
    """Return text as base64 of its gzip, which may stand in a script element; explorer.js unpacks it."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


@stage("report")
@click.option("--runs", type=click.Path(dir_okay=False, path_type=Path), default=ROOT / "runs.yaml",
              show_default="runs.yaml", help="The sweeps to report.")
@metrics_option
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), default="plots", help="Folder of figures.")
@data_option
@click.option("--settings", type=click.Path(exists=True, path_type=Path), multiple=True,
              default=["params.yaml", "sweeps", "prompts"],
              help="Files to show; folders with a file for each sweep.")
@click.option("--examples", type=click.IntRange(4), help="Samples kept near each threshold.  [default: what fits]")
@click.option("--library", type=click.Path(dir_okay=False, path_type=Path),
              help="Write Vega here too, for the pages of `dvc plots` without a network.")
@out_option
def main(
    runs: Path, metrics: Path, plots: Path, data: Path, settings: tuple[Path, ...], examples: int | None,
    library: Path | None, out: str,
) -> None:
    """Write the report of the sweeps in RUNS as one file that needs no other."""
    import vl_convert

    sweeps = read_runs(runs)
    learned = tuple(sweeps["learned"])
    controls = tuple(name for name in sweeps["sweeps"] if name not in learned)
    run = Run(metrics, learned, controls, tuple(sweeps.get("studies", ())), data)
    names, used = run.learned + run.controls, [runs]
    answer_first = sorted(figures(), key=lambda figure: figure.stage != ANSWER)
    with ThreadPoolExecutor() as threads:  # both of these let go of Python's lock while they work
        vega = threads.submit(vl_convert.javascript_bundle)  # type: ignore[call-arg]
        entries = [entry(figure, run, plots, tuple(sweeps["datasets"]), used, threads) for figure in answer_first]
        for shown in entries:
            shown["pictures"] = list(shown["pictures"])
    explorers = []
    for name in progress(names, "report", "sweep"):
        if run.table("thresholds", name) is not None:
            count = examples or share(15e6, len(names), len(run.table("thresholds", name)), 1500)
            explorers.append(explored(name, sweeps["sweeps"][name]["dataset"], run, count))
    explorers = [explorer for explorer in explorers if explorer]
    shown = [f"{name}.yaml" for name in names + run.studies]
    files = [part for path in settings for part in ([path / name for name in shown] if path.is_dir() else [path])]
    used += [path for path in files if path.is_file()]
    hashes = [(runs.name if path == runs else str(path), file_hash(path)) for path in dict.fromkeys(used)] + [
        (f"{explorer['name']}, K = {part['K']}: {source} images", value)
        for explorer in explorers for part in explorer["runs"] for source, value in part["images"].items()
    ]
    statements = claims(run)
    content = {"grid": GRID.tolist(), "per_decade": PER_DECADE, "sweeps": explorers}
    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("page.html").render(
        learned=learned, figures=entries, sweeps=explorers, headline=headline(run), answer=answer(run),
        claims=statements, tallies=[tally(each) for each in statements],
        versions=versions(),
        thresholds=[thresholds(name, run) for name in names if run.table("thresholds", name) is not None],
        parameters=[{"name": str(path), "text": path.read_text("utf-8")} for path in files if path.is_file()],
        hashes=hashes,
        style=Markup((PAGE / "page.css").read_text("utf-8")), script=Markup((PAGE / "explorer.js").read_text("utf-8")),
        vega=embedded(vega.result()), sweeps_json=embedded(json.dumps(content, separators=(",", ":"), allow_nan=False)),
    )
    for path, content in {out: page, library: vega.result()}.items():
        if path:
            with atomic(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
    drawn = sum(bool(figure["pictures"]) for figure in entries)
    click.echo(
        f"{out}: {drawn} of {len(entries)} figures, explorer of {len(explorers)} sweeps, {len(page) / 1e6:.1f} MB"
    )
