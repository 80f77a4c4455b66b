"""Which stages are stale, what each needs, and which go together."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import networkx
from dvc.repo import Repo

from scheduling.books import name_of

TOGETHER = 60.0  # seconds of stages that a worker is given at a time, where opening the repository costs it seconds


def kind(name: str) -> str:
    """Return what a stage does: its name up to the @ of a `foreach`."""
    return name.partition("@")[0]


def whole_graph(repo: Repo, everywhere: Container[str] = ()) -> networkx.DiGraph:
    """Return all stages by name, edges from a stage to those that need it.

    everywhere: stages whose outputs every machine has, so that they do not bind a stage to one. A node has the stage's
    address; device, whether it may take a GPU; here, whether it may read what only this machine has; the stages whose
    outputs it reads; and its outputs, those that DVC does not cache apart.
    """
    graph = repo.index.graph.reverse()
    named = networkx.relabel_nodes(graph, lambda stage: name_of(stage.addressing))
    for stage in graph:
        device = bool((stage.meta or {}).get("gpu"))
        inputs = [name_of(other.addressing) for other in graph.predecessors(stage)]
        named.nodes[name_of(stage.addressing)].update(
            address=stage.addressing, device=device, inputs=inputs,
            here=not device and all(name in everywhere for name in inputs),
            outputs=[out.def_path for out in stage.outs],
            uncached=[out.def_path for out in stage.outs if not out.use_cache],
        )
    named.graph["all"] = named  # a part of it knows the whole
    return named


def lacking(status: Mapping[str, Sequence[Any]]) -> dict[str, bool]:
    """Return {stage: whether outputs are among them} of stages with which nothing is wrong but that files are missing.

    status: as `dvc status` has it.
    """
    def absent(part: Any) -> bool:
        return isinstance(part, Mapping) and set(part) <= {"changed outs", "changed deps"} and all(
            change in ("deleted", "not in cache") for files in part.values() for change in files.values())

    return {name_of(stage): any("changed outs" in part for part in parts)
            for stage, parts in status.items() if all(map(absent, parts))}


def stale(
    graph: networkx.DiGraph, changed: Iterable[str], targets: Iterable[str] = (),
    missing: Mapping[str, bool] = MappingProxyType({}),
) -> networkx.DiGraph:
    """Return the stages of `graph` that have `changed` and all that follows from them; with `targets`, what these need.

    changed and targets: stages as DVC addresses them, NAME or FILE:NAME, or names alone. missing: of those
    of `changed` that are `lacking`, only one without its outputs runs, and only where a stage that runs, or none, reads
    them. Raises ValueError where a target is no stage.
    """
    changed, targets = map(name_of, changed), list(map(name_of, targets))
    if targets:
        wanted = {name for name in graph if name in targets or kind(name) in targets}
        if unknown := [t for t in targets if not any(t in (n, kind(n)) for n in graph)]:
            raise ValueError(f"no stage {', '.join(unknown)} in any dvc.yaml")
        graph = graph.subgraph(wanted.union(*(networkx.ancestors(graph, name) for name in wanted)))
    changed = set(changed) & set(graph)
    runs = {name for name in changed if name not in missing}
    runs = runs.union(*(networkx.descendants(graph, name) for name in runs))
    for name in reversed(list(networkx.topological_sort(graph))):
        after = set(graph.successors(name))
        if missing.get(name) and (not after or after & runs):
            runs.add(name)
    return graph.subgraph(runs).copy()


def addresses(graph: networkx.DiGraph, targets: Iterable[str]) -> list[str]:
    """Return NAME or FILE:NAME, by which DVC finds each of `targets`, which are stages of `graph` or kinds of them."""
    addressed = []
    for target in map(name_of, targets):
        name = next(name for name in graph if target in (name, kind(name)))
        addressed.append(graph.nodes[name]["address"].removesuffix(name) + target)
    return addressed


class Agenda:
    """The stages of a graph that are left to do.

    It hands out stages whose inputs are done, first those for which most others wait: several short stages at a time,
    and with a stage the one that waits for it alone. `seconds` are learnt for each kind of stage; `unknown` is assumed
    for a kind that has not run yet.
    """

    def __init__(self, graph: networkx.DiGraph, unknown: float = 0.0) -> None:
        self.graph, self.unknown = graph, unknown
        self.rank = {name: -len(networkx.descendants(graph, name)) for name in graph}
        self.waiting = {name: graph.in_degree(name) for name in graph}
        self.ready = {name for name in graph if not self.waiting[name]}
        self.done, self.failed, self.seen = set(), set(), defaultdict(list)

    def seconds(self, name: str) -> float:
        """Return how long a stage will last, from those of its kind so far."""
        seen = self.seen[kind(name)]
        return sum(seen) / len(seen) if seen else self.unknown

    def left(self, workers: int) -> float | None:
        """Return the seconds until all is done, or None before any duration is known.

        It is the longest chain of stages, or the sum shared by the workers if that is longer.
        """
        known = [s for seen in self.seen.values() for s in seen]
        if not known:
            return None
        mean, ahead = sum(known) / len(known), {}
        todo = self.graph.subgraph(set(self.graph) - self.done - self.failed)
        for name in reversed(list(networkx.topological_sort(todo))):
            seconds = self.seconds(name) if self.seen[kind(name)] else mean
            ahead[name] = seconds, seconds + max((ahead[follower][1] for follower in todo.successors(name)), default=0)
        alone, chains = zip(*ahead.values(), strict=True) if ahead else ((0,), (0,))
        return max(sum(alone) / workers, *chains)

    def take(self, suits: Callable[[str], bool], workers: int, together: float = TOGETHER) -> list[str]:
        """Return the next stages for one of `workers` that can do what `suits`; empty where none is ready.

        together: seconds of stages that are given to it at once; 0 gives one stage.
        """
        ready = sorted((name for name in self.ready if suits(name)), key=lambda name: (self.rank[name], name))
        names, seconds = [], 0.0
        for name in ready[: max(1, len(ready) // (4 * workers))]:
            seconds += self.seconds(name)
            if not names or seconds <= together:
                names.append(name)
        for name in names:
            alone = [n for n in self.graph.successors(name) if self.waiting[n] == 1 and suits(n)]
            if len(alone) == 1 and seconds + self.seconds(alone[0]) <= together:
                seconds += self.seconds(alone[0])
                names.append(alone[0])
        self.ready -= set(names)
        return names

    def inside(self, names: list[str]) -> dict[str, list[str]]:
        """Return, for each of `names`, which others of them it needs."""
        return {name: [n for n in self.graph.predecessors(name) if n in names] for name in names}

    def settle(self, names: list[str], results: dict[str, tuple[int, float]]) -> None:
        """Store the results of a batch, {name: (code, seconds)}; stages that it did not reach are ready again."""
        for name, (code, seconds) in results.items():
            (self.failed if code else self.done).add(name)
            if not code:
                self.seen[kind(name)].append(seconds)
                for follower in self.graph.successors(name):
                    self.waiting[follower] -= 1
                    if not self.waiting[follower]:
                        self.ready.add(follower)
        self.ready = (self.ready | {n for n in names if not self.waiting[n]}) - self.done - self.failed
