"""Run `dvc repro` with independent stages side by side, on this machine or, with --address, on a Ray cluster.

DVC decides which stages are out of date; this command decides only where they run and in which order.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from filelock import FileLock, Timeout

from attractors.cli.checkout import check_checkout
from attractors.cli.settings import ROOT, read_runs
from attractors.cli.stage import Stage
from scheduling.processes import LOGS, Processes, log_of

if TYPE_CHECKING:
    import networkx as nx

    from scheduling.books import Books
    from scheduling.cluster import Cluster
    from scheduling.display import Display
    from scheduling.graph import Agenda
    from scheduling.machine import Lane

PRELOADED = ("click", "numpy", "pandas", "pydantic", "ruamel.yaml", "safetensors.numpy", "torch", "tqdm")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def dvc(*arguments: str) -> str:
    """Run DVC in this checkout and return its output. Raises click.ClickException where it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False)
    if ended.returncode:
        raise click.ClickException(f"dvc {arguments[0]}:\n{ended.stdout[-2000:]}")
    return ended.stdout


def set_parameters(parameters: Sequence[str]) -> None:
    """Write parameters such as delta_m=0.03 or sweeps/digits.yaml:train.ema=0.99 to their files, as `dvc exp run -S`.

    Raises click.BadParameter for a parameter or a file that cannot be read; then all files stay as they are.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides

    before: dict[str, bytes] = {}
    try:
        for path, overrides in to_path_overrides(parameters).items():
            before[path] = Path(path).read_bytes()
            apply_overrides(path, overrides)
    except (DvcException, OSError) as error:
        for path, content in before.items():
            Path(path).write_bytes(content)
        raise click.BadParameter(str(error), param_hint="-S") from None


def save_experiment() -> str:
    """Run `dvc exp save` and return its last line, which names the experiment."""
    return dvc("exp", "save").splitlines()[-1]


def local_lanes(
    books: Books, graph: nx.DiGraph, jobs: int | None, gpus_per_run: float | None, cpus_per_run: int
) -> list[Lane]:
    """Return the lanes of this machine: one for cores and, where each stage gets its own GPU, one for GPUs."""
    from scheduling.machine import Lane, shares, visible_gpus

    jobs = jobs or max(1, CORES // cpus_per_run)
    gpus = visible_gpus()
    each = gpus_per_run if gpus_per_run is not None else int(bool(gpus))
    held = shares(gpus, each) if each else []
    processes = Processes(PRELOADED)
    if not each:
        return [Lane(books, processes, lambda name: True, jobs)]
    return [
        Lane(books, processes, lambda name: graph.nodes[name]["device"], len(held), held),
        Lane(books, processes, lambda name: not graph.nodes[name]["device"], jobs, []),
    ]


def work_off(agenda: Agenda, lanes: Sequence[Any], display: Display) -> None:
    """Give the lanes stages that are ready, until none is left that can run."""
    running = {}
    while True:
        for lane in lanes:
            while sum(own is lane for own, _ in running.values()) < lane.workers:
                if not (names := agenda.take(lane.suits, lane.workers, lane.together)):
                    break
                running[lane.submit(agenda.inside(names))] = lane, names
        if not running:
            return
        for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
            lane, names = running.pop(future)
            try:
                results = lane.absorb(future.result())
            except (ValueError, click.ClickException):
                raise
            except Exception as error:  # a worker that died more often than it is replaced
                log_of(names[0]).write_text(f"{type(error).__name__}: {error}\n", "utf-8")
                results = {names[0]: (1, 0.0)}
            agenda.settle(names, results)
            for name, (code, seconds) in results.items():
                display.say(f"{name}: {f'FAILED, see {log_of(name)},' if code else 'done'} after {seconds:.1f} s")
        for lane in {id(lane): lane for lane, _ in running.values()}.values():
            lane.check()
        display.show(agenda, [row for lane in lanes for row in lane.running()], sum(lane.workers for lane in lanes))


def interrupted(*_: object) -> NoReturn:
    """Turn a signal into a KeyboardInterrupt, so that a kill ends all stages as Ctrl-C does."""
    raise KeyboardInterrupt


def own_lock() -> Any:
    """Take the lock that lets only one fan_out run in a checkout, so that no stage runs twice.

    Raises ValueError where another fan_out holds it.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(LOGS / "lock").acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{ROOT}: another fan_out is at work in this checkout") from None


@click.command(cls=Stage, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("stages", nargs=-1)
@click.option(
    "-S",
    "--set-param",
    "parameters",
    multiple=True,
    metavar="[FILE:]NAME=VALUE",
    help="As dvc exp run -S: set it first, in params.yaml or FILE, and save the results as an experiment.",
)
@click.option("--jobs", type=click.IntRange(1), show_default="as many as fit", help="Batches of stages at a time.")
@click.option("--cpus-per-run", type=click.IntRange(1), default=1, help="Cores that a stage is given.")
@click.option("--gpus-per-run", type=click.FloatRange(0), show_default="1 where there are GPUs",
              help="GPUs for each stage with --device; 0.5: two share one; 0: each picks for itself.")
@click.option("--address", help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
@click.option("--cache", type=click.Path(file_okay=False), help="With --address: a DVC cache that all machines see.",
              show_default="this checkout's")
@click.option("--remote", help="With --address, where no file system is shared: the DVC remote for all results.")
@click.option("--patience", type=click.FloatRange(0), default=10,
              help="With --address: minutes without a machine for what is left until this gives up.")
@click.option("--allow-versions", is_flag=True, help="Take workers whose Python packages are of other versions.")
def main(
    stages: tuple[str, ...],
    parameters: tuple[str, ...],
    jobs: int | None,
    cpus_per_run: int,
    gpus_per_run: float | None,
    address: str | None,
    cache: str | None,
    remote: str | None,
    patience: float,
    allow_versions: bool,
) -> None:
    """Bring STAGES (default: all) up to date, running independent stages side by side.

    A stage that fails stops only the stages that need it; its log is named, and the exit code is 1.
    Stages that are done stay done: running the command again does the rest.
    """
    if stages and parameters:
        raise click.UsageError("STAGES or --set-param, not both: an experiment is saved with all of its stages")
    if not address and (cache or remote or allow_versions):
        raise click.UsageError("--cache, --remote and --allow-versions go with --address")
    if cache and remote:
        raise click.UsageError("--cache or --remote, not both")
    os.chdir(ROOT)
    check_checkout(ROOT)
    read_runs(ROOT / "runs.yaml")  # its words reach a shell
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in ("SIGTERM", "SIGHUP"):  # the second is not known everywhere
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupted)
    from dvc.exceptions import DvcException

    from scheduling.graph import addresses, stale, whole_graph

    with own_lock(), contextlib.ExitStack() as opened:
        try:
            set_parameters(parameters)
            books = up_to_date_sources()
            opened.callback(books.close)
            whole = whole_graph(books.repo, {"inputs"})
            try:
                graph = stale(whole, books.repo.status(), stages)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="STAGES") from None
            if not graph:
                click.echo(f"all is up to date: nothing to do{f'. {save_experiment()}' if parameters else ''}")
                return
            cluster = None
            if address:
                from scheduling.cluster import Cluster

                cluster = Cluster(
                    address, books, graph, gpus_per_run, cpus_per_run, jobs, cache, remote, allow_versions, patience
                )
                lanes = cluster_lanes(cluster, books, graph, whole)
            else:
                lanes = local_lanes(books, graph, jobs, gpus_per_run, cpus_per_run)
            agenda = run(graph, lanes, opened)
            if cluster:
                books.checkout(cluster.merged, remote)
            report(agenda, addresses(whole, stages), bool(parameters))
        except DvcException as error:
            raise click.ClickException(str(error)) from None


def up_to_date_sources() -> Books:
    """Return the books, after bringing the stages `sources` and `settings` up to date.

    Nearly all stages depend on these two, and only then is it known on which code and settings that were edited.
    """
    from scheduling.books import Books

    books = Books(ROOT)
    first = {"inputs"}.intersection(stage.addressing for stage in books.repo.index.stages)
    if books.repo.status(sorted(first)):
        books.close()
        dvc("repro", *sorted(first))
        books = Books(ROOT)
    return books


def run(graph: nx.DiGraph, lanes: Sequence[Any], opened: contextlib.ExitStack) -> Agenda:
    """Run the stages of `graph` in `lanes` and return the agenda. An interrupt ends this process with exit code 130."""
    from scheduling.display import Display
    from scheduling.graph import Agenda

    for lane in lanes:
        opened.callback(lane.stop)
    click.echo(f"{len(graph)} stages to bring up to date", err=True)
    agenda, display = Agenda(graph, unknown=float("inf")), Display()
    try:
        work_off(agenda, lanes, display)
    except KeyboardInterrupt:
        display.say(
            f"interrupted: {len(agenda.done)} of {len(graph)} stages are done and kept; the next call does the rest"
        )
        sys.exit(130)
    finally:
        display.clear()
    return agenda


def cluster_lanes(cluster: Cluster, books: Books, graph: nx.DiGraph, whole: nx.DiGraph) -> list[Any]:
    """Return the lanes of the cluster, and one on this machine for stages that may read what only this machine has."""
    from scheduling.machine import Lane

    if cluster.uncommitted:
        some = ", ".join(cluster.uncommitted[:5]) + ", ..." * (len(cluster.uncommitted) > 5)
        click.echo(f"workers get {len(cluster.uncommitted)} uncommitted changes too: {some}", err=True)
    after: dict[str, Any] = {}
    if cluster.remote:
        after = {"after": lambda name: books.push([name], cluster.remote)}
        read = {name for stage in graph for name in whole.nodes[stage]["inputs"]} - set(graph)
        if read:
            books.push(read, cluster.remote)
    here = Lane(books, Processes(PRELOADED), lambda name: graph.nodes[name]["here"], 1, **after)
    return [here, *cluster.lanes()]


def report(agenda: Agenda, targets: Sequence[str], save: bool) -> None:
    """Raise ClickException with the ends of the logs of stages that failed, or else run `dvc repro` of `targets`.

    After a successful run `dvc repro` should find nothing left to do; the message says what it ran. With `save`,
    an experiment is saved in its place.
    """
    if agenda.failed:
        for name in sorted(agenda.failed):
            end = log_of(name).read_text("utf-8", errors="replace")[-2000:]
            click.echo(f"{name}, {log_of(name)}:\n{end}", err=True)
        behind = len(agenda.graph) - len(agenda.done) - len(agenda.failed)
        raise click.ClickException(
            f"failed: {', '.join(sorted(agenda.failed))}; {behind} stages that need them did not run, "
            f"{len(agenda.done)} are done"
        )
    if save:
        click.echo(f"{len(agenda.done)} stages brought up to date. {save_experiment()}")
        return
    ran = re.findall(r"^Running stage '(\S+)'", dvc("repro", *(targets or ["--all-pipelines"])), flags=re.MULTILINE)
    click.echo(f"{len(agenda.done)} stages brought up to date; dvc repro then ran {', '.join(ran) or 'none'}")


if __name__ == "__main__":
    main()
