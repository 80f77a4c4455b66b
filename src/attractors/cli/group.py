"""The command `attractors`: every command by what it is for, imported only when it is asked for."""

import importlib
from functools import cache
from pathlib import Path

import click

from attractors.cli.settings import OF_CODE, ROOT

PACKAGE = Path(__file__).resolve().parents[1]
NO_FIGURES = ("__init__", "registry", "style")  # files of figures/ that the figures share; each other file is a figure
COMMANDS = {
    "Your own samples": {
        "audit": "Does a model copy its training data? A page, tables and an exit code.",
        "neighbours": "The nearest training images and the nearest other samples of every sample.",
        "classify": "The type of every sample (memorized, spurious, generalized), and tables of fractions.",
        "clusters": "Groups of samples that repeat each other.",
        "yardsticks": "Other published definitions of memorization.",
        "lpips_weights": "The ImageNet weights that LPIPS needs.",
        "import_checkpoint": "Bring a model or a synthetic set made elsewhere into this pipeline.",
        "export_diffusers": "Write a model for diffusers' DDPMPipeline.",
    },
    "The pipeline": {
        "scale": "Choose which sweeps and case studies `dvc repro` makes.",
        "fan_out": "Run `dvc repro` with stages side by side, here or on a Ray cluster.",
        "verify": "Check that files are what DVC's lock files say.",
    },
    "Compare and publish": {
        "compare": "What changed between two revisions or experiments, and whether it is more than noise.",
        "report": "One page with every figure, its findings and an explorer of thresholds.",
        "release": "Write the folder of results that others pull.",
    },
    "Stages": {
        "inputs": "Each stage's settings, and hashes of the code that it depends on.",
        "subset": "A dataset in the one random order whose first K images are S_K.",
        "train": "Train the denoiser of one run.",
        "sample": "Draw the synthetic set S' of one run.",
        "basin": "Critical times and basin volumes (Alg. 1).",
        "curvature": "Singular values of the score (Algs. 2 and 3).",
        "energy": "Relative energies (Alg. 4).",
        "join": "Types and measurements together, in one table for each quantity.",
        "claims": "The paper's statements with the evidence for or against each.",
        "yardsticks_table": "Other definitions of memorization beside the types.",
        "train_snapshots": "Train two networks and keep averages of their weights along the way.",
        "training_time": "Types of samples along training.",
        "controls": "Types of samples of denoisers without learning.",
        "census": "Fixed points of denoising: which states a model has, and which are stable.",
        "repetition": "How often samples repeat each other, and which are blends of training images.",
        "toy_train": "Train the 2-D toy model (A.2).",
        "toy_evaluate": "Compare the toy model with the exact answer (Fig. 2).",
        "toy_minima": "Count the minima of the exact energy.",
        "sd_generate": "Generate the images of one prompt with Stable Diffusion.",
        "sd_stability": "How much the images of one prompt resemble each other.",
        "sd_curvature": "Singular values of the latent score of Stable Diffusion.",
    },
}


@cache
def modules() -> dict[str, tuple[str, Path]]:
    """{command: (the module that defines it, its file)}: figures are called figure_NAME, all others as their file."""
    files = {}
    for name in (name for rows in COMMANDS.values() for name in rows):
        command = PACKAGE / "commands" / f"{name}.py"
        files[name] = command if command.is_file() else PACKAGE / "stages" / f"{name}.py"
    for path in sorted((PACKAGE / "figures").glob("[!.]*.py")):  # what editors and file systems hide is no module
        if path.stem not in NO_FIGURES:
            files[f"figure_{path.stem}"] = path
    return {name: (f"attractors.{path.parent.name}.{path.stem}", path) for name, path in files.items()}


class Lazy(click.Group):
    """A group whose commands are modules, of which none is imported to list them."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(modules())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return the command called `name`, in which - stands for _; None for an unknown name."""
        name = name.replace("-", "_")
        return importlib.import_module(modules()[name][0]).main if name in modules() else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for, and the figures by name."""
        for heading, rows in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(list(rows.items()))
        figures = [name.removeprefix("figure_") for name in modules() if name.startswith("figure_")]
        with formatter.section("Figures"):
            formatter.write_dl([("figure_NAME", f"Draw one figure; NAME is {', '.join(figures)}.")])


@click.command(cls=Lazy, context_settings={"max_content_width": 120})
@click.version_option(package_name="attractors")
def main() -> None:
    """Memorization to generalization: diffusion models as associative memories.

    Every command explains itself: attractors COMMAND --help. ATTRACTORS_DEBUG=1 shows the traceback of an error.
    """
    if OF_CODE and ROOT != OF_CODE:
        click.echo(f"The code of {OF_CODE} acts on the checkout around this folder, {ROOT}.", err=True)
