"""The comparisons: each function is one part and yields its rows. Only neighbours depend on what images show."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from timing import Row, interleaved, ratio, seconds, typical
from transcriptions import (
    batch_global_search,
    broadcast_lpips,
    feature_maps,
    log_likelihood_of_a_point,
    materialised,
    plain_training,
)

from attractors.cli.settings import ROOT
from attractors.data.datasets import Places, mnist
from attractors.denoisers.acceleration import accelerate, chosen
from attractors.denoisers.diffusion import Diffusion, linear_betas
from attractors.denoisers.networks import build
from attractors.denoisers.samplers import ancestral, sample_noise
from attractors.denoisers.training import train
from attractors.denoisers.unet_diffusers import config_of, to_diffusers
from attractors.distances import neighbours
from attractors.distances.lpips_embedding import BACKBONES, Embedding, read_embedding
from attractors.distances.neighbours import nearest
from attractors.landscape.critical_times import critical_times, evaluations, search_times
from attractors.landscape.curvature import _gram, _roots, central_difference, jacobian
from attractors.landscape.patterns import read_patterns
from attractors.measurements.basin import Basin
from attractors.settings.network import MLP, UNet
from attractors.settings.train import Training
from attractors.theory.likelihood import exact_divergence, flow
from attractors.theory.toy_landscape import grid

SEED = 3407


def have(peer):
    return importlib.util.find_spec(peer) is not None


def missing(part, peer, goal):
    return Row(part, peer, None, goal, "peer not installed: pip install -e '.[bench]'")


def pictures(count, shape, seed=0):
    """Smooth random images: [count, C, H, W] in [-1, 1]."""
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (count, shape[0], 5, 5)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic").clamp_(-1, 1)


def embedding_of(backbone):
    """The Embedding with the weights of models/lpips, or with random ones, as fast."""
    path = ROOT / "models" / "lpips" / f"{backbone}.safetensors"
    if path.exists():
        return read_embedding(path)
    import torchvision

    trunk = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}[backbone](weights=None).features
    layers = [layer for layer in trunk if isinstance(layer, torch.nn.Conv2d)]
    weights = {f"head_{i}": torch.rand(len(layer.bias)) for i, layer in enumerate(
        layer for layer, (*_, compared) in zip(layers, BACKBONES[backbone], strict=True) if compared)}
    for i, layer in enumerate(layers):
        weights |= {f"convolution_{i}.weight": layer.weight.data, f"convolution_{i}.bias": layer.bias.data}
    return Embedding(backbone, weights)


def products(x, y, memory=2**27):
    """Bare torch.mm of all rows of x: [n, D] with all of y: [m, D], in blocks of the memory given."""
    rows = max(1, min(len(x), int((memory / 4) ** 0.5)))
    for part in x.split(rows):
        for other in y.split(rows):
            torch.mm(part, other.T)


def lpips_neighbours(options):
    n, m, part = (500, 2000, "LPIPS k-NN") if options.quick else (3500, 14_000, "LPIPS k-NN")
    embedding = embedding_of("alex").to(options.device)
    base = pictures(256, (3, 32, 32))
    dimensions = embedding.dimensions((3, 32, 32))
    each = typical(interleaved(1, embed=lambda: list(embedding.batches(base))), "embed") / len(base)
    random = torch.Generator(options.device).manual_seed(0)
    s_prime, s = (torch.randn(count, dimensions, generator=random, device=options.device) for count in (n, m))
    pairs = n * m + n * n

    def ours():
        nearest(s_prime, s, squared=True)
        nearest(s_prime, s_prime, self_excluded=True, squared=True)

    functions = {"ours": ours, "products": lambda: (products(s_prime, s), products(s_prime, s_prime))}
    maps = feature_maps(embedding, base.to(options.device))
    functions["broadcast"] = lambda: broadcast_lpips([x[:64] for x in maps], maps)
    if have("lpips"):
        import lpips

        metric = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval().requires_grad_(False).to(options.device)
        x, y = base.to(options.device), base.flip(0).to(options.device)
        functions["package"] = lambda: metric(x, y)
    taken = interleaved(options.rounds, **functions)
    rate = pairs / typical(taken, "ours")
    whole = 200_000 * 250_000
    share = rate / (rate + whole / (250_000 * each))  # of the time that embedding takes
    detail = f"{rate:.2e} pairs/s, {rate * (1 - share):.2e} with embedding, at 200,000 x 250,000; D = {dimensions:,}"
    yield Row(part, "bare torch.mm", ratio(taken, "ours", "products"), 0.6, detail)
    for name, peer, count, goal in (
        ("broadcast", "feature maps broadcast block by block", 64 * len(base), 20),
        ("package", "lpips, pairwise", len(base), 1000),
    ):
        if name in functions:
            value = ratio(taken, "ours", name, (1 - share) * pairs / count)
            yield Row(part, peer, value, goal, f"{count / typical(taken, name):.2e} pairs/s; embedding included")
        else:
            yield missing(part, peer, goal)


def handwriting(count):
    """The first images of MNIST: [count, 1, 28, 28] in [-1, 1]. Raises ValueError where MNIST is out of reach."""
    images = mnist(Places((ROOT / "data" / "raw" / "mnist",), iter, print))[0][:count]
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1)


def without_axes(function):
    """A function like this one in which `nearest` multiplies whole features."""

    def run():
        with mock.patch.object(neighbours, "useful_axes", lambda *_: None):
            function()

    return run


def embedded_neighbours(options):
    """LPIPS neighbours of real images, whose embeddings have principal axes, unlike those of noise."""
    part, peer, goal = "LPIPS k-NN, embeddings of MNIST", "bare torch.mm", 3
    embedding, sizes = embedding_of("alex").to(options.device), {32: (3500, 14_000), 64: (1000, 4000)}
    for side, (n, m) in ({32: (500, 2000)} if options.quick else sizes).items():
        try:
            images = handwriting(n + m)
        except ValueError as error:
            yield Row(part, peer, None, goal, str(error))
            return
        images = torch.nn.functional.interpolate(images, (side, side), mode="bilinear")
        s_prime, s = torch.cat(list(embedding.batches(images))).split([n, m])

        def ours(s_prime=s_prime, s=s):
            nearest(s_prime, s, squared=True)
            nearest(s_prime, s_prime, self_excluded=True, squared=True)

        functions = {"ours": ours, "whole": without_axes(ours)}
        functions["products"] = lambda s_prime=s_prime, s=s: (products(s_prime, s), products(s_prime, s_prime))
        taken = interleaved(options.rounds, **functions)
        detail = f"D = {s.shape[1]:,}, {n:,} x {m:,} and {n:,} x {n:,}; whole features: "
        detail += f"{ratio(taken, 'whole', 'products'):.2f}"
        yield Row(part, peer, ratio(taken, "ours", "products"), goal, detail)


def l2_neighbours(options):
    n, m, part = (1000, 10_000, "L2 k-NN, MNIST") if options.quick else (4000, 56_000, "L2 k-NN, MNIST")
    try:
        x, y = handwriting(n + m).flatten(1).split([n, m])
    except ValueError as error:
        yield Row(part, "faiss-cpu, IndexFlatL2", None, 2, str(error))
        return
    queries, references = x.numpy(), y.numpy()
    functions = {"ours": lambda: nearest(x.to(options.device), y.to(options.device))}
    functions["whole"] = without_axes(functions["ours"])
    if have("sklearn"):
        from sklearn.neighbors import NearestNeighbors

        functions["sklearn"] = lambda: (
            NearestNeighbors(n_neighbors=5, algorithm="brute").fit(references).kneighbors(queries)
        )
    if have("faiss"):
        import faiss

        faiss.omp_set_num_threads(options.threads)

        def flat():
            index = faiss.IndexFlatL2(784)
            index.add(references)
            index.search(queries, 5)

        functions["faiss"] = flat
    taken = interleaved(options.rounds, **functions)
    for name, peer, goal in (("sklearn", "scikit-learn, brute force", 2), ("faiss", "faiss-cpu, IndexFlatL2", 2)):
        if name not in functions:
            yield missing(part, peer, goal)
            continue
        whole = [typical(taken, which) * 200_000 / n * 60_000 / m / 60 for which in ("ours", name)]
        detail = f"200,000 x 60,000 x 784: {whole[0]:.1f} min, {whole[1]:.1f} min, from {n:,} x {m:,}; "
        detail += f"whole features: {ratio(taken, 'whole', name):.2f}"
        yield Row(part, peer, ratio(taken, "ours", name), goal, detail)


def critical_time(options):
    part = "critical time (Alg. 1), 64 patterns"
    goal, peer, files = 4, "batch-global search", [
        ROOT / folder / "digits" / f"64.{suffix}" for folder, suffix in
        (("models", "safetensors"), ("data/neighbours", "safetensors"), ("data/synthetic", "safetensors"))
    ]
    subset = ROOT / "data" / "subsets" / "digits.safetensors"
    if absent := [path.relative_to(ROOT) for path in (*files, subset) if not path.exists()]:
        yield Row(part, peer, None, goal, f"no {absent[0]}: make repro")
        return
    few = Basin(nearest=16, repeating=16, uniform=16, training_limit=16)
    patterns = read_patterns(*files, subset, few, SEED, options.device)
    model, numbers = patterns.model, patterns.numbers
    x = patterns.tensor(numbers)
    basins = critical_times(model, x, numbers, SEED, delta_d=0.6)
    t_c, theirs = batch_global_search(model.cpu(), x.cpu(), numbers, SEED, delta_d=0.6)
    used, _, full = evaluations(basins.searched, 20, 10, len(search_times(model.steps, 10)))
    same = (basins.t_c.cpu() == t_c).all(1).double().mean().item()
    kinds = ", ".join(f"{len(members)} {name}" for name, members in patterns.members.items())
    detail = f"{used:,} evaluations, {theirs:,}; same t_c for {same:.0%}; K = 64: {kinds}"
    yield Row(part, "batch-global search, to the end of the last", theirs / used, goal, detail)
    yield Row(part, "every time of every pattern", full / used, goal, f"{full:,} evaluations")


def spectra(options):
    shape, N = (1, 28, 28), 784
    network = build(MLP(width=256, blocks=3), shape, torch.cumprod(1 - linear_betas(), 0))
    for layer in (network.output, *(block.second for block in network.blocks)):
        torch.nn.init.normal_(layer.weight, std=0.1)
    model = Diffusion(network, linear_betas()).eval().requires_grad_(False).to(options.device)
    x = pictures(1, shape).to(options.device)
    M = materialised(model.cpu(), x[0].cpu(), 0, SEED)
    model.to(options.device)

    def gram():  # of columns at hand, as _gram makes and sums them
        columns = iter(M.T.split(1024))
        _roots(_gram(lambda x_0, noise: next(columns), x, [_Nothing()], 1024))

    algebra = interleaved(options.rounds, ours=gram, svdvals=lambda: torch.linalg.svdvals(M.double()),
                          float32=lambda: torch.linalg.svdvals(M))
    detail = f"{typical(algebra, 'ours'):.2f} s, {typical(algebra, 'svdvals'):.2f} s; {{}}x against svdvals in float32"
    detail = detail.format(f"{ratio(algebra, 'ours', 'float32'):.1f}")
    yield Row(
        "spectrum (Alg. 2), N = 784", "svdvals of M, linear algebra", ratio(algebra, "ours", "svdvals"), 5, detail
    )

    taken = interleaved(
        options.rounds,
        ours=lambda: central_difference(model, x, [0], SEED),
        theirs=lambda: torch.linalg.svdvals(materialised(model, x[0], 0, SEED).double()),
        jacobian=lambda: jacobian(model, x),
    )
    detail = f"{typical(taken, 'ours'):.2f} s, {typical(taken, 'theirs'):.2f} s; residual MLP, width 256"
    yield Row("spectrum (Alg. 2), N = 784", "M and its svdvals, in all", ratio(taken, "ours", "theirs"), 2, detail)
    detail = f"{N} passes forward and back, {8 * N:,} forward; {ratio(taken, 'jacobian', 'ours'):.1f}x in time"
    yield Row("Jacobian spectrum", "Alg. 2, evaluations (a pass back counts as two)", 8 / 3, 2, detail)


class _Nothing:
    """A generator that draws no noise: for what is timed without it."""

    def standard_normal(self, size, dtype):
        return np.zeros(size, dtype)


def unet(shape=(3, 32, 32), **network):
    network = network or {"width": 64, "dropout": 0.1}
    torch.manual_seed(0)
    alpha_bar = torch.cumprod(1 - linear_betas(), 0)
    return build(UNet(**network), shape, alpha_bar)


def accelerations(device):
    """Precisions to show: on a CPU the reference, and bfloat16; on CUDA those and TF32.

    Compiled, this U-Net takes a CPU minutes before its first step.
    """
    names = ("float32", "bfloat16") if device.type == "cpu" else ("float32", "tf32", "bfloat16")
    return {name: chosen(device, name) for name in names}


def sample_of(network, x, t):
    """The prediction of a network of diffusers."""
    return network(x, t).sample


def unet_training(options):
    part, peer = "training, CIFAR-10 U-Net of width 64", "loop around diffusers.UNet2DModel, float32"
    if not have("diffusers"):
        yield missing(part, peer, 1.3)
        return
    import diffusers

    batch, steps = ((4, 1) if options.quick else (16, 2)) if options.device.type == "cpu" else (128, 50)
    images = pictures(64, (3, 32, 32)).to(options.device)
    settings = Training(iterations=steps, batch=batch, learning_rate=2e-4, repeat=True)
    reference = unet()
    theirs = diffusers.UNet2DModel(**config_of(reference.settings, (3, 32, 32))).to(options.device)
    theirs.load_state_dict(to_diffusers(reference.state_dict(), reference.settings))
    model = Diffusion(reference, linear_betas())

    def ours(acceleration):
        network = accelerate(unet().to(options.device), acceleration)
        trained = Diffusion(network, linear_betas()).to(options.device)
        return lambda: train(trained, images, settings, SEED)

    alpha_bar = model.alpha_bar.to(options.device)
    functions = {name: ours(acceleration) for name, acceleration in accelerations(options.device).items()}
    taken = interleaved(options.rounds, **functions, theirs=lambda: plain_training(
        theirs, images, steps, batch, 2e-4, 0.9999, alpha_bar, sample_of))
    for name in functions:
        rates = [steps * batch / typical(taken, which) for which in (name, "theirs")]
        detail = f"{rates[0]:.1f} images/s, {rates[1]:.1f}; batch {batch}"
        yield Row(f"{part}, {name}", peer, ratio(taken, name, "theirs"), 1.3, detail)


def mlp_training(options):
    shape, steps, batch = (1, 8, 8), 50 if options.quick else 400, 256
    images = pictures(512, shape).to(options.device)
    betas = linear_betas().to(options.device)
    alpha_bar = torch.cumprod(1 - betas, 0)

    def network():
        torch.manual_seed(0)
        return build(MLP(width=96, blocks=3), shape, alpha_bar.cpu()).to(options.device)

    settings = Training(iterations=steps, batch=batch, learning_rate=3e-3, repeat=True, ema=0.999)

    def ours(acceleration):
        trained = Diffusion(accelerate(network(), acceleration), betas).to(options.device)
        return lambda: train(trained, images, settings, SEED)

    ways = {"float32": chosen(options.device, "float32")}
    if any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        ways["float32 compiled"] = chosen(options.device, "float32", compile=True)
    functions, theirs = {name: ours(way) for name, way in ways.items()}, network()
    starts = {name: f"first call {seconds(function):.1f} s" for name, function in functions.items()}
    taken = interleaved(options.rounds, **functions, theirs=lambda: plain_training(
        theirs, images, steps, batch, 3e-3, 0.999, alpha_bar))
    for name in functions:
        each = [typical(taken, which) / steps * 1e3 for which in (name, "theirs")]
        detail = f"{each[0]:.2f} ms a step, {each[1]:.2f} ms; {steps} steps; {starts[name]}"
        yield Row(f"training, digits MLP, {name}", "plain PyTorch loop", ratio(taken, name, "theirs"), 2, detail)


def sampling(options):
    part, peer = "sampling, U-Net of width 64", "diffusers.DDPMPipeline, float32"
    if not have("diffusers"):
        yield missing(part, peer, 1.3)
        return
    import diffusers

    batch, steps = ((4, 2) if options.quick else (32, 3)) if options.device.type == "cpu" else (256, 20)
    reference, betas = unet().eval().requires_grad_(False), linear_betas(steps)
    theirs = diffusers.UNet2DModel(**config_of(reference.settings, (3, 32, 32))).eval().to(options.device)
    theirs.load_state_dict(to_diffusers(reference.state_dict(), reference.settings))
    pipeline = diffusers.DDPMPipeline(theirs, diffusers.DDPMScheduler(1000))
    pipeline.set_progress_bar_config(disable=True)

    def ours(acceleration):
        network = accelerate(unet().eval().requires_grad_(False).to(options.device), acceleration)
        model = Diffusion(network, betas).to(options.device)
        return lambda: ancestral(model, sample_noise(SEED, range(batch), (3, 32, 32), steps, options.device))

    functions = {name: ours(acceleration) for name, acceleration in accelerations(options.device).items()}
    taken = interleaved(
        options.rounds, **functions,
        theirs=lambda: pipeline(batch_size=batch, num_inference_steps=steps, output_type="np"),
    )
    for name in functions:
        whole = [typical(taken, which) / steps / batch * 1000 for which in (name, "theirs")]
        detail = f"{whole[0]:.1f} s an image of 1,000 steps, {whole[1]:.1f} s; from {steps} steps of {batch}"
        yield Row(f"{part}, {name}", peer, ratio(taken, name, "theirs"), 1.3, detail)


def toy_energy(options):
    part, peer, path = "toy: energy on 20 x 20", "solve_ivp point by point", ROOT / "models" / "toy" / "9.safetensors"
    if not path.exists():
        yield Row(part, peer, None, 20, f"no {path.relative_to(ROOT)}: make repro")
        return
    from attractors.stages.toy_evaluate import read_score_network

    model = read_score_network(path)[0].double()
    x, t, few = grid(1.5, 20), 0.15, 4 if options.quick else 16
    points = np.random.default_rng(0).choice(len(x), few, replace=False)
    solved = flow(exact_divergence(model), x, t)
    alone = [log_likelihood_of_a_point(model, x[i], t) for i in points]
    apart = max(abs(solved[1][i] - integral) for i, (_, integral) in zip(points, alone, strict=True))
    taken = interleaved(
        options.rounds,
        ours=lambda: flow(exact_divergence(model), x, t),
        theirs=lambda: [log_likelihood_of_a_point(model, x[i], t) for i in points],
    )
    detail = f"log p apart by at most {apart:.1e} (goal 1e-4); {typical(taken, 'ours'):.2f} s, "
    detail += f"{typical(taken, 'theirs') * len(x) / few:.0f} s from {few} points"
    yield Row(part, peer, ratio(taken, "ours", "theirs") * len(x) / few, 20, detail)


def wall(function):
    """Seconds of the clock, for what other processes do."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def pipeline(options):
    """In a clone that shares the cache of DVC: nothing of this checkout changes."""
    report = ROOT / "benchmarks" / "repro.json"
    if report.exists():
        measured = json.loads(report.read_text("utf-8"))
        yield Row("default make repro", "after installation", measured["seconds"], 600, measured.get("detail", ""), "s")
    else:
        yield Row("default make repro", "after installation", None, 600, f"not measured: {report.name}", "s")
    names = (("no-op dvc repro", 2), ("another threshold, to Fig. 4A", 15))
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"

        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

        def run(*command):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding="utf-8", env=environment)

        def dvc(*arguments):
            run("dvc", "--cd", clone, *arguments)

        try:
            run("git", "clone", "--quiet", "--shared", ROOT, clone)
            dvc("cache", "dir", "--local", ROOT / ".dvc" / "cache")
            dvc("checkout")
            dvc("status", "--quiet")  # fails where a stage is stale
        except subprocess.CalledProcessError:
            reason = "skipped: the last commit's results are not all in the cache; make repro, and commit both locks"
            yield from (Row(name, "-", None, goal, reason, "s") for name, goal in names)
            return
        yield Row(names[0][0], "-", min(wall(lambda: dvc("repro")) for _ in range(3)), names[0][1], "least of 3", "s")
        taken = wall(lambda: dvc("exp", "run", "-S", "delta_m=0.5", "figure_transition"))
        yield Row(names[1][0], "-", taken, names[1][1], "dvc exp run -S delta_m=0.5 figure_transition", "s")


PARTS = {
    "lpips": lpips_neighbours, "embeddings": embedded_neighbours, "l2": l2_neighbours, "basin": critical_time,
    "curvature": spectra,
    "unet": unet_training, "mlp": mlp_training, "sampling": sampling, "toy": toy_energy, "pipeline": pipeline,
}
