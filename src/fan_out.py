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
        if "sources" in graph and repo.status(["sources"]):  # which stages an edit concerns is seen only after it
            repo.reproduce(["sources"])
        changed = set(repo.status())
    if targets:
        wanted = {name for name in graph if name in targets or name.split("@")[0] in targets}
        if missing := [t for t in targets if not any(t in (n, n.split("@")[0]) for n in graph)]:
            raise click.BadParameter(f"no stage {', '.join(missing)} in dvc.yaml", param_hint="STAGES")
        graph = graph.subgraph(wanted.union(*(networkx.ancestors(graph, name) for name in wanted)))
    changed &= set(graph)
    return graph.subgraph(changed.union(*(networkx.descendants(graph, name) for name in changed))).copy()


def reproduce(names):
    """Run stages one after another through DVC, their output to a log. Returns (exit code, seconds)."""
    started = time.monotonic()
    with open(log_of(names), "wb") as log:
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *names]
        process = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
    return process.returncode, time.monotonic() - started


def log_of(names):
    return LOGS / f"{names[0]}.log"


def take(graph, ready, waiting, jobs):
    """The next stages for one worker, removed from `ready`: a DVC process costs seconds, so it gets more than one.

    A share of what is ready, smaller as less is left; and after each stage the one stage that waits for it alone.
    """
    names = [ready.popleft() for _ in range(max(1, len(ready) // (4 * jobs)))]
    for name in names:
        alone = [follower for follower in graph.successors(name) if waiting[follower] == 1]
        if len(alone) == 1:
            names.append(alone[0])
    return names


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
    rank = {name: -len(networkx.descendants(graph, name)) for name in graph}  # what much waits for goes first
    waiting = {name: graph.in_degree(name) for name in graph}
    ready = deque(sorted((name for name in graph if not waiting[name]), key=rank.get))
    failed, running = [], {}
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(graph), unit="stage", dynamic_ncols=True) as bar:
        while ready or running:
            while ready and len(running) < jobs:
                names = take(graph, ready, waiting, jobs)
                running[pool.submit(reproduce, names)] = names
            bar.set_description(
                " | ".join(" ".join(names[:2]) + " ..." * (len(names) > 2) for names in running.values())
            )
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                names, (code, seconds) = running.pop(future), future.result()
                bar.update(len(names))
                verdict = f"FAILED, see {log_of(names)}," if code else "done"
                bar.write(f"{' '.join(names)}: {verdict} after {seconds:.1f} s", file=sys.stderr)
                if code:
                    failed.append(names)
                    continue
                for follower in (follower for name in names for follower in graph.successors(name)):
                    waiting[follower] -= 1
                    if not waiting[follower] and follower not in names:
                        ready.append(follower)
            ready = deque(sorted(ready, key=rank.get))
    for names in failed:
        click.echo(f"{' '.join(names)}:\n{log_of(names).read_text(errors='replace')[-2000:]}", err=True)
    if failed:
        raise click.ClickException(f"failed: {', '.join(' '.join(names) for names in failed)}")
    click.echo(f"{len(graph)} stages brought up to date, {jobs} at a time")


if __name__ == "__main__":
    main()
