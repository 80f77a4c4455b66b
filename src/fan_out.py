"""`dvc repro` with independent stages side by side: DVC decides what is stale, this decides only the order."""

import os
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import click
import networkx
from tqdm import tqdm

from attractors.commands import ROOT

LOGS = Path(".dvc/tmp/fan_out")


def stale_graph(targets):
    """The graph of stale stages and all that follows from them, by name, edges from a stage to those that need it.

    targets: names of stages; empty for all. What they do not need is left out.
    """
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        graph = networkx.relabel_nodes(repo.index.graph.reverse(), lambda stage: stage.addressing)
        changed = set(repo.status())
    if targets:
        wanted = {name for name in graph if name in targets or name.split("@")[0] in targets}
        if missing := [t for t in targets if not any(t in (n, n.split("@")[0]) for n in graph)]:
            raise click.BadParameter(f"no stage {', '.join(missing)} in dvc.yaml", param_hint="STAGES")
        graph = graph.subgraph(wanted.union(*(networkx.ancestors(graph, name) for name in wanted)))
    changed &= set(graph)
    return graph.subgraph(changed.union(*(networkx.descendants(graph, name) for name in changed))).copy()


def reproduce(name):
    """Run one stage through DVC, its output to a log. Returns (exit code, seconds)."""
    started = time.monotonic()
    with open(LOGS / f"{name.replace('/', '_')}.log", "wb") as log:
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
        ).returncode
    return code, time.monotonic() - started


def longest_first(graph):
    """For each stage, how many stages wait for it: what is long in coming goes first."""
    return {name: len(networkx.descendants(graph, name)) for name in graph}


@click.command(context_settings={"show_default": True})
@click.argument("stages", nargs=-1)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    show_default="one per core",
    help="Stages at a time.",
)
def main(stages, jobs):
    """Bring STAGES (default: all) up to date, JOBS at a time.

    A stage that fails stops those that need it and no others; its log is named, and the exit code is 1.
    """
    os.chdir(ROOT)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    LOGS.mkdir(parents=True, exist_ok=True)
    graph = stale_graph(stages)
    rank = longest_first(graph)
    waiting = {name: graph.in_degree(name) for name in graph}
    ready = deque(sorted((name for name in graph if not waiting[name]), key=lambda name: -rank[name]))
    failed, running = [], {}
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(graph), unit="stage", dynamic_ncols=True) as bar:
        while ready or running:
            while ready and len(running) < jobs:
                name = ready.popleft()
                running[pool.submit(reproduce, name)] = name
            bar.set_description(", ".join(running.values()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, (code, seconds) = running.pop(future), future.result()
                bar.update()
                bar.write(
                    f"{name}: {'done' if code == 0 else f'FAILED, see {LOGS / name}.log'} after {seconds:.1f} s",
                    file=sys.stderr,
                )
                if code:
                    failed.append(name)
                    continue
                for follower in graph.successors(name):
                    waiting[follower] -= 1
                    if not waiting[follower]:
                        ready.append(follower)
            ready = deque(sorted(ready, key=lambda name: -rank[name]))
    if failed:
        for name in failed:
            click.echo(f"{name}:\n{(LOGS / f'{name}.log').read_text(errors='replace')[-2000:]}", err=True)
        raise click.ClickException(f"{len(failed)} of {len(graph)} stages failed: {', '.join(failed)}")
    click.echo(f"{len(graph)} stages brought up to date, {jobs} at a time")


if __name__ == "__main__":
    main()
