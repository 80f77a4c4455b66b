"""python -m scheduling [STAGES]: `dvc repro` with independent stages side by side, in any DVC repository."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click


def interrupted(*_: object) -> NoReturn:
    """Turn a signal into a KeyboardInterrupt, so that a kill ends all stages as Ctrl-C does."""
    raise KeyboardInterrupt


@click.command("scheduling", context_settings={"show_default": True, "max_content_width": 100})
@click.argument("stages", nargs=-1)
@click.option("-S", "--set-param", "parameters", multiple=True, metavar="[FILE:]NAME=VALUE",
              help="As dvc exp run -S: set it first, in params.yaml or FILE, and save the results as an experiment.")
@click.option("--jobs", type=click.IntRange(1), show_default="as many as fit", help="Batches of stages at a time.")
@click.option("--cpus-per-run", type=click.IntRange(1), default=1, help="Cores that a stage is given.")
@click.option("--gpus-per-run", type=click.FloatRange(0), show_default="1 where there are GPUs",
              help="GPUs for each stage with `meta: {gpu: true}`; 0.5: two share one; 0: each picks for itself.")
@click.option("--address", help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
@click.option("--cache", type=click.Path(file_okay=False), help="With --address: a DVC cache that all machines see.",
              show_default="this checkout's")
@click.option("--remote", help="With --address, where no file system is shared: the DVC remote for all results.")
@click.option("--patience", type=click.FloatRange(0), default=10,
              help="With --address: minutes without a machine for what is left until this gives up.")
@click.option("--allow-versions", is_flag=True, help="Take workers whose Python packages are of other versions.")
@click.option("--first", multiple=True, metavar="STAGE",
              help="Bring STAGE up to date before planning: nearly all others read it, and every machine has it.")
@click.option("--preload", multiple=True, metavar="MODULE", help="On Linux, stages that run Python find it imported.")
@click.option("--forward", multiple=True, metavar="NAME", help="With --address: a variable of the environment to send.")
def main(**options: Any) -> None:
    """Bring STAGES (default: all) up to date, running independent stages side by side.

    A stage that fails stops only the stages that need it; its log is named, and the exit code is 1.
    Stages that are done stay done: running the command again does the rest.
    """
    if options["stages"] and options["parameters"]:
        raise click.UsageError("STAGES or --set-param, not both: an experiment is saved with all of its stages")
    if not options["address"] and (options["cache"] or options["remote"] or options["allow_versions"]):
        raise click.UsageError("--cache, --remote and --allow-versions go with --address")
    if options["cache"] and options["remote"]:
        raise click.UsageError("--cache or --remote, not both")
    for name in ("SIGTERM", "SIGHUP"):  # the second is not known everywhere
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupted)
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from scheduling.repro import repro

    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        with contextlib.chdir(Repo.find_root()):
            repro(**options)
    except (DvcException, ValueError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main(prog_name="python -m scheduling")
