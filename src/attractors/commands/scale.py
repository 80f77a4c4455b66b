"""Choose the scale: which sweeps and case studies, and so which runs, `dvc repro` makes."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from attractors.cli.settings import CHECKOUT, ROOT, check_names, read_yaml
from attractors.cli.sweep import study_settings, sweep_settings
from attractors.data.prompts import prompts_of
from attractors.data.subsets import sizes
from attractors.distances.detection import DISTANCES
from attractors.files import atomic
from attractors.settings.network import CLOSED_FORM
from attractors.settings.train import Release

SCALES = {
    "laptop": ["digits", "digits-exact", "digits-linear"],
    "yardsticks": ["digits", "digits-exact", "digits-linear", "digits-time"],
    "phase": ["digits-phase"],
    "widths": ["digits-narrow", "digits", "digits-wide", "digits-wider"],
    "desk": [
        "mnist-desk", "mnist-desk-exact", "mnist-desk-linear", "fashion_mnist-desk", "fashion_mnist-desk-exact",
        "fashion_mnist-desk-linear",
    ],
    "cifar10-desk": ["cifar10-desk", "cifar10-desk-exact", "cifar10-desk-linear", "cifar10-desk-phase"],
    "mnist": ["mnist-128"],
    "fashion_mnist": ["fashion_mnist-128"],
    "cifar10": ["cifar10-64", "cifar10-96", "cifar10-128"],
    "lsun_church": ["lsun_church-64", "lsun_church-96", "lsun_church-128"],
}
SCALES["paper"] = [sweep for scale in ("mnist", "fashion_mnist", "cifar10", "lsun_church") for sweep in SCALES[scale]]
for name in ("paper", "cifar10", "lsun_church", "mnist", "fashion_mnist"):
    SCALES["released" if name == "paper" else f"released-{name}"] = [f"released-{sweep}" for sweep in SCALES[name]]


def names_in(folder: Path) -> dict[str, Path]:
    """Return the files of settings in a folder by name."""
    return {path.stem: path for path in sorted(Path(folder).glob("*.yaml"))}


def backbone(distance: str) -> str:
    """Return the network whose weights a stage reads to measure l2, lpips_alex or lpips_vgg: none, alex or vgg."""
    return DISTANCES[distance] or "none"


def numbered(name: str | int, replicate: int) -> str:
    """Return the name of a replicate's file: NAME for the first, and NAME-R for replicate R."""
    return f"{name}-{replicate}" if replicate else str(name)


def read_sweep(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(A sweep's file, the settings of each of its stages), checked as a whole against params.yaml and the defaults.

    Raises ValueError or click.BadParameter where a setting is unknown or invalid, and where the sweep's name or that
    of its dataset could be more than a name to a shell.
    """
    content, params = read_yaml(path), read_yaml(CHECKOUT / "params.yaml") if CHECKOUT else {}
    check_names([path.stem, content.get("dataset")], path)
    return content, sweep_settings(content, params, path)


def chosen_files(names: Sequence[str], folder: Path, studies: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the files of the sweeps and of the case studies that `names` stand for, by name. Raises ValueError.

    A study or a sweep along training by itself comes with the laptop's sweeps.
    """
    known, cases = names_in(folder), names_in(studies)
    alone = {name for name, path in known.items() if "train_snapshots" in read_yaml(path)} | set(cases)
    chosen = {}
    for name in names if set(names) - alone else [*names, "laptop"]:
        for sweep in SCALES.get(name, [name]):
            if sweep not in known | cases:
                raise ValueError(
                    f"{name}: neither a scale ({', '.join(SCALES)}) nor a sweep of sweeps/ nor a case study of prompts/"
                    "; python src/main.py scale --help lists all names"
                )
            chosen[sweep] = (cases | known)[sweep]
    if twins := sorted(one for one in chosen if one.lower() in [other.lower() for other in chosen if other != one]):
        raise ValueError(f"{', '.join(twins)}: sweeps whose files are the same where case does not count; rename one")
    return ({name: path for name, path in chosen.items() if name in known},
            {name: path for name, path in chosen.items() if name not in known})


def runs_of(names: Sequence[str], folder: Path = ROOT / "sweeps", studies: Path = ROOT / "prompts") -> dict:
    """Return what runs.yaml holds for scales, sweeps or case studies `names`. Raises ValueError.

    datasets; subsets, the orders of their images, one for each replicate that has training sets of its own; backbones
    of LPIPS that are needed; sweeps, each with its dataset and the backbones that its stages neighbours and basin read;
    those of them that are learned (all but the controls in closed form); photographs, the learned sweeps whose distance
    is LPIPS; datasets with several learned sweeps, as networks of several widths are; runs, each with what its sweep
    has and the name of its files, K, or K-R for replicate R from 1; sweeps along training, whose two networks for each
    K, on disjoint images, are snapshots, and pairs together; studies and their prompts.
    """
    files, cases = chosen_files(names, folder, studies)
    runs, subsets, sweeps, learned, along, snapshots, pairs = {}, {}, {}, {}, {}, {}, {}
    for sweep, path in files.items():
        content, settings = read_sweep(path)
        dataset = content["dataset"]
        if "train_snapshots" in settings:
            along[sweep], subsets[dataset] = {"dataset": dataset}, {"dataset": dataset, "replicate": 0}
            for size in settings["train_snapshots"]["sizes"]:
                pairs[f"{sweep}-{size}"] = pair = {"sweep": sweep, "size": size, "subset": dataset}
                for part in (0, 1):
                    rest = {"file": f"{size}-{part}", "replicate": part, "skip": part * size}
                    snapshots[f"{sweep}-{size}-{part}"] = pair | rest
            continue
        sweeps[sweep] = {"sweep": sweep, "dataset": dataset, "subset": dataset}
        sweeps[sweep] |= {stage: backbone(settings[stage]["distance"]) for stage in ("neighbours", "basin")}
        if content["network"]["name"] not in CLOSED_FORM:
            learned[sweep] = sweeps[sweep]
        for size, models in zip(settings["classify"]["sizes"], settings["classify"]["replicates"], strict=True):
            for replicate in range(models):
                name, order = numbered(size, replicate), replicate if content.get("new_subsets") else 0
                subset = numbered(dataset, order)
                subsets[subset] = {"dataset": dataset, "replicate": order}
                own = {"size": size, "replicate": replicate, "file": name, "subset": subset}
                runs[f"{sweep}-{name}"] = sweeps[sweep] | own
    datasets = sorted({sweep["dataset"] for sweep in sweeps.values()})
    several = [name for name in datasets if sum(sweep["dataset"] == name for sweep in learned.values()) > 1]
    models, prompts = {}, {}
    for study, path in cases.items():
        content = read_yaml(path)
        check_names([study, *prompts_of(content, path)], path)
        study_settings(content, {}, path)
        models[study] = {"model": content["model"]}
        prompts |= {f"{study}-{name}": {"study": study, "prompt": name} for name in prompts_of(content, path)}
    backbones = {sweep[stage] for sweep in sweeps.values() for stage in ("neighbours", "basin")} - {"none"}
    photographs = {name: sweep for name, sweep in learned.items() if sweep["neighbours"] != "none"}
    backbones |= {"alex", "vgg"} if photographs else {"alex"} if cases else set()  # for quality, and for stability
    return {
        "datasets": datasets, "subsets": subsets, "lpips": sorted(backbones), "sweeps": sweeps, "learned": learned,
        "photographs": photographs, "widths": {name: {"dataset": name} for name in several}, "runs": runs,
        "along": along, "snapshots": snapshots, "pairs": pairs, "studies": models, "prompts": prompts,
    }


def keep_to_repository(path: Path, held: Callable | None = None) -> Iterator[str]:
    """Make the sizes of a sweep of released models those that its repository holds, and yield lines that say so.

    A grid {a, b, total} in the file is replaced by the list, and a list stays. held: by default `released_sizes`.
    Raises ValueError for a list that names another K. Where the hub is out of reach, the file stays as it is.
    """
    content = read_yaml(path)
    values = {name: value for name, value in (content.get("train") or {}).items() if name in Release.model_fields}
    release = Release(**values)
    if not release.released:
        return
    if held is None:
        from attractors.denoisers.released import released_sizes  # imports torch, which other scales need not

        held = released_sizes
    try:
        present, commit = held(release)
    except ValueError as error:
        yield f"{path.name}: sizes are not held against the repository: {error}"
        return
    grid = sizes(content["sizes"])
    absent, besides = ([k for k in one if k not in other] for one, other in ((grid, present), (present, grid)))
    if isinstance(content["sizes"], list):
        if absent:
            raise ValueError(f"{path}: {release.released} has no K = {', '.join(map(str, absent))}; it has {present}")
        return
    said = f"{path.name}: {len(present)} sizes of {release.released} at commit {commit[:7]}"
    if not absent and not besides:
        yield f"{said}, the grid of B.1"
        return
    words = f"of the grid of B.1 without {absent or 'none'}, and with {besides or 'none'} besides"
    text = re.sub("(?m)^sizes:.*$", lambda _: f"# {words}\nsizes: {present}", path.read_text("utf-8"))
    with atomic(path) as partial:
        partial.write_text(text, "utf-8", newline="\n")
    yield f"{said}, {words}"


@cache
def scalar(value: str | int) -> str:
    """Return a word or number as YAML, in quotes only where it would be read as something else without."""
    return str(value) if YAML(typ="safe", pure=False).load(f"[{value}]") == [value] else json.dumps(value)


def lines_of(content: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of runs.yaml, which says nothing twice: an entry refers to its sweep and adds what is its own."""
    anchors = {name: f"sweep{number}" for number, name in enumerate(content["sweeps"], 1)}
    for section, entries in content.items():
        if not entries or isinstance(entries, list):
            yield f"{section}: " + ("{}" if entries == {} else f"[{', '.join(map(scalar, entries))}]")
            continue
        yield f"{section}:"
        for name, entry in entries.items():
            refers = section in ("learned", "photographs", "runs")
            sweep = content["sweeps"].get(entry.get("sweep"), {}) if refers else {}
            words = [f"{key}: {scalar(value)}" for key, value in entry.items() if sweep.get(key) != value]
            words = [f"<<: *{anchors[entry['sweep']]}", *words] if sweep else words
            mark = f"&{anchors[name]} " if section == "sweeps" else ""
            yield f"  {scalar(name)}: {mark}{{{', '.join(words)}}}"


@click.command(
    epilog=f"Scales: {', '.join(SCALES)}. Sweeps: {', '.join(names_in(ROOT / 'sweeps'))}; those called small take "
    f"minutes on a CPU. Case studies: {', '.join(names_in(ROOT / 'prompts'))}."
)
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=ROOT / "runs.yaml", help="The file to write."
)
def main(names: tuple[str, ...], out: str) -> None:
    """Write runs.yaml for NAMES: scales, sweeps or case studies."""
    try:
        folders = ROOT / "sweeps", ROOT / "prompts"
        for path in chosen_files(names, *folders)[0].values():
            for line in keep_to_repository(path):
                click.echo(line)
        content = runs_of(names, *folders)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAMES") from None
    lines = (f"# Written by: python src/main.py scale {' '.join(names)}", *lines_of(content))
    with atomic(out) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
    prompts = f", {len(content['prompts'])} prompts of {', '.join(content['studies'])}" if content["studies"] else ""
    click.echo(f"{out}: {len(content['runs'])} runs of {', '.join(content['sweeps'])}{prompts}; next: dvc repro")
