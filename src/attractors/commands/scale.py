"""Choose the scale: which sweeps and case studies, and so which runs, `dvc repro` makes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from attractors.cli.settings import CHECKOUT, ROOT, check_names, read_yaml
from attractors.data.prompts import prompts_of
from attractors.distances.detection import DISTANCES
from attractors.files import atomic
from attractors.settings.network import CLOSED_FORM
from attractors.settings.sweep import study_settings, sweep_settings

SCALES = {
    "laptop": ["digits", "digits-exact", "digits-linear"],
    "yardsticks": ["digits", "digits-exact", "digits-linear", "digits-time"],
    "widths": ["digits-narrow", "digits", "digits-wide", "digits-wider"],
    "desk": [
        "mnist-desk",
        "mnist-desk-exact",
        "mnist-desk-linear",
        "fashion_mnist-desk",
        "fashion_mnist-desk-exact",
        "fashion_mnist-desk-linear",
    ],
    "mnist": ["mnist-128"],
    "fashion_mnist": ["fashion_mnist-128"],
    "cifar10": ["cifar10-64", "cifar10-96", "cifar10-128"],
    "lsun_church": ["lsun_church-64", "lsun_church-96", "lsun_church-128"],
}
SCALES["paper"] = [sweep for scale in ("mnist", "fashion_mnist", "cifar10", "lsun_church") for sweep in SCALES[scale]]


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


def runs_of(names: Sequence[str], folder: Path = ROOT / "sweeps", studies: Path = ROOT / "prompts") -> dict:
    """Return what runs.yaml holds for scales, sweeps or case studies `names`. Raises ValueError.

    datasets; their orders by name, one for each replicate that has training sets of its own; backbones of LPIPS that
    are needed; sweeps by name; those of them that are learned (all but the controls in closed form); datasets with
    several learned sweeps, as networks of several widths are; runs by name, with the name of their files, K or K-R for
    replicate R from 1, and the backbones that their neighbours and basin stages read; sweeps along training, whose two
    networks for each K, on disjoint images, are snapshots, and pairs together; studies by name; their prompts by name.
    A study or a sweep along training by itself comes with the laptop's sweeps.
    """
    known, cases = names_in(folder), names_in(studies)
    chosen, settings, chosen_cases, along = {}, {}, {}, {}
    alone = {name for name, path in known.items() if "train_snapshots" in read_yaml(path)} | set(cases)
    for name in names if set(names) - alone else [*names, "laptop"]:
        for sweep in SCALES.get(name, [name]):
            if sweep not in known | cases:
                raise ValueError(
                    f"{name}: neither a scale ({', '.join(SCALES)}) nor a sweep ({', '.join(sorted(known))}) "
                    f"nor a case study ({', '.join(sorted(cases))})"
                )
            if sweep in cases:
                chosen_cases[sweep] = read_yaml(cases[sweep])
                check_names([sweep, *prompts_of(chosen_cases[sweep], cases[sweep])], cases[sweep])
                study_settings(chosen_cases[sweep], {}, cases[sweep])
            else:
                content, found = read_sweep(known[sweep])
                if "train_snapshots" in found:
                    along[sweep] = content["dataset"], found["train_snapshots"]["sizes"]
                else:
                    chosen[sweep], settings[sweep] = content, found
    if twins := sorted(one for one in chosen if one.lower() in [other.lower() for other in chosen if other != one]):
        raise ValueError(f"{', '.join(twins)}: sweeps whose files are the same where case does not count; rename one")
    sweeps = {
        sweep: {"dataset": content["dataset"], "neighbours": backbone(settings[sweep]["neighbours"]["distance"])}
        for sweep, content in chosen.items()
    }
    runs, subsets = {}, {}
    for sweep, content in chosen.items():
        grid = settings[sweep]["classify"]
        for size, models in zip(grid["sizes"], grid["replicates"], strict=True):
            for replicate in range(models):
                name, own = numbered(size, replicate), replicate if content.get("new_subsets") else 0
                dataset, subset = content["dataset"], numbered(content["dataset"], own)
                subsets[subset] = {"dataset": dataset, "replicate": own}
                runs[f"{sweep}-{name}"] = {
                    "sweep": sweep, "size": size, "replicate": replicate, "file": name, "subset": subset,
                    **sweeps[sweep], "basin": backbone(settings[sweep]["basin"]["distance"]),
                }
    learned = {
        name: dict(sweep) for name, sweep in sweeps.items() if chosen[name]["network"]["name"] not in CLOSED_FORM
    }
    pairs = {
        f"{sweep}-{size}": {"sweep": sweep, "size": size, "subset": dataset}
        for sweep, (dataset, grid) in along.items()
        for size in grid
    }
    snapshots = {
        f"{name}-{part}": {**pair, "file": f"{pair['size']}-{part}", "replicate": part, "skip": part * pair["size"]}
        for name, pair in pairs.items()
        for part in (0, 1)
    }
    subsets |= {dataset: {"dataset": dataset, "replicate": 0} for dataset, _ in along.values()}
    datasets = sorted({content["dataset"] for content in chosen.values()})
    several = {name for name in datasets if sum(sweep["dataset"] == name for sweep in learned.values()) > 1}
    widths = {name: {"dataset": name} for name in sorted(several)}
    prompts = {
        f"{study}-{name}": {"study": study, "prompt": name}
        for study, content in chosen_cases.items()
        for name in prompts_of(content, cases[study])
    }
    backbones = {run[stage] for run in runs.values() for stage in ("neighbours", "basin")} - {"none"}
    backbones |= {"alex"} if chosen_cases else set()  # for their stability
    studies = {study: {"model": content["model"]} for study, content in chosen_cases.items()}
    return {
        "datasets": datasets, "subsets": subsets, "lpips": sorted(backbones), "sweeps": sweeps,
        "learned": learned, "widths": widths, "runs": runs,
        "along": {name: {"dataset": dataset} for name, (dataset, _) in along.items()}, "snapshots": snapshots,
        "pairs": pairs, "studies": studies, "prompts": prompts,
    }


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
        content = runs_of(names)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAMES") from None
    yaml = YAML()
    yaml.width, yaml.default_flow_style = 240, None
    with atomic(out) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"# Written by: python src/main.py scale {' '.join(names)}\n")
        yaml.dump(content, file)
    prompts = f", {len(content['prompts'])} prompts of {', '.join(content['studies'])}" if content["studies"] else ""
    click.echo(f"{out}: {len(content['runs'])} runs of {', '.join(content['sweeps'])}{prompts}; next: dvc repro")


if __name__ == "__main__":
    main()
