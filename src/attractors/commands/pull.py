"""Fetch the committed results of the chosen scale, without models unless they are asked for."""

import logging
import re
from pathlib import Path

import click

from attractors.cli.checkout import check_checkout
from attractors.cli.settings import ROOT
from attractors.cli.stage import Stage


def pulled(root: Path, remote: str, models: bool) -> tuple[int, list[str], list[str]]:
    """Fetch and check out the outputs that the lock files of `root` name for the stages of its runs.yaml.

    Return (how many outputs, the paths of those that the remote lacks, as a release may leave images out, and the
    stages that `dvc repro --allow-missing` would run). Without `models` those below
    models/ are left out, and no folder of theirs stays, so that DVC takes them as missing rather than changed. Raises
    ValueError where the remote lacks them all.
    """
    from dvc.exceptions import DvcException, ReproductionError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # else a line for each stage that is up to date
    with Repo(str(root)) as repo:
        wanted = [out for out in repo.index.outs if out.use_cache and out.can_push and out.hash_info
                  and (models or Path(out.fs_path).relative_to(root).parts[0] != "models")]
        try:
            parts = {out: [part for found in out.get_used_objs(remote=remote, force=True).values() for part in found]
                     for out in wanted}  # fetches the listings of folders
            repo.cloud.pull({part for found in parts.values() for part in found}, remote=remote)
            lacking = [str(out) for out, found in parts.items()
                       if not found or not all(out.cache.exists(part.value) for part in found)]
            if lacking and len(lacking) == len(wanted):
                raise ValueError(f"{remote}: lacks all {len(wanted)} outputs, {lacking[0]} among them")
            repo.checkout(allow_missing=True)
        except (DvcException, OSError) as error:
            raise ValueError(f"{remote}: {error}") from None
        for room in ("models", "data"):
            for folder in sorted((root / room).glob("**/"), reverse=True):
                if not any(folder.iterdir()):
                    folder.rmdir()
        try:
            runs = repo.reproduce(all_pipelines=True, dry=True, allow_missing=True, on_error="keep-going")
            stages = [stage.addressing for stage in runs]
        except ReproductionError as error:  # of stages that read what is lacking
            stages = re.findall(r"'([^']+)'", str(error))
    return len(wanted) - len(lacking), lacking, stages


@click.command(cls=Stage)
@click.option("--models", is_flag=True, help="Fetch models too, which no threshold, table or figure needs.")
@click.option("--remote", default="results", show_default=True, help="A remote of DVC, as dvc remote list names it.")
def main(models: bool, remote: str) -> None:
    """Fetch the results that the committed lock files name for the scale of runs.yaml, and say what is not up to date.
    """
    check_checkout(ROOT)
    count, lacking, stages = pulled(ROOT, remote, models)
    click.echo(f"{count} outputs of {remote}{'' if models else ' without models, which make pull MODELS=1 fetches'}")
    if lacking:
        click.echo(f"{remote} lacks {len(lacking)} outputs, {', '.join(lacking[:3])}{', ...' * (len(lacking) > 3)}: a "
                   "release may leave out images and models, and what reads them needs the stages that make them")
    if stages:
        some = ", ".join(stages[:5]) + ", ..." * (len(stages) > 5)
        click.echo(f"{len(stages)} stages are not up to date: {some}; dvc repro --allow-missing runs them")
