"""Which stages are stale, what each needs, and which go together."""

import re
from collections import defaultdict
from functools import cache

import networkx

from attractors.cli.group import modules
from attractors.cli.settings import ROOT

WORTH_A_PROCESS = 60  # seconds of stages that are run by one DVC process, which costs seconds itself


def kind(name):
    return name.split("@")[0]


@cache
def takes_device(command):
    """Whether a stage's command has the option --device."""
    found = re.search(r"python src/(main\.py (\w+)|\S+\.py)", command)
    if not found:
        return False
    path = modules()[found.group(2)][1] if found.group(2) in modules() else ROOT / "src" / found.group(1).split()[0]
    return "device_option" in path.read_text("utf-8")


def attributes(stage, graph):
    """What a scheduler must know of a stage: where it may run, whose outputs it reads, its files that DVC keeps not."""
    device = takes_device(stage.cmd or "")
    inputs = [other.addressing for other in graph.predecessors(stage)]
    return {
        "device": device,
        "here": not device and set(inputs) <= {"sources"},  # it may read what only this machine has: data/raw
        "inputs": inputs,
        "outputs": [out.def_path for out in stage.outs],
        "uncached": [out.def_path for out in stage.outs if not out.use_cache],
    }


def whole_graph(repo):
    """All stages by name, edges from a stage to those that need it."""
    graph = repo.index.graph.reverse()
    named = networkx.relabel_nodes(graph, lambda stage: stage.addressing)
    networkx.set_node_attributes(named, {stage.addressing: attributes(stage, graph) for stage in graph})
    named.graph["all"] = named  # a part of it knows the whole
    return named


def stale(graph, changed, targets=()):
    """The stages of `graph` that have `changed` and all that follows from them; with `targets`, what these need.

    Raises ValueError where a target is no stage.
    """
    if targets:
        wanted = {name for name in graph if name in targets or kind(name) in targets}
        if missing := [t for t in targets if not any(t in (n, kind(n)) for n in graph)]:
            raise ValueError(f"no stage {', '.join(missing)} in dvc.yaml")
        graph = graph.subgraph(wanted.union(*(networkx.ancestors(graph, name) for name in wanted)))
    changed = set(changed) & set(graph)
    return graph.subgraph(changed.union(*(networkx.descendants(graph, name) for name in changed))).copy()


class Agenda:
    """What is left of a graph: hands out stages whose inputs are done, those first for which most others wait.

    Several short ones at a time, and behind a stage the one that waits for it alone. `seconds` are learnt by kind;
    `unknown` is what a stage of a kind not seen yet is taken to last.
    """

    def __init__(self, graph, unknown=0.0):
        self.graph, self.unknown = graph, unknown
        self.rank = {name: -len(networkx.descendants(graph, name)) for name in graph}
        self.waiting = {name: graph.in_degree(name) for name in graph}
        self.ready = {name for name in graph if not self.waiting[name]}
        self.done, self.failed, self.seen = set(), set(), defaultdict(list)

    def seconds(self, name):
        """How long a stage will last, from those of its kind so far."""
        seen = self.seen[kind(name)]
        return sum(seen) / len(seen) if seen else self.unknown

    def left(self, workers):
        """Seconds until all is done: the longest chain, or the sum shared by the workers. None before any is known."""
        known = [s for seen in self.seen.values() for s in seen]
        if not known:
            return None
        mean, ahead = sum(known) / len(known), {}
        todo = self.graph.subgraph(set(self.graph) - self.done - self.failed)
        for name in reversed(list(networkx.topological_sort(todo))):
            own = self.seconds(name) if self.seen[kind(name)] else mean
            ahead[name] = own, own + max((ahead[follower][1] for follower in todo.successors(name)), default=0)
        return max(
            sum(own for own, _ in ahead.values()) / workers, max((chain for _, chain in ahead.values()), default=0)
        )

    def take(self, suits, workers):
        """The next stages for one of `workers` that can do what `suits`; empty where none is ready."""
        ready = sorted((name for name in self.ready if suits(name)), key=lambda name: (self.rank[name], name))
        names, seconds = [], 0.0
        for name in ready[: max(1, len(ready) // (4 * workers))]:
            seconds += self.seconds(name)
            if not names or seconds <= WORTH_A_PROCESS:
                names.append(name)
        for name in names:
            alone = [n for n in self.graph.successors(name) if self.waiting[n] == 1 and suits(n)]
            if len(alone) == 1 and seconds + self.seconds(alone[0]) <= WORTH_A_PROCESS:
                seconds += self.seconds(alone[0])
                names.append(alone[0])
        self.ready -= set(names)
        return names

    def inside(self, names):
        """For each of `names`, which others of them it needs."""
        return {name: [n for n in self.graph.predecessors(name) if n in names] for name in names}

    def settle(self, names, results):
        """Enter what came of a batch: {name: (code, seconds)}; those that it did not reach are ready again."""
        for name, (code, seconds) in results.items():
            (self.failed if code else self.done).add(name)
            if not code:
                self.seen[kind(name)].append(seconds)
                for follower in self.graph.successors(name):
                    self.waiting[follower] -= 1
                    if not self.waiting[follower]:
                        self.ready.add(follower)
        self.ready = (self.ready | {n for n in names if not self.waiting[n]}) - self.done - self.failed
