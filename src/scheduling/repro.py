"""Bring the stages of a DVC repository up to date side by side: `dvc repro` and `dvc exp run -S`, but parallel.

DVC decides which stages are out of date; this module decides only where they run and in which order.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any

import click
import networkx as nx
from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from filelock import FileLock, Timeout
from scmrepo.exceptions import SCMError

from scheduling.books import Books
from scheduling.display import Display
from scheduling.graph import Agenda, addresses, lacking, stale, whole_graph
from scheduling.machine import Lane, shares, visible_gpus
from scheduling.processes import LOGS, Processes, log_of

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def dvc(*arguments: str) -> str:
    """Run DVC in the current folder and return its output. Raises ValueError where it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False)
    if ended.returncode:
        raise ValueError(f"dvc {arguments[0]}:\n{ended.stdout[-2000:]}")
    return ended.stdout


def set_parameters(parameters: Sequence[str]) -> None:
    """Write parameters such as lr=0.03 or other.yaml:model.layers=3 to their files, as `dvc exp run -S` does.

    Raises click.BadParameter for a parameter or a file that cannot be read; then all files stay as they are.
    """
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


def check_identity(scm: Any) -> None:
    """Raise ValueError where git knows no name or e-mail, with which an experiment could not be saved."""
    try:
        assert scm.pygit2.author and scm.pygit2.committer
    except SCMError:
        raise ValueError("git knows no name for the experiment's commit: git config user.name NAME && "
                         "git config user.email ADDRESS") from None


def taken_lock() -> Any:
    """Take the lock that lets only one run of this scheduler into a repository, so that no stage runs twice.

    Raises ValueError where another run holds it.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(LOGS / "lock").acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{Path.cwd()}: another fan_out is at work in this checkout") from None


def local_lanes(books: Books, processes: Processes, graph: nx.DiGraph, jobs: int | None, gpus: float | None,
                cpus: int) -> list[Lane]:
    """Return the lanes of this machine: one for cores and, where each stage gets a GPU of its own, one for GPUs."""
    jobs, visible = jobs or max(1, CORES // cpus), visible_gpus()
    gpus = int(bool(visible)) if gpus is None else gpus
    if not gpus:
        return [Lane(books, processes, lambda name: True, jobs)]
    held = shares(visible, gpus)
    return [
        Lane(books, processes, lambda name: graph.nodes[name]["device"], len(held), held),
        Lane(books, processes, lambda name: not graph.nodes[name]["device"], jobs, []),
    ]


def cluster_lanes(cluster: Any, books: Books, processes: Processes, graph: nx.DiGraph) -> list[Any]:
    """Return the lanes of the cluster, and one on this machine for stages that may read what only this machine has."""
    if cluster.uncommitted:
        some = ", ".join(cluster.uncommitted[:5]) + ", ..." * (len(cluster.uncommitted) > 5)
        click.echo(f"workers get {len(cluster.uncommitted)} uncommitted changes too: {some}", err=True)
    after: dict[str, Any] = {}
    if cluster.remote:
        after = {"after": lambda name: books.push([name], cluster.remote)}
        read = {name for stage in graph for name in graph.graph["all"].nodes[stage]["inputs"]} - set(graph)
        if read:
            books.push(read, cluster.remote)
    return [Lane(books, processes, lambda name: graph.nodes[name]["here"], 1, **after), *cluster.lanes()]


def work_off(agenda: Agenda, lanes: Sequence[Any], display: Display) -> None:
    """Give the lanes stages that are ready, until none is left that can run."""
    running = {}
    while True:
        for lane in lanes:
            while sum(busy is lane for busy, _ in running.values()) < lane.workers:
                if not (names := agenda.take(lane.suits, lane.workers, lane.together)):
                    break
                running[lane.submit(agenda.inside(names))] = lane, names
        if not running:
            return
        for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
            lane, names = running.pop(future)
            try:
                results = lane.absorb(future.result())
            except ValueError:
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


def run(graph: nx.DiGraph, lanes: Sequence[Any]) -> Agenda:
    """Run the stages of `graph` in `lanes` and return the agenda. An interrupt ends this process with exit code 130."""
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


def conclude(agenda: Agenda, targets: Sequence[str], save: bool) -> None:
    """Run `dvc repro` of `targets`, which should find nothing left to do; with `save`, save an experiment instead.

    Raises ValueError after showing the ends of their logs where stages failed.
    """
    if agenda.failed:
        for name in sorted(agenda.failed):
            end = log_of(name).read_text("utf-8", errors="replace")[-2000:]
            click.echo(f"{name}, {log_of(name)}:\n{end}", err=True)
        behind = len(agenda.graph) - len(agenda.done) - len(agenda.failed)
        raise ValueError(f"failed: {', '.join(sorted(agenda.failed))}; {behind} stages that need them did not run, "
                         f"{len(agenda.done)} are done")
    if save:
        click.echo(f"{len(agenda.done)} stages brought up to date. {save_experiment()}")
        return
    said = dvc("repro", "--allow-missing", *(targets or ["--all-pipelines"]))
    ran = re.findall(r"^Running stage '(\S+)'", said, flags=re.MULTILINE)
    click.echo(f"{len(agenda.done)} stages brought up to date; dvc repro then ran {', '.join(ran) or 'none'}")


def repro(
    stages: Sequence[str] = (), parameters: Sequence[str] = (), jobs: int | None = None, cpus_per_run: int = 1,
    gpus_per_run: float | None = None, address: str | None = None, cache: str | None = None, remote: str | None = None,
    patience: float = 10, allow_versions: bool = False, first: Sequence[str] = (), preload: Sequence[str] = (),
    forward: Sequence[str] = (),
) -> None:
    """Bring `stages`, or all, of the DVC repository in the current folder up to date; `__main__` names the options.

    Raises ValueError and DvcException for what is wrong, and click.BadParameter for a wrong stage or parameter.
    """
    with taken_lock(), contextlib.ExitStack() as opened:
        books, processes = Books(Path.cwd()), Processes(preload)
        opened.callback(books.close)
        opened.callback(processes.stop)
        if parameters:
            check_identity(books.repo.scm)
            set_parameters(parameters)
        for name in (name for name in first if name in books.stages):  # then it is known which others have changed
            code, _ = Lane(books, processes, lambda name: True, 1).perform(name)
            if code:
                raise ValueError(f"{name} failed:\n{log_of(name).read_text('utf-8', errors='replace')[-2000:]}")
        whole = whole_graph(books.repo, first)
        status = books.repo.status()
        missing = lacking(status)
        try:
            graph = stale(whole, status, stages, missing)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="STAGES") from None
        if not graph:
            click.echo(f"all is up to date: nothing to do{f'. {save_experiment()}' if parameters else ''}")
            return
        if again := sorted(set(missing) & set(graph)):
            others = f" and {len(again) - 1} others" * (len(again) > 1)
            click.echo(f"run again, since files are missing that others read: {again[0]}{others}", err=True)
        cluster = None
        if address:
            from scheduling.cluster import Cluster

            cluster = Cluster(address, books, graph, gpus_per_run, cpus_per_run, jobs, cache, remote, allow_versions,
                              patience, forward)
            opened.callback(cluster.close)
            lanes = cluster_lanes(cluster, books, processes, graph)
        else:
            lanes = local_lanes(books, processes, graph, jobs, gpus_per_run, cpus_per_run)
        for lane in lanes:
            opened.callback(lane.stop)
        agenda = run(graph, lanes)
        if cluster:
            books.checkout(cluster.merged, remote)
        conclude(agenda, addresses(whole, stages), bool(parameters))
