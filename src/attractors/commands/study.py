"""Plan a sweep for images of your own, so that `make repro` does the whole paper on them."""

import io
import os
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ruamel.yaml import YAML

from attractors import planning
from attractors.cli.checkout import check_checkout
from attractors.cli.images import range_option
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT, check_names
from attractors.cli.stage import seed_option, stage
from attractors.commands.scale import main as scale
from attractors.data.images import open_images
from attractors.denoisers.models import new_model
from attractors.denoisers.training import train
from attractors.files import atomic
from attractors.settings.train import Training


def timed(plan: planning.Plan, images: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the seconds of one step of training, and those of one evaluation of the network for one image."""
    s = torch.from_numpy(np.ascontiguousarray(images[:64]))
    model = new_model(plan.sections["network"], plan.sections["diffusion"], plan.shape, seed, s)
    train(model, s, Training(**plan.sections["train"] | {"iterations": 5}), seed)  # what only the first steps cost
    start = time.perf_counter()
    train(model, s, Training(**plan.sections["train"] | {"iterations": 40}), seed)
    step, start = (time.perf_counter() - start) / 40, time.perf_counter()
    with torch.inference_mode():
        for _ in range(3):
            model.denoised(s.repeat(4, 1, 1, 1), model.steps // 2)
    return step, (time.perf_counter() - start) / 3 / (4 * len(s))


def write(path: Path, comment: str, sections: dict) -> None:
    """Write the file of a sweep."""
    yaml, text = YAML(), io.StringIO()
    yaml.width, yaml.default_flow_style = 10_000, None
    yaml.dump(sections, text)
    lines = "\n".join(f"# {line}" for line in comment.splitlines())
    with atomic(path) as partial:
        partial.write_text(f"{lines}\n{text.getvalue()}", "utf-8", newline="\n")


def written(root: Path, name: str, plan: planning.Plan, images: np.ndarray, said: str) -> list[Path]:
    """Write the images, and the files of the sweep and of its two controls, below `root`; return their paths."""
    folder = root / "data" / "raw" / name
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "images.npz") as partial, open(partial, "wb") as file:
        np.savez(file, images=np.rint((images + 1) * 127.5).astype(np.uint8))
    first: dict[str, Any] = {"dataset": name, "sizes": plan.sizes}
    replicates: dict[Any, int] = {"default": 1, **dict.fromkeys(plan.repeated, 3)}
    many: dict[str, Any] = {"replicates": replicates, "new_subsets": True} if plan.repeated else {}
    process = {key: value for key, value in plan.sections["diffusion"].items() if key != "prediction"}
    paths = [root / "sweeps" / f"{name}{end}.yaml" for end in ("", "-exact", "-linear")]
    write(paths[0], said, first | many | plan.sections)
    learned = ("network", "diffusion", "train", "census")
    rest = {key: value for key, value in plan.sections.items() if key not in learned}
    for path, form, word in zip(paths[1:], ("exact", "linear"), ("memorizes", "generalizes"), strict=True):
        sizes = sorted({plan.sizes[0], plan.sizes[len(plan.sizes) // 2], plan.sizes[-1]})
        control: dict[str, Any] = first | {"sizes": sizes}
        control |= {"network": {"name": form}, "diffusion": process, "train": {"iterations": 0}}
        write(path, f"The control of {name} that {word} at every K, in closed form.", control | rest)
    return paths


@stage("study")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--name", default="mine", show_default=True, help="Of the dataset and the sweep.")
@click.option("--minutes", type=click.FloatRange(1), default=60, show_default=True,
              help="What the whole sweep may take on this machine's cores.")
@click.option("--pilot", "alone", is_flag=True, help="Only find out at how many images copying stops; write nothing.")
@range_option
@seed_option
def main(source: Path, name: str, minutes: float, alone: bool, values: str | None, seed: int) -> None:
    """Plan a sweep for the images in SOURCE, and write it: `make repro` then does the whole paper on them.

    SOURCE: a folder or a .zip of pictures of one size, .npz, .npy, whatever `subset` reads. It writes
    data/raw/NAME/images.npz (the images, reduced to 32 pixels to a side), sweeps/NAME.yaml, both controls, runs.yaml.
    Network, noise, distance and thresholds follow from the images, and the steps from the minutes, since a step is
    timed; a pilot of at most six small trainings, about a tenth of the minutes, finds the sizes.
    """
    check_checkout(ROOT)
    check_names([name], "--name")
    files = [ROOT / "sweeps" / f"{name}.yaml", ROOT / "data" / "raw" / name]
    if not alone and (present := [str(path.relative_to(ROOT)) for path in files if path.exists()]):
        raise click.BadParameter(f"{present[0]} exists; choose another, or remove it", param_hint="--name")
    images = planning.reduced(open_images(source, values=values).array)
    plan = planning.settings(images, seed)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    step, evaluation = timed(plan, images, seed)
    planning.within(plan, 60 * minutes * cores, step, evaluation)
    steps, few = (plan.sections["train"]["iterations"] // parts for parts in (1, planning.PILOT))
    given = f"one takes {1000 * step:.0f} ms, and {minutes:g} minutes of {cores} cores were given"
    said = [*plan.words(), f"{steps:,} steps for each model: {given}"]
    click.echo("\n".join(said))

    def copied(size: int, few: int) -> float:
        return planning.memorized(plan, images, size, few, seed, progress=lambda steps: progress(steps, f"K={size}"))

    half = 0.0
    for size, share, expected in planning.pilot(plan, copied):
        half = expected
        click.echo(f"pilot: {share:.0%} of the samples are copies at K = {size} after {few:,} steps")
    said.append(planning.answer(plan, half))
    click.echo(said[-1])
    if alone:
        return
    planning.place(plan, half)
    said = [f"Written by: python src/main.py study {source.name} --name {name} --minutes {minutes:g}", *said]
    paths = written(ROOT, name, plan, images, "\n".join(said))
    click.echo(f"sizes {', '.join(map(str, plan.sizes))}; three replicates at {plan.repeated or 'none'}; written: "
               f"{', '.join(str(path.relative_to(ROOT)) for path in paths)}")
    scale.main([name, f"{name}-exact", f"{name}-linear"], standalone_mode=False)
