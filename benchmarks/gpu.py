"""make gpu: what one GPU does with this code, in at most nine minutes, as one table and benchmarks/gpu.json.

The tests of CUDA; images a second in training and sampling for the networks of Table 3, against diffusers.UNet2DModel
where it is installed; exact LPIPS neighbours against the card's own rate of products; and one small run from `train`
to `energy`. What there is no time left for is listed as such. To try the script where there is no GPU:

make gpu ARGS="--device cpu --quick --out gpu.json"
"""

import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import click
import torch
from parts import pictures, products, sample_of, unet
from timing import seconds
from transcriptions import plain_training

from attractors.cli.devices import find_device
from attractors.cli.settings import ROOT
from attractors.commands.scale import SCALES, read_sweep
from attractors.denoisers.acceleration import Acceleration, accelerate
from attractors.denoisers.diffusion import Diffusion, linear_betas
from attractors.denoisers.samplers import ancestral
from attractors.denoisers.training import train
from attractors.denoisers.unet_diffusers import config_of
from attractors.devices import arithmetic
from attractors.distances.neighbours import nearest
from attractors.settings.train import Training

BUDGET = 9 * 60  # seconds for everything
LONGEST = {False: 30, True: 120}  # of them for one network, without and with compilation
TRY = 'to try this on a CPU: make gpu ARGS="--device cpu --quick --out gpu.json"'
SHAPES = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32), "lsun_church": (3, 64, 64)}
STEPS = 5  # of sampling, and of training, that are timed


def networks() -> dict[str, tuple[tuple[int, int, int], dict, int]]:
    """{sweep: (image shape, settings, batch of training)} of Table 3; a network of two sweeps is listed once."""
    described: dict[str, tuple] = {}
    for path in sorted(ROOT / "sweeps" / f"{name}.yaml" for name in SCALES["paper"]):
        sweep, stages = read_sweep(path)
        settings = {key: value for key, value in stages["train"]["network"].items() if key != "name"}
        entry = (SHAPES[sweep["dataset"]], settings, stages["train"]["batch"])
        if entry not in described.values():
            described[path.stem] = entry
    return described


def sized(name: str, quick: bool) -> tuple[tuple[int, int, int], dict, int]:
    """The entry of `networks`; for a quick try of 32 channels, with a batch of 2."""
    shape, settings, batch = networks()[name]
    return (shape, settings | {"width": 32}, 2) if quick else (shape, settings, batch)


def modes(device: torch.device) -> list[Acceleration]:
    """The ways to compute that are timed: those of --precision, and on CUDA each of them compiled."""
    plain = [Acceleration("float32"), Acceleration("bfloat16")]
    if device.type == "cpu":
        return plain
    plain.insert(1, Acceleration("tf32"))
    return plain + [Acceleration(mode.precision, True, True) for mode in plain]


def rate(function, count: int) -> float:
    """Images a second of a function that treats `count`, after one call that is not timed."""
    seconds(function)
    return count / seconds(function)


def speed(device: torch.device, mode: Acceleration, name: str, quick: bool) -> dict:
    """Images a second in a training step, and network evaluations a second in ancestral sampling."""
    shape, settings, batch = sized(name, quick)
    images = pictures(batch, shape).to(device)
    model = Diffusion(unet(shape, **settings), linear_betas(STEPS)).to(device)
    accelerate(model.network, mode)
    settings = Training(iterations=STEPS, batch=batch, learning_rate=2e-4, repeat=True)
    rates = {"train": rate(lambda: train(model, images, settings, 0), STEPS * batch)}
    model.eval().requires_grad_(False)
    noise = [images] * (STEPS + 1)
    return rates | {"sample": rate(lambda: ancestral(model, noise), STEPS * batch)}


def peer_speed(device: torch.device, mode: Acceleration, name: str, quick: bool) -> dict:
    """The same of a plain loop around diffusers.UNet2DModel with the same network, in the same arithmetic."""
    import diffusers

    shape, settings, batch = sized(name, quick)
    images, alpha_bar = pictures(batch, shape).to(device), torch.cumprod(1 - linear_betas(), 0).to(device)
    network = diffusers.UNet2DModel(**config_of(unet(shape, **settings).settings, shape)).to(device)

    @torch.inference_mode()
    def evaluate():
        for t in range(STEPS):
            network(images, t)

    with arithmetic(mode.precision, device):
        trained = rate(
            lambda: plain_training(network, images, STEPS, batch, 2e-4, 0.9999, alpha_bar, sample_of), STEPS * batch
        )
        return {"train": trained, "sample": rate(evaluate, STEPS * batch)}


def speeds(device: torch.device, deadline: float, quick: bool) -> Iterator[dict]:
    """A row for each network and mode: the quick ones first, so that what is left out is compiled and large."""
    peer = importlib.util.find_spec("diffusers") is not None
    order = sorted(networks(), key=lambda name: (networks()[name][0], networks()[name][1]["width"]))
    for mode in modes(device):
        for name in order[:1] if quick else order:
            key = {"network": name, "precision": mode.precision, "compiled": mode.compile}
            if time.monotonic() > deadline - LONGEST[mode.compile]:
                yield key | {"note": "no time left"}
                continue
            try:
                row = key | speed(device, mode, name, quick)
                if peer and not mode.compile:
                    row |= {f"{part}_diffusers": value for part, value in peer_speed(device, mode, name, quick).items()}
                yield row
            except RuntimeError as error:  # too little memory, or a compiler that fails
                yield key | {"note": " ".join(str(error).split())[:120]}
            if device.type == "cuda":
                torch.cuda.empty_cache()


def neighbours(device: torch.device, quick: bool) -> dict:
    """The search of exact LPIPS neighbours at 5,760 dimensions as a share of the card's measured rate of products."""
    n, m = (200, 300) if quick else (50_000, 100_000)
    random = torch.Generator(device).manual_seed(0)
    x, y = (torch.randn(count, 5760, generator=random, device=device) for count in (n, m))
    memory = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 2**27
    ours, bare = rate(lambda: nearest(x, y, squared=True, memory=memory), 1), rate(lambda: products(x, y, 2**31), 1)
    return {"samples": n, "images": m, "seconds": 1 / ours, "tflops": 2e-12 * n * m * 5760 * bare, "share": ours / bare}


def whole_run(device: torch.device, deadline: float, quick: bool) -> dict:
    """One run of the small MNIST sweep from `subset` to `energy`; of digits where MNIST is not to be had."""
    took, dataset = {}, "digits" if quick else "mnist"
    with tempfile.TemporaryDirectory() as folder:

        def run(stage, *arguments, out):
            common = [] if stage == "subset" else ["--sweep", ROOT / "sweeps" / "mnist_small.yaml", "--device", device]
            command = [sys.executable, ROOT / "src" / "main.py", stage, *arguments, *common, "--out", f"{folder}/{out}"]
            began = time.monotonic()
            try:
                done = subprocess.run(
                    [str(part) for part in command],
                    capture_output=True,
                    text=True,
                    timeout=deadline - began,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise ValueError(f"{stage}: no time left") from None
            took[stage] = time.monotonic() - began
            if done.returncode:
                raise ValueError(f"{stage}: {done.stderr.strip().splitlines()[-1][:200]}")
            return Path(folder) / out

        few = ["--iterations", 2] if quick else ["--iterations", 5000]
        try:
            try:
                subset = run("subset", dataset, out="subset.safetensors")
            except ValueError:
                dataset, subset = "digits", run("subset", "digits", out="subset.safetensors")
            model = run("train", "--subset", subset, "--size", 16, *few, out="model.safetensors")
            s_prime = run("sample", "--model", model, "--floor", 4 if quick else 1024, out="synthetic.safetensors")
            near = run(
                "neighbours", "--synthetic", s_prime, "--training", subset, "--size", 16, out="neighbours.safetensors"
            )
            inputs = ["--model", model, "--neighbours", near, "--synthetic", s_prime, "--subset", subset]
            if quick:
                inputs += ["--nearest", 1, "--repeating", 1, "--uniform", 1, "--training-limit", 1]
            run("basin", *inputs, "--distance", "l2", "--delta-d", 1, out="basin.safetensors")
            run("curvature", *inputs, out="curvature.safetensors")
            run("energy", *inputs, out="energy.safetensors")
        except ValueError as error:
            return {"dataset": dataset, "seconds": took, "note": str(error)}
    return {"dataset": dataset, "seconds": took}


def tests(deadline: float) -> dict:
    """The outcome of tests/test_cuda.py, in pytest's words."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", ROOT / "tests" / "test_cuda.py"]
    if importlib.util.find_spec("pytest") is None:
        return {"note": "pytest is not installed"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=deadline - time.monotonic()
        )
    except subprocess.TimeoutExpired:
        return {"note": "no time left"}
    return {"passed": done.returncode == 0, "summary": (done.stdout.strip().splitlines() or [""])[-1]}


def shown(report: dict) -> str:
    """The table of a report."""
    lines = [f"{report['machine']}, torch {report['torch']}", f"tests of CUDA: {report['tests']}", ""]
    lines.append(
        f"{'network':18} {'arithmetic':20} {'training':>12} {'diffusers':>10} {'sampling':>12} {'diffusers':>10}"
    )
    for row in report["speeds"]:
        cells = [f"{row[key]:,.1f}" if key in row else "-" for key in ("train", "train_diffusers")]
        cells += [f"{row[key]:,.1f}" if key in row else "-" for key in ("sample", "sample_diffusers")]
        how = f"{row['precision']}{', compiled' * row['compiled']}"
        lines.append(
            f"{row['network']:18} {how:20} {cells[0]:>12} {cells[1]:>10} {cells[2]:>12} {cells[3]:>10}  "
            f"{row.get('note', '')}".rstrip()
        )
    timed, run = report["neighbours"], report["run"]
    lines += ["images a second; sampling: network evaluations a second", ""]
    lines.append(
        f"LPIPS neighbours, {timed['samples']:,} x {timed['images']:,}: {timed['seconds']:.2f} s, {timed['share']:.0%} "
        f"of {timed['tflops']:.2f} TFLOP/s of bare float32 products"
    )
    stages = ", ".join(f"{stage} {taken:.0f} s" for stage, taken in run["seconds"].items())
    return "\n".join([*lines, f"{run['dataset']}: {stages} {run.get('note', '')}".rstrip()])


@click.command()
@click.option("--device", default="cuda", show_default=True, help="cuda, or cpu to try this script.")
@click.option("--quick", is_flag=True, help="Tiny sizes: whether it works, not how fast it is.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=ROOT / "benchmarks" / "gpu.json")
def main(device, quick, out):
    """Measure one GPU: print a table and write OUT."""
    began = time.monotonic()
    try:
        device = find_device(device)
    except ValueError as error:
        raise click.ClickException(f"{error}; {TRY}" if device == "cuda" else str(error)) from None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    report = {"machine": name, "torch": torch.__version__, "quick": quick, "tests": tests(began + BUDGET / 3)}
    report["run"] = whole_run(device, began + 2 * BUDGET / 3, quick)
    report["neighbours"] = neighbours(device, quick)
    report["speeds"] = list(speeds(device, began + BUDGET, quick))
    report["seconds"] = time.monotonic() - began
    out.write_text(json.dumps(report, indent=1) + "\n")
    click.echo(shown(report))


if __name__ == "__main__":
    main()
