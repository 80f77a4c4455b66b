"""How long the paper's 304 runs take on 1, 8, 64 and 256 GPUs: list scheduling over the real graph of stages.

python benchmarks/schedule.py --out plots/schedule.png        (a minute, most of it DVC's reading of 2,265 stages)

Seconds per stage, in GPU time of the paper's V100. Training: the paper's hours per model (App. F). The rest is counted
in evaluations of the same network, one third of a training step's share of an image: samples x 1000; basins: patterns
x times x trials x steps, half of the times of Alg. 1; curvature: patterns x 8N evaluations and N derivatives of two
each; energy: patterns x references x nodes; yardsticks: images x (a derivative of two for each direction, and noise
levels, twice) and the paths of samples. Neighbours: pairs of embeddings, those within S' once. Patterns: as many as a
stage takes at most; for curvature, --spectra of each group, after which the mean spectrum is known to 2% (64 on the
digits at K = 64).
--seconds FILE puts measured values in their place: JSON, {"train": seconds of each, "sample@cifar10-128-2000": ...}.
"""

import contextlib
import heapq
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from attractors.cli.settings import read_yaml  # noqa: E402
from attractors.commands.scale import read_sweep  # noqa: E402
from scheduling.graph import kind, whole_graph  # noqa: E402

TRAINING_HOURS = {  # App. F
    "mnist-128": 17, "fashion_mnist-128": 17, "cifar10-64": 18, "cifar10-96": 20, "cifar10-128": 22,
    "lsun_church-64": 48, "lsun_church-96": 56, "lsun_church-128": 103,
}
PIXELS = {"mnist": 28 * 28, "fashion_mnist": 28 * 28, "cifar10": 3 * 32 * 32, "lsun_church": 3 * 64 * 64}
EMBEDDED = {"l2": 784, "lpips_alex": 31_872}  # values compared per pair, at most
FLOPS = 5e12  # of a V100 in float32 products of matrices, a third of its peak
LIMIT, TRAINING = 512, 2048  # samples of each group, training images
LIGHT = 30  # seconds of a stage that takes no device: figures, classify, ...


def paper_graph(scale):
    """The graph of all stages at a scale, in a clone, as DVC gives it; and the runs."""
    from dvc.repo import Repo

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "-q", str(ROOT), folder], check=True)
        subprocess.run([sys.executable, "src/main.py", "scale", scale], cwd=folder, check=True, capture_output=True)
        with contextlib.chdir(folder), Repo(folder) as repo:
            return whole_graph(repo, {"inputs"}), read_yaml(f"{folder}/runs.yaml")["runs"]


def seconds_of(name, runs, spectra):
    """GPU seconds of a stage on a V100 by the counts above; of what takes no device, seconds of a core."""
    run = runs.get(name.partition("@")[2])
    if run is None:
        return LIGHT
    _, settings = read_sweep(ROOT / "sweeps" / f"{run['sweep']}.yaml")
    training = 3600 * TRAINING_HOURS[run["sweep"]]
    evaluation = training / (settings["train"]["iterations"] * settings["train"]["batch"] * 3)
    size, n = run["size"], PIXELS[run["dataset"]]
    samples = max(settings["sample"]["floor"], settings["sample"]["ratio"] * size)

    def patterns(limit, training):
        return 3 * min(limit, samples // 3) + min(training, size)

    chosen = settings["yardsticks"]
    denoised, drawn = 2 * min(chosen["images"], size), min(chosen["samples"], samples)
    directions = n if n <= chosen["full"] else chosen["probes"]
    return {
        "train": training,
        "sample": samples * 1000 * evaluation,
        "neighbours": samples * (samples / 2 + size) * 2 * EMBEDDED[settings["neighbours"]["distance"]] / FLOPS,
        "basin": patterns(LIMIT, LIMIT) * 50 * 20 * 10 * evaluation,
        "curvature": patterns(spectra, spectra) * 10 * n * evaluation,
        "energy": patterns(LIMIT, TRAINING) * 4 * 20 * evaluation,
        "yardsticks": ((denoised + drawn) * (2 * directions + 2 * chosen["levels"]) + drawn * 1000) * evaluation,
    }[kind(name)]


def critical(graph, seconds):
    """{stage: seconds from its start to the end of the longest chain that begins with it}."""
    import networkx

    chain = {}
    for name in reversed(list(networkx.topological_sort(graph))):
        chain[name] = seconds[name] + max((chain[follower] for follower in graph.successors(name)), default=0)
    return chain


def schedule(graph, seconds, rank, gpus, cores, bookkeeping, head):
    """(seconds until all is done, busy GPU seconds) when each place that is free takes the ready stage of least rank.

    bookkeeping: seconds that DVC adds to each stage where it runs; head: seconds of the head for each that has ended,
    one after another.
    """
    waiting = {name: graph.in_degree(name) for name in graph}
    ready = {True: [], False: []}  # on a GPU, on a core
    free, running, clock, head_free = {True: gpus, False: cores}, [], 0.0, 0.0
    for name in graph:
        if not waiting[name]:
            heapq.heappush(ready[graph.nodes[name]["device"]], (rank[name], name))
    while any(ready.values()) or running:
        for device, names in ready.items():
            while names and free[device]:
                name = heapq.heappop(names)[1]
                free[device] -= 1
                heapq.heappush(running, (clock + seconds[name] + bookkeeping, name, False))
        clock, name, settled = heapq.heappop(running)
        device = graph.nodes[name]["device"]
        if not settled:  # the place is free; what follows must wait for the head
            free[device] += 1
            head_free = max(clock, head_free) + head
            heapq.heappush(running, (head_free, name, True))
            continue
        for follower in graph.successors(name):
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready[graph.nodes[follower]["device"]], (rank[follower], follower))
    return clock, sum(seconds[name] + bookkeeping for name in graph if graph.nodes[name]["device"])


def draw(table, parts, out):
    """Days against GPUs with both bounds, and what the GPU-hours are spent on."""
    import matplotlib.pyplot as plt

    from attractors.figures.style import save

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), width_ratios=(3, 2), layout="constrained")
    gpus = [row["gpus"] for row in table]
    left.loglog(gpus, [row["days"] for row in table], "o-", color="#0072B2", label="list scheduling, with DVC")
    left.loglog(gpus, [row["share"] for row in table], ":", color="#555555", label="all GPUs always busy")
    left.axhline(table[0]["chain"], color="#D55E00", ls="--", lw=1, label="longest chain of stages")
    for row in table:
        left.annotate(f"{row['days']:,.0f}", (row["gpus"], row["days"]), (4, 5), textcoords="offset points")
    left.set(
        xlabel="GPUs (V100)", ylabel="days", xticks=gpus, xticklabels=gpus, title="304 models and all measurements"
    )
    left.minorticks_off()
    left.legend()
    names = sorted((name for name in parts if parts[name] >= 1), key=parts.get)
    right.barh(names, [parts[name] for name in names], color="#009E73")
    right.set(xlabel="GPU-hours", xscale="log", title="what they are spent on")
    return save(figure, [out])


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--scale", default="paper", show_default=True, help="As the command scale takes it.")
@click.option("--seconds", "measured", type=click.Path(exists=True, path_type=Path), help="Measured seconds, JSON.")
@click.option("--spectra", type=click.IntRange(1), default=64, show_default=True, help="Patterns of each group.")
@click.option("--without", multiple=True, help="Kinds of stages to leave out, as curvature.")
@click.option("--bookkeeping", default=30.0, show_default=True, help="Seconds that DVC adds to a stage on its worker.")
@click.option("--head", default=1.0, show_default=True, help="Seconds of the head for each stage that has ended.")
@click.option("--cores", default=16, show_default=True, help="Stages without a GPU at a time.")
@click.option("--gpus", multiple=True, type=click.IntRange(1), default=(1, 8, 64, 256), show_default=True)
@click.option("--out", default="plots/schedule.png", show_default=True, help="The figure.")
def main(scale, measured, spectra, without, bookkeeping, head, cores, gpus, out):
    graph, runs = paper_graph(scale)
    graph = graph.subgraph(name for name in graph if kind(name) not in without)
    known = json.loads(measured.read_text("utf-8")) if measured else {}
    seconds = {name: known.get(name, known.get(kind(name), None)) for name in graph}
    seconds = {name: seconds_of(name, runs, spectra) if value is None else value for name, value in seconds.items()}
    chain, parts = critical(graph, seconds), {}
    import networkx

    ours = {name: -len(networkx.descendants(graph, name)) for name in graph}
    longest = {name: -value for name, value in chain.items()}
    for name in graph:
        if graph.nodes[name]["device"]:
            parts[kind(name)] = parts.get(kind(name), 0) + seconds[name] / 3600
    spent = ", ".join(f"{name} {parts[name]:,.0f}" for name in sorted(parts, key=parts.get, reverse=True))
    click.echo(f"{len(graph)} stages, {sum(parts.values()):,.0f} GPU-hours: {spent}")
    start, path = max(chain, key=chain.get), []
    while start:
        path.append(start)
        start = max(graph.successors(start), key=chain.get, default=None)
    click.echo(f"longest chain: {max(chain.values()) / 86400:.2f} days: {' > '.join(path)}")
    table = []
    for count in gpus:
        days, busy = (value / 86400 for value in schedule(graph, seconds, ours, count, cores, bookkeeping, head))
        free = schedule(graph, seconds, ours, count, cores, 0, 0)[0] / 86400
        better = schedule(graph, seconds, longest, count, cores, bookkeeping, head)[0] / 86400
        table.append({"gpus": count, "days": days, "share": busy / count, "chain": max(chain.values()) / 86400})
        click.echo(
            f"{count:4} GPUs: {days:8.2f} days ({better:.2f} with the longest chain first, {free:.2f} without DVC), "
            f"GPUs busy {busy / count / days:.0%}"
        )
    click.echo(draw(table, parts, out))


if __name__ == "__main__":
    main()
