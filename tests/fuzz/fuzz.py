"""A coverage-guided fuzzer of every reader of files from elsewhere, each for a bounded time.

python tests/fuzz/fuzz.py [--seconds 60] [READER...]      (pip install -e '.[fuzz]')

A reader may refuse a file with ValueError or a click exception of one line. Whatever else gets out is a crash, and so
are more than 2 GB of memory and more than 30 seconds. Inputs that crashed are kept in fuzz_crashes/.
"""

import gzip
import io
import json
import logging
import os
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CRASHES = Path("fuzz_crashes")


def safetensors(record=b"{}", images=bytes(64)):
    header = {"__metadata__": {"record": record.decode()},
              "images": {"dtype": "U8", "shape": [1, 1, 8, 8], "data_offsets": [0, 64]}}
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + images


def saved(save, *arguments, **options):
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


def model_file():
    from attractors.denoisers.models import new_model

    network = {"name": "mlp", "width": 4, "blocks": 1}
    made = new_model(network, {}, (1, 2, 2), 0, None)
    with tempfile.TemporaryDirectory() as folder:
        from attractors.denoisers.models import write_model

        write_model(
            f"{folder}/m", made.state_dict(), network=network, diffusion={}, image_shape=[1, 2, 2], size=2, seed=0
        )
        return Path(folder, "m").read_bytes()


def authors_file():
    import argparse

    import torch

    options = {"in_channels": 1, "image_size": 8, "dim": 32, "dim_mults": (1, 2), "num_res_blocks": 1,
               "attn_resolutions": (4,), "dropout": 0.1}
    train = {
        "train_size": 2,
        "global_seed": 0,
        "timesteps": 1000,
        "prediction_type": "epsilon",
        "beta_schedule": "linear",
    }
    args = argparse.Namespace(model=argparse.Namespace(**options), train=argparse.Namespace(**train))
    weights = {"all_modules.0.weight": torch.zeros(128, 32), "all_modules.0.bias": torch.zeros(128)}
    content = {"ema": weights, "args": args, "iterations": 1}

    def save(file, **options):
        torch.save(content, file, **options)

    return [saved(save), saved(save, _use_new_zipfile_serialization=False)]


def readers():
    """{name: (seeds, function of the path of a file with the fuzzer's bytes, its name)}."""
    import numpy as np
    from PIL import Image

    from attractors import tables
    from attractors.cli.settings import check_names, read_runs, read_yaml
    from attractors.data import datasets, prompts, subsets, unpickling
    from attractors.data import images as readers
    from attractors.data.pictures import read_picture
    from attractors.denoisers import foreign, models

    images = np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)
    kinds = ("png", "jpeg", "webp", "bmp", "gif", "tiff", "ppm")
    pictures = [saved(Image.fromarray(images[0, 0]).save, kind) for kind in kinds]
    mnist = struct.pack(">4I", 0x803, 2, 8, 8) + images.tobytes()
    cifar = pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}, 3)

    def idx(path):
        content = path.read_bytes()
        datasets.md5 = lambda _: "x"  # so that the checksum, which nothing gets past, does not hide the rest
        datasets.read_idx(content, path, "x")

    def picture(path):
        read_picture(path, path)

    def settings(path):
        from attractors.stages import train

        train.main.make_context("train", ["--sweep", str(path), "--subset", "s", "--size", "2", "--out", "o"])

    def runs(path):
        from attractors.commands import scale

        content = scale.runs_of(["x"], path.parent, path.parent / "none")
        check_names([run["dataset"] for run in content["runs"].values()], path)

    def diffusers(path):
        (path.parent / "config.json").write_bytes(path.read_bytes())
        foreign.from_diffusers(path.parent)

    return {
        "read_images .safetensors": (
            [safetensors(), safetensors(b'{"maximum": 200}')], readers.read_images, "x.safetensors",
        ),
        "read_images .npy": (
            [saved(np.save, images), saved(np.save, images / np.float32(255))], readers.read_images, "x.npy",
        ),
        "read_images .npz": (
            [saved(np.savez, images=images), saved(np.savez_compressed, images=images)], readers.read_images, "x.npz",
        ),
        "read_picture": (pictures, picture, "x.png"),
        "read_json": ([b'{"memorized": [1, 2], "left_out": ["a"]}'], tables.read_json, "x.json"),
        "read_csv": ([b"K,memorized\n2,0.5\n4,0.25\n"], lambda path: tables.read_csv(path, "K", "memorized"), "x.csv"),
        "read_model": ([model_file()], models.read_model, "m.safetensors"),
        "from_authors .pt": (authors_file(), foreign.from_authors, "x.pt"),
        "from_diffusers config.json": (
            [b'{"block_out_channels": [32], "down_block_types": ["AttnDownBlock2D"], "in_channels": 1}'],
            diffusers, "c",
        ),
        "numpy_pickle": (
            [pickle.dumps({"data": images}, protocol) for protocol in (2, 4)],
            lambda path: unpickling.numpy_pickle(path.read_bytes(), path, "latin1"), "x",
        ),
        "read_images by content": (
            [mnist, gzip.compress(mnist), cifar, saved(np.savez, images=images), *pictures], readers.read_images, "idx",
        ),
        "read_idx": ([mnist], idx, "x"),
        "sweep as train reads it": ([(ROOT / "sweeps" / "digits.yaml").read_bytes()], settings, "x.yaml"),
        "sweep as scale reads it": ([(ROOT / "sweeps" / "digits.yaml").read_bytes()], runs, "x.yaml"),
        "runs.yaml": ([(ROOT / "runs.yaml").read_bytes()[:600]], read_runs, "runs.yaml"),
        "prompts": (
            [(ROOT / "prompts" / "stable_diffusion_tiny.yaml").read_bytes()],
            lambda path: prompts.prompts_of(read_yaml(path), path), "p.yaml",
        ),
        "sizes": ([b"sizes: [2, 4, 8]", b"sizes: {a: 2, b: 3, total: 9}"],
                  lambda path: subsets.sizes(read_yaml(path).get("sizes")), "x.yaml"),
    }


def fuzz(name, seconds):
    """Fuzz one reader in this process, which ends with it."""
    import atheris

    sys.path.insert(0, str(ROOT / "src"))
    import torch  # noqa: F401 (not to be instrumented, which would take minutes)

    with atheris.instrument_imports(include=["attractors", "ruamel", "PIL"]):
        from attractors.denoisers import foreign  # noqa: F401
    import click

    from attractors.data.archives import NoImagesError, UndecidedError

    refusals = (ValueError, UndecidedError, NoImagesError, click.BadParameter)
    logging.disable()
    warnings.simplefilter("ignore")
    seeds, read, file = readers()[name]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
        for i, seed in enumerate(seeds):
            Path(corpus, str(i)).write_bytes(seed)
        path = Path(folder, file)

        def once(data):
            path.write_bytes(data)
            try:
                read(path)
            except (ValueError, click.ClickException) as error:
                message = error.format_message() if isinstance(error, click.ClickException) else str(error)
                if type(error) not in refusals or "\n" in message.strip():
                    raise RuntimeError(f"{type(error).__name__}, not one line: {message}") from error

        CRASHES.mkdir(exist_ok=True)
        prefix = CRASHES / re.sub(r"\W+", "_", name)
        atheris.Setup(["fuzz", f"-max_total_time={seconds}", "-print_final_stats=1", "-rss_limit_mb=2048",
                       "-timeout=30", "-max_len=8192", f"-artifact_prefix={prefix}-", corpus], once)
        atheris.Fuzz()


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--one"]:
        return fuzz(arguments[1], int(arguments[2]))
    seconds = 60
    if "--seconds" in arguments:
        at = arguments.index("--seconds")
        seconds = int(arguments[at + 1])
        del arguments[at : at + 2]
    sys.path.insert(0, str(ROOT / "src"))
    names, crashed = list(readers()), 0
    print(f"{'reader':28} {'seconds':>7} {'executions':>11} {'crashes':>7}")
    for name in arguments or names:
        command = [sys.executable, __file__, "--one", name, str(seconds)]
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        found = re.findall(r"stat::number_of_executed_units:\s*(\d+)", result.stderr)
        done = found or re.findall(r"#(\d+)", result.stderr)
        crashed += result.returncode != 0
        print(f"{name:28} {seconds:7} {int(done[-1]) if done else 0:11,} {int(result.returncode != 0):7}", flush=True)
        if result.returncode:
            lines = result.stderr.splitlines()
            first = next(
                (i for i, line in enumerate(lines) if "Uncaught" in line or "ERROR" in line), max(0, len(lines) - 30)
            )
            print("\n".join(lines[first : first + 40]))
    sys.exit(crashed > 0)


if __name__ == "__main__":
    main()
