"""Hostile input: every file here is refused with one line; nothing is run, nothing written, and no memory spent."""

import ctypes
import io
import json
import os
import pickle
import signal
import struct
import sys
import zipfile
import zlib
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision.datasets import CIFAR10

if sys.platform != "linux":
    pytest.skip("limits of memory as Linux has them", allow_module_level=True)
import resource

from attractors.arrays import write_arrays
from attractors.commands import import_checkpoint, scale
from attractors.data import datasets, downloads
from attractors.data.datasets import IDX, IDX_NAME
from attractors.distances.lpips_embedding import weights_hash
from attractors.figures import transition
from attractors.stages import (
    basin,
    classify,
    clusters,
    neighbours,
    report,
    sample,
    sd_generate,
    subset,
    toy_evaluate,
    train,
)

MEMORY = 2**30  # bytes that a refusal may take beyond what the process has already
SECONDS = 20
Case = namedtuple("Case", "name make words")
CASES = []


def case(name, *words):
    """Register a function of (folder, canary's command) that writes a hostile file and returns (command, arguments).

    words: what the line that refuses it must hold.
    """

    def register(make):
        CASES.append(Case(name, make, words))
        return make

    return register


def cases(make, rows):
    """Register rows (name, content, *words) whose files differ in their content alone: make(folder, content) -> call.

    content: any value, or a function of the canary's command that returns it.
    """
    for name, content, *words in rows:
        def written(folder, command, content=content):
            return make(folder, content(command) if callable(content) else content)

        CASES.append(Case(name, written, words))


# ---- images of a user: .npy, .npz, folders of pictures


def images(path):
    return neighbours, ["--synthetic", path, "--training", path]


class Bomb:
    """Runs a command wherever it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


def npy(shape, descr="<f4", data=b"", version=(1, 0)):
    """An .npy file with any header."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", len(header)) + header + data


def stored(path, name, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
    return path


def put(path, content):
    path.write_bytes(content)
    return path


def packed(*arrays, **named):
    """The bytes that np.save writes of an array, or np.savez of named ones."""
    file = io.BytesIO()
    np.savez(file, **named) if named else np.save(file, *arrays, allow_pickle=True)
    return file.getvalue()


def zipped(content=None, name="images.npy", compression=zipfile.ZIP_DEFLATED):
    """The bytes of an archive of one member, by default of two images."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, npy((2, 1, 8, 8), data=bytes(512)) if content is None else content)
    return file.getvalue()


def patched(content, *changes):
    """Bytes of an archive with numbers in its headers replaced: (what the header begins with, offset, format, number).
    """
    content = bytearray(content)
    for start, offset, form, number in changes:
        struct.pack_into(form, content, content.find(start) + offset, number)
    return bytes(content)


def one_pixel(value, dtype):
    array = np.zeros((3, 1, 8, 8), dtype)
    array[1, 0, 2, 2] = value
    return packed(array)


MEMBER, DIRECTORY = b"PK\x03\x04", b"PK\x01\x02"  # the header of a file in an archive, and its entry in the directory
STORED = zipped(compression=zipfile.ZIP_STORED)
EIGHT_GB = 2**33 - 2**32 - 1 & 0xFFFFFFFF  # the same as the real thing to who trusts the directory, without the wait

cases(lambda folder, content: images(put(folder / "x.npy", content)), [
    ("pickle as .npy", lambda command: pickle.dumps(Bomb(command)), "x.npy", "not a pickle of plain numpy arrays"),
    ("array of objects in .npy", lambda command: packed(np.array([Bomb(command)], object)), "plain numbers",
     "allow_pickle"),
    (".npy that announces a terabyte", npy((2**38, 1, 1, 1), data=bytes(64)), "announces 1099511627904"),
    (".npy that announces a negative side", npy((-1, 1, 8, 8), data=bytes(256)), "plain numbers"),
    (".npy whose sides overflow 64 bits", npy((2**40, 2**40, 2**40, 8)), "announces"),
    (".npy cut short", npy((3, 1, 8, 8), data=bytes(700)), "its header announces"),
    (".npy with a program as its header", lambda command: npy(f"__import__('os').system({command!r})"),
     "plain numbers"),
    (".npy with a header nested a thousand deep", npy("(" * 1000 + ")" * 1000), "plain numbers"),
    (".npy of named fields", npy((3, 1, 8, 8), [("a", "<f4")], bytes(768)), "type [('a'"),
    (".npy of text", packed(np.full((2, 1, 8, 8), "abc")), "type <U3"),
    (".npy of complex numbers", packed(np.zeros((2, 1, 8, 8), np.complex64)), "type complex64"),
    (".npy of a single number", packed(np.float32(0)), "of shape ()"),
    ("images without pixels", packed(np.zeros((3, 1, 0, 8), np.float32)), "of shape (3, 1, 0, 8)"),
    ("NaN in one pixel", one_pixel(np.nan, np.float32), "NaN or infinity"),
    ("minus infinity in one pixel", one_pixel(-np.inf, np.float16), "NaN or infinity"),
    ("values up to 1e300", packed(np.full((3, 1, 8, 8), 1e300)), "floats must lie in [-1, 1]"),
])
cases(lambda folder, content: images(put(folder / "x.npz", content)), [
    ("array of objects in .npz", lambda command: packed(images=np.array([Bomb(command)], object)), "plain numbers",
     "allow_pickle"),
    ("pickle as .npz", lambda command: pickle.dumps(Bomb(command)), "not a pickle of plain numpy arrays"),
    ("zip bomb: 8 GB of zeros in .npz",
     patched(zipped(), (MEMBER, 22, "<I", EIGHT_GB), (DIRECTORY, 24, "<I", EIGHT_GB)), "unpack to"),
    ("deflate bomb: 400 MB of zeros in .npz",
     lambda _: zipped(npy((100 * 2**20, 1, 1, 1)) + bytes(25 * 2**24)), "unpack to"),
    (".npz whose member is shorter than it says", patched(zipped(), (DIRECTORY, 24, "<I", 10**8)), "plain numbers"),
    ("bit flipped in .npz", patched(STORED, (MEMBER, 400, "B", 1)), "plain numbers", "CRC-32"),
    (".npz cut short", STORED[:-40], "plain numbers"),
    (".npz that climbs out of its folder", zipped(name="../../run.npy"), "names a file outside"),
    (".npz with an absolute path", zipped(name="/etc/cron.d/run.npy"), "names a file outside"),
    (".npz with a password", patched(zipped(), (MEMBER, 6, "B", 1), (DIRECTORY, 8, "B", 1)), "plain numbers",
     "password"),
    (".npz without members", b"PK\5\6" + bytes(18), "it is empty"),
])


def picture(folder, content, name="0.png"):
    (folder / "pictures").mkdir()
    put(folder / "pictures" / name, content)
    return images(folder / "pictures")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, bits=8, colour=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


GREY = chunk(b"IDAT", zlib.compress(bytes(9 * 8)))


def drawn(form, pixels=None):
    """The bytes of a picture as Pillow writes them."""
    content = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8) if pixels is None else pixels).save(content, form)
    return content.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(%pipe%COMMAND) (w) file\n%%EOF\n"

cases(picture, [
    ("PNG of 2^31 x 2^31 pixels", png(2**31 - 1, 2**31 - 1, GREY), "0.png", "not a picture"),
    ("PNG of 100 million black pixels in 100 kB",
     lambda _: png(10_000, 10_000, chunk(b"IDAT", zlib.compress(bytes(10_001 * 10_000), 1))), "not a picture",
     "decompression bomb"),
    ("PNG with a text that unpacks to 64 MB",
     lambda _: png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26), 9)), GREY), "not a picture"),
    ("PNG cut short", drawn("png", NOISE)[:2000], "not a picture"),
    ("bit flipped in a PNG's header", patched(png(8, 8, GREY), (b"IHDR", 6, "B", 64)), "not a picture"),
    ("PNG of 16 bits", png(8, 8, chunk(b"IDAT", zlib.compress(bytes(17 * 8))), bits=16), "more than 8 bits"),
    ("PostScript called .png", lambda command: POSTSCRIPT.replace("COMMAND", command).encode(), "not a picture"),
    ("a cut TIFF called .png", drawn("tiff")[:60], "not a picture"),
])
cases(lambda folder, content: picture(folder, content, "0.bmp"), [
    ("text called .bmp", b"BM" + bytes(60), "not a picture"),
])


@case("folder of nothing but a named pipe", "no pictures")
def _(folder, _command):
    (folder / "pictures").mkdir()
    os.mkfifo(folder / "pictures" / "0.png")
    return images(folder / "pictures")


# ---- safetensors


def tensors(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape=(2, 1, 8, 8), offsets=(0, 512)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


RECORD = {"__metadata__": {"record": "{}"}}
SAFETENSORS = [
    ("header of 2^60 bytes", tensors(b"{}", length=2**60), ["truncated"]),
    ("header of 200 MB announced", tensors(b"{}", length=2 * 10**8), ["truncated"]),
    ("header that is no JSON", tensors(b"\x80\x04N."), ["truncated"]),
    ("header nested ten thousand deep", tensors(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), ["truncated"]),
    ("overlap", tensors(RECORD | {"a": entry(), "b": entry(offsets=(256, 768))}, bytes(768)), ["truncated"]),
    ("tensor beyond the end", tensors(RECORD | {"images": entry(offsets=(0, 10**15))}, bytes(512)), ["truncated"]),
    ("a negative side", tensors(RECORD | {"images": entry(shape=(-2, 1, 8, 8))}, bytes(512)), ["truncated"]),
    ("sides that overflow", tensors(RECORD | {"images": entry(shape=(2**40, 2**40, 1, 1))}, bytes(512)), ["truncated"]),
    ("shape and bytes that differ", tensors(RECORD | {"images": entry(shape=(9, 1, 8, 8))}, bytes(512)), ["truncated"]),
    ("an unknown type of number", tensors(RECORD | {"images": entry("Q99")}, bytes(512)), ["truncated"]),
    ("a hole in the data", tensors(RECORD | {"images": entry(offsets=(256, 768))}, bytes(768)), ["truncated"]),
    ("numbers of 4 bits", tensors(RECORD | {"images": entry("F4", (2, 1, 32, 16), (0, 512))}, bytes(512)), []),
    ("booleans as images", tensors(RECORD | {"images": entry("BOOL", (2, 1, 16, 16), (0, 512))}, bytes(512)), ["type"]),
    ("a pickle", pickle.dumps({"images": [0]}), ["a pickle of plain numpy arrays, but no batch of CIFAR"]),
    ("an empty file", b"", ["truncated"]),
    *(
        (name, tensors({"__metadata__": {"record": record}, "images": entry()}, bytes(512)), ["no record"])
        for name, record in (
            ("a record that is no mapping", "[1]"), ("a record nested a million deep", "[" * 10**6),
            ("a record with a number of 5,000 digits", "9" * 5000),
        )
    ),
    ("two records", tensors(b'{"__metadata__":{"record":"{}"},"__metadata__":{"record":"{}"}}'), ["truncated"]),
    *(
        (f"a largest value of {maximum}",
         tensors({"__metadata__": {"record": json.dumps({"maximum": maximum})},
                  "images": entry("U8", (8, 1, 8, 8))}, bytes([9]) * 512), ["largest"])
        for maximum in (0, -1, "x", 1e308, 5)
    ),
]

cases(
    lambda folder, content: images(put(folder / "x.safetensors", content)),
    [(f"safetensors: {name}", content, "x.safetensors", *words) for name, content, words in SAFETENSORS],
)


# ---- models


MLP = {"name": "mlp", "width": 8, "blocks": 1}


def model(folder, arrays=None, **changes):
    record = {"network": MLP, "diffusion": {}, "image_shape": [1, 8, 8], "size": 2, "seed": 0} | changes
    write_arrays(folder / "m.safetensors", arrays or {"x": np.zeros(2, np.float32)}, **record)
    return sample, ["--model", folder / "m.safetensors"]


MODELS = [
    ("a network of 8 TB", {"network": MLP | {"width": 65536}}),
    ("a billion blocks", {"network": MLP | {"blocks": 10**9}}),
    ("a width in words", {"network": MLP | {"width": "8"}}),
    ("a width of NaN", {"network": MLP | {"width": float("nan")}}),
    ("a network that is a list", {"network": [MLP]}),
    ("settings called image_shape and alpha_bar", {"network": MLP | {"image_shape": 1, "alpha_bar": 2}}),
    ("a name that is a list", {"network": {"name": ["mlp"]}}),
    ("10^12 times", {"diffusion": {"steps": 10**12}}),
    ("no times", {"diffusion": {"steps": 0}}),
    ("betas beyond 1", {"diffusion": {"beta_max": 7}}),
    ("betas of NaN", {"diffusion": {"beta_min": float("nan")}}),
    ("images of 10^18 pixels", {"image_shape": [1, 10**9, 10**9]}),
    ("images without a shape", {"image_shape": None}),
    ("images of negative size", {"image_shape": [1, -8, -8]}),
    ("10^12 memories", {"network": {"name": "exact"}, "size": 10**12}),
    ("a seed in words", {"seed": "x"}),
    ("a prediction that is a list", {"diffusion": {"prediction": []}}),
    ("a U-Net with a thousand levels", {"network": {"name": "unet", "multipliers": [1] * 1000}}),
    ("a U-Net of width NaN", {"network": {"name": "unet", "multipliers": [float("nan")]}}),
]
cases(
    lambda folder, changes: model(folder, **changes),
    [(f"model: {name}", changes, "m.safetensors: not a model of this repository") for name, changes in MODELS],
)


@case("model: a toy model of 10^12 points", "")
def _(folder, _command):
    write_arrays(folder / "m", {"x": np.zeros(2)}, seed=0, network={"width": 2**40}, points=10**12, size=2)
    return toy_evaluate, ["--model", folder / "m", "--metrics", folder / "metrics.json"]


for _name, _hash, _words in (
    ("another hash", "0" * 64, "its header says 000"),
    ("no hash", None, "its header says None"),
    ("no layers", weights_hash({"x": np.zeros(1)}), "no weights 'convolution_0.weight'"),
):

    @case(f"model: LPIPS weights with {_name}", "alex", _words)
    def _(folder, _command, sha256=_hash):
        np.save(folder / "s.npy", np.full((3, 1, 8, 8), -1, np.float32))
        write_arrays(folder / "alex", {"x": np.zeros(1)}, backbone="alex", weights_sha256=sha256)
        return neighbours, [*images(folder / "s.npy")[1], "--distance", "lpips_alex", "--lpips", folder / "alex"]


# ---- checkpoints of other programs: others, with code in each place of the file, are in test_foreign.py


def foreign(path, *arguments):
    return import_checkpoint, [path, *arguments]


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def short_tensor(_):
    """A checkpoint whose tensor reaches outside of its numbers."""
    with zipfile.ZipFile(io.BytesIO(saved({"ema": {"a": torch.zeros(4)}, "args": 1, "iterations": 1}))) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(member, content[:4] if member.endswith("data/0") else content)
    return file.getvalue()


cases(lambda folder, content: foreign(put(folder / "x.pt", content)), [
    ("checkpoint: a plain pickle that runs a command", lambda command: pickle.dumps(Bomb(command), protocol=2), "x.pt"),
    ("checkpoint: a command in torch's old format",
     lambda command: saved({"ema": Bomb(command)}, _use_new_zipfile_serialization=False), "x.pt", "refused"),
    ("checkpoint: a command in torch's format", lambda command: saved({"ema": Bomb(command)}), "x.pt", "refused"),
    ("checkpoint: a tensor that reaches outside of its numbers", short_tensor, "x.pt"),
    ("checkpoint: a list", saved([1, 2]), "not a checkpoint of the authors'"),
])


def options(**changes):
    """What from_authors looks for in args, of plain classes."""
    import argparse

    train_options = {"train_size": 2, "global_seed": 0, "timesteps": 1000, "prediction_type": "epsilon",
                     "beta_schedule": "linear"}
    model_options = {"in_channels": 1, "image_size": 8, "dim": 32, "dim_mults": (1, 2), "num_res_blocks": 1,
                     "attn_resolutions": (4,), "dropout": 0.1}
    return argparse.Namespace(
        model=argparse.Namespace(**{k: changes.get(k, v) for k, v in model_options.items()}),
        train=argparse.Namespace(**{k: changes.get(k, v) for k, v in train_options.items()}),
    )


AUTHORS = {
    "weights that are no tensors": {"ema": {"a.weight": 5, "a.bias": "x"}},
    "weights that are a list": {"ema": [1]},
    "layers named by numbers": {"ema": {1: torch.zeros(1)}},
    "a billion blocks": {"args": options(num_res_blocks=10**9)},
    "a width of 10^12": {"args": options(dim=10**12)},
    "a width in words": {"args": options(dim="32")},
    "a size that is a list": {"args": options(image_size=[8])},
    "times of NaN": {"args": options(timesteps=float("nan"))},
}
cases(
    lambda folder, content: foreign(put(folder / "x.pt", content), "--no-check"),
    [(f"checkpoint: {name}", saved({"ema": {}, "args": options(), "iterations": 1} | content), "x.pt: ")
     for name, content in AUTHORS.items()],
)


DIFFUSERS = {
    "no mapping": "[]",
    "channels in words": {"block_out_channels": ["a"], "down_block_types": ["DownBlock2D"], "in_channels": 1},
    "a billion layers": {
        "block_out_channels": [32], "down_block_types": ["DownBlock2D"], "in_channels": 1, "layers_per_block": 10**9,
    },
    "no channels": {"block_out_channels": [], "down_block_types": [], "in_channels": 1},
    "nested a million deep": "[" * 10**6,
}


def configured(folder, content):
    (folder / "d").mkdir()
    put(folder / "d" / "config.json", (content if isinstance(content, str) else json.dumps(content)).encode())
    return foreign(folder / "d", "--size", 2)


cases(configured, [(f"diffusers: config.json of {name}", content, "config.json")
                   for name, content in DIFFUSERS.items()])


# ---- datasets


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*command, **_):
        raise ValueError("no network in tests")

    monkeypatch.setattr(downloads, "download", refuse)
    monkeypatch.setattr(downloads, "run", refuse)


def dataset(name, folder):
    return subset, [name, "--source", folder]


def gzip_bomb(_):
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(bytes(2**24)) for _ in range(128)] + [packer.flush()])


cases(lambda folder, content: dataset("mnist", put(folder / f"{IDX_NAME}.gz", content).parent), [
    ("MNIST: gzip bomb of 2 GB", gzip_bomb, "md5"),
    ("MNIST: gzip of garbage", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"garbage", "Error"),
])
cases(lambda folder, content: dataset("mnist", put(folder / IDX_NAME, content).parent), [
    ("MNIST: a header of 60,000 images before ten", struct.pack(">4I", 0x803, 60_000, 28, 28) + bytes(7840),
     "announces 60000 x 28 x 28"),
    ("MNIST: a header of negative sizes", struct.pack(">4i", 0x803, -10, -28, 28) + bytes(7840), "announces"),
])


def batches(folder, content):
    (folder / "cifar-10-batches-py").mkdir()
    for i in range(1, 6):
        put(folder / "cifar-10-batches-py" / f"data_batch_{i}", content)
    return dataset("cifar10", folder)


FORGED = "CIFAR10, its checksum forged: "
cases(batches, [
    ("CIFAR10: a batch that runs a command", lambda command: pickle.dumps({b"data": Bomb(command)}), "md5"),
    (FORGED + "100 bytes that ask for 4 GB to remember by", b"\x80\x02]r" + struct.pack("<I", 2**28) + b".",
     "data_batch_1", "plain numpy arrays"),
    (FORGED + "an array of 8 TB",
     b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntS'd'\ntR.", "data_batch_1",
     "plain numpy arrays"),
    (FORGED + "a string of 2 GB announced", b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x", "data_batch_1",
     "plain numpy arrays"),
])


@case("CIFAR10: an archive that climbs out", "md5")
def _(folder, command):
    import tarfile

    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../run"))
    return dataset("cifar10", folder)


def database(folder, values):
    lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed")
    path = folder / "church_outdoor_train_lmdb"
    with lmdb.open(str(path), map_size=10**7) as environment, environment.begin(write=True) as transaction:
        for i, value in enumerate(values):
            transaction.put(b"%04d" % i, value)
    (path / "lock.mdb").unlink()
    return path / "data.mdb"

@case("LSUN: a database of garbage", "church_outdoor_train_lmdb")
def _(folder, _command):
    put(database(folder, [b"x"]), os.urandom(10**5))
    return dataset("lsun_church", folder)


@case("LSUN: a database cut short", "truncated")
def _(folder, _command):
    path = database(folder, [os.urandom(3000) for _ in range(50)])
    put(path, path.read_bytes()[:40_000])
    return dataset("lsun_church", folder)


@case("LSUN: a database of 10^12 images", "truncated")
def _(folder, _command):
    path = database(folder, [png(8, 8, GREY)])
    content = bytearray(path.read_bytes())
    for page in (0, 4096):  # number of entries of the main tree in both meta pages
        struct.pack_into("<Q", content, page + 16 + 24 + 48 + 32, 10**12)
    return dataset("lsun_church", put(path, bytes(content)).parent.parent)


@case("LSUN: a picture of 2^31 x 2^31 pixels", "image 0", "not a picture")
def _(folder, _command):
    database(folder, [png(2**31 - 1, 2**31 - 1, GREY)])
    return dataset("lsun_church", folder)


@case("LSUN: a picture that is none, in a folder", "1.png", "not a picture")
def _(folder, _command):
    put(folder / "1.png", b"\x89PNG\r\n\x1a\n" + os.urandom(99))
    return dataset("lsun_church", folder)


# ---- YAML: params.yaml, sweeps, prompts, runs.yaml


SWEEP = "dataset: digits\nsizes: [2]\nnetwork: {name: mlp, width: 8, blocks: 1}\ntrain: {iterations: 1}\n"
LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
SETTINGS = [
    ("a billion laughs", LAUGHS, ["alias"]),
    ("a mapping within itself", "train: &t {iterations: *t}\n", ["alias"]),
    ("a bomb of merges", "a: &a {x: 1}\nb: {<<: [*a, *a, *a]}\n", ["alias"]),
    ("a tag of Python", "train: !!python/object/apply:os.system [COMMAND]\n", ["not YAML", "tag"]),
    ("an unknown tag", "train: !run COMMAND\n", ["not YAML", "tag"]),
    ("a key twice", "train: {iterations: 1, iterations: 2}\n", ["not YAML", "duplicate"]),
    ("a number of 5,000 digits", "train: {iterations: " + "9" * 5000 + "}\n", ["not YAML", "digits"]),
    ("a number of 400 digits", "train: {iterations: " + "9" * 400 + "}\n", ["64 bits"]),
    ("a float of infinity", "train: {learning_rate: .inf}\n", ["learning_rate is"]),
    ("a float of NaN", "train: {learning_rate: .nan}\n", ["learning_rate is"]),
    ("half a step", "train: {iterations: 2.5}\n", ["2.5", "whole number"]),
    ("a boolean as a number", "train: {iterations: true}\n", ["True", "whole number"]),
    ("a number as a boolean", "train: {repeat: 1}\n", ["true or false"]),
    ("a date as a number", "train: {iterations: 2001-01-01}\n", ["2001-01-01", "whole number"]),
    ("a list as a number", "train: {iterations: [1]}\n", ["[1]", "whole number"]),
    ("a mapping as a choice", "train: {noise_levels: {a: b}}\n", ["noise_levels"]),
    ("nothing as a number", "train: {iterations: }\n", ["None", "whole number"]),
    ("bytes as a choice", "train: {noise_levels: !!binary aGk=}\n", ["noise_levels"]),
    ("nesting of a thousand levels", "train: " + "[" * 1000 + "]" * 1000 + "\n", ["levels"]),
    ("keys that are numbers", "train: {1: 2}\n", ["no setting '1'"]),
    ("keys that are lists", "train: {[1, 2]: 3}\n", ["no setting"]),
    ("an empty file", None, ["NoneType"]),
    ("a list of settings", "- 1\n", ["list"]),
    ("two documents", "a: 1\n---\nb: 2\n", ["not YAML", "document"]),
    ("a NUL", "train: \0\n", ["not YAML"]),
    ("bytes that are no text", b"\xff\xfe\xff", ["not YAML"]),
    ("2 MB", "# " + "x" * 2**21 + "\n", ["bytes"]),
    ("a network that is a list", "network: [mlp]\n", ["network is"]),
    ("a network's width in words", "network: {name: mlp, width: wide}\n", ["width is wide"]),
    ("a network of 10^12 units", "network: {name: mlp, width: 1000000000000}\n", ["width is 1000000000000"]),
    ("a diffusion that is a number", "diffusion: 7\n", ["diffusion is 7"]),
    ("a network of 16 GB", "network: {name: mlp, width: 65000, blocks: 1}\n", ["too large"]),
]


def sweep(text, command):
    """The bytes of a sweep's file: SWEEP, with the sections that `text` has in place of its own."""
    if not text or isinstance(text, bytes) or text.startswith(("-", "#")):
        return text if isinstance(text, bytes) else (text or "").encode()
    kept = [line for line in SWEEP.splitlines(True) if not text.startswith(line.split(":")[0])]
    return "".join([*kept, text]).replace("COMMAND", command).encode()


def trained(folder, text):
    np.save(folder / "s.npy", np.full((2, 1, 8, 8), -1, np.float32))
    put(folder / "sweep.yaml", text)
    return train, ["--sweep", folder / "sweep.yaml", "--subset", folder / "s.npy", "--size", 2]


cases(trained, [(f"YAML: {name}", lambda command, text=text: sweep(text, command), *words)
                for name, text, words in SETTINGS])


def grid_of_sizes(folder, sizes):
    put(folder / "sweep.yaml", f"dataset: digits\nsizes: {sizes}\n".encode())
    (folder / "n").mkdir()
    return classify, [folder / "n", "--sweep", folder / "sweep.yaml", "--types", folder / "s"]


cases(grid_of_sizes, [
    ("YAML: a grid of sizes in words", "{a: x, b: 3, total: 9}", "sizes is"),
    ("YAML: a grid of 10^18 sizes", "{a: 2, b: 3, total: 1000000000000000000}", "sizes is"),
])


NO_MODEL = "neither a folder nor an id" if find_spec("diffusers") and find_spec("transformers") else "needs diffusers"
PROMPTS = [
    ("prompts that are a list", "prompts: [a]\n", "no prompts"),
    ("a prompt that is a number", "prompts: {a: {type: memorized, prompt: 5, source: x}}\n", "must be text"),
    ("a prompt of an unknown type", "prompts: {a: {type: [x], prompt: b, source: x}}\n", "must be one of"),
    ("a model that is a list", "model: [x]\nprompts: {a: {type: memorized, prompt: b, source: x}}\n", "no model"),
    ("a model outside", "model: ../../x\nprompts: {a: {type: memorized, prompt: b, source: x}}\n", NO_MODEL),
]


def prompted(folder, text):
    put(folder / "p.yaml", (text if text.startswith("model") else "model: a/b\n" + text).encode())
    return sd_generate, ["--study", folder / "p.yaml", "--prompt", "a"]


cases(prompted, [(f"YAML: {name}", text, words) for name, text, words in PROMPTS])


# ---- names that reach a shell: dvc.yaml's commands are lines of one


NAMES = ["a b", "a'b", 'a"b', "$(COMMAND)", "`COMMAND`", "a;COMMAND", "a&&COMMAND", "a|COMMAND", "a>run", "..", "-rf",
         "a\nCOMMAND", "épée", "a\\b", "a*", "~", "{a,b}", "a#b", "!a", "${item}", "a\u202eb", ""]
TOUCH = "touch run"


def scaled(folder, text, name="x"):
    """The command scale in a checkout with one sweep."""
    (folder / "sweeps").mkdir()
    put(folder / "sweeps" / f"{name}.yaml", text.encode())
    return scale, [name]


cases(lambda folder, name: scaled(folder, SWEEP, name), [
    ("name of a sweep's file with a command", f"$({TOUCH})", "is no name"),
])
cases(scaled, [
    *((f"sweep whose dataset is called {name!r}", SWEEP.replace("digits", json.dumps(name)), "x.yaml", "is no name")
      for name in (name.replace("COMMAND", TOUCH) for name in NAMES)),
    ("sweep whose distance is a command", SWEEP + f"neighbours: {{distance: lpips_$({TOUCH})}}\n", "x.yaml",
     "must be one of l2, lpips_alex"),
    ("sweep whose network is a list", "dataset: digits\nsizes: [2]\nnetwork: [mlp]\n", "x.yaml", "network is"),
    ("sweep with sizes in words", SWEEP.replace("[2]", "['2; touch run']"), "sizes is"),
])


@case("prompt's name with a command", "x.yaml", "is no name")
def _(folder, _command):
    (folder / "prompts").mkdir()
    text = f"model: a/b\nprompts: {{'$({TOUCH})': {{type: memorized, prompt: b, source: x}}}}\n"
    put(folder / "prompts" / "x.yaml", text.encode())
    (folder / "sweeps").mkdir()
    for name in scale.SCALES["laptop"]:  # a study alone comes with the default sweeps
        put(folder / "sweeps" / f"{name}.yaml", (scale.ROOT / "sweeps" / f"{name}.yaml").read_bytes())
    return scale, ["x"]


def edited(folder, text):
    """A runs.yaml, edited by hand, as the report reads it; fan_out.py reads its own checkout's in the same way."""
    put(folder / "runs.yaml", text.encode())
    folders = [word for name in ("metrics", "plots", "data", "settings") for word in (f"--{name}", folder)]
    return report, ["--runs", folder / "runs.yaml", *folders]


HTML = "{'</script><script>alert(1)</script>': {dataset: a}}"
cases(edited, [
    ("runs.yaml edited: a command as a dataset", f"datasets: ['$({TOUCH})']\nsweeps: {{}}\nlearned: {{}}\nruns: {{}}\n",
     "runs.yaml", "is no name"),
    ("runs.yaml edited: a command as a size",
     "datasets: [digits]\nsweeps: {}\nlearned: {}\n"
     f"runs: {{a-2: {{sweep: a, size: '2; {TOUCH}', dataset: digits}}}}\n", "runs.yaml", "is no name"),
    ("runs.yaml edited: HTML as a sweep", f"datasets: []\nsweeps: {HTML}\nlearned: {HTML}\nruns: {{}}\n", "runs.yaml",
     "is no name"),
    ("runs.yaml edited: nothing of what there should be", "a: 1\n", "runs.yaml", "no datasets"),
])


# ---- JSON and CSV between stages


def landscape(folder, record, **arrays):
    np.save(folder / "s.npy", np.full((2, 1, 8, 8), -1, np.float32))
    names = ("training_distances", "synthetic_distances")
    write_arrays(folder / "n", {name: arrays.get(name, np.ones((2, 5), np.float32)) for name in names}, **record)
    from attractors.denoisers.models import new_model, write_model

    made = new_model(MLP, {}, (1, 8, 8), 0, None)
    write_model(folder / "m", made.state_dict(), network=MLP, diffusion={}, image_shape=[1, 8, 8], size=2, seed=0)
    return basin, ["--model", folder / "m", "--neighbours", folder / "n", "--synthetic", folder / "s.npy",
                   "--subset", folder / "s.npy", "--distance", "l2", "--delta-d", 1]


MEASURED = [
    ("of another K", {"size": 3}, {}, "neighbours at K = 3"),
    ("a size in words", {"size": "2" * 10**6}, {}, "neighbours at K = 2222"),
    ("no size", {}, {}, "neighbours at K = None"),
    ("of other samples", {"size": 2}, {"training_distances": np.ones((3, 5))}, "neighbours of 3 samples"),
    ("no samples", {"size": 2}, {"training_distances": np.ones((0, 5))}, "not neighbours"),
    ("one number", {"size": 2}, {"synthetic_distances": np.ones(())}, "not neighbours"),
    ("whole numbers", {"size": 2}, {"synthetic_distances": np.ones((2, 5), int)}, "not neighbours"),
    ("NaN", {"size": 2}, {"synthetic_distances": np.full((2, 5), np.nan)}, "not finite"),
    ("negative distances", {"size": 2}, {"training_distances": np.full((2, 5), -1.0)}, "negative"),
]
cases(
    lambda folder, content: landscape(folder, content[0], **content[1]),
    [(f"neighbours of what is measured: {name}", (record, arrays), "n: ", words)
     for name, record, arrays, words in MEASURED],
)


def distances(folder, record, **arrays):
    names = ("training_distances", "synthetic_distances", "training_spacing")
    shapes = {"training_distances": (8, 5), "synthetic_distances": (8, 5), "training_spacing": (4,)}
    (folder / "n").mkdir()
    write_arrays(folder / "n" / "4.safetensors",
                 {name: arrays.get(name, np.ones(shapes[name], np.float32)) for name in names}, **record)
    return classify, [folder / "n", "--types", folder / "s"]


NEIGHBOURS = [
    ("no metric", {"size": 4}, {}),
    ("a size in words", {"size": "4", "distance": "l2"}, {}),
    ("a metric that is a number", {"size": 4, "distance": 2}, {}),
    ("a metric that is a list", {"size": 4, "distance": ["l2"]}, {}),
    ("NaN", {"size": 4, "distance": "l2"}, {"training_distances": np.full((8, 5), np.nan, np.float32)}),
    ("negative distances", {"size": 4, "distance": "l2"}, {"training_distances": np.full((8, 5), -1, np.float32)}),
    ("a table without columns", {"size": 4, "distance": "l2"}, {"training_distances": np.ones(8, np.float32)}),
    ("sets of two sizes", {"size": 4, "distance": "l2"}, {"synthetic_distances": np.ones((7, 5), np.float32)}),
    ("no samples", {"size": 4, "distance": "l2"},
     {name: np.ones((0, 5), np.float32) for name in ("training_distances", "synthetic_distances")}),
    ("a spacing of nothing", {"size": 4, "distance": "l2"}, {"training_spacing": np.ones(0, np.float32)}),
    ("a spacing of zero", {"size": 4, "distance": "l2"}, {"training_spacing": np.zeros(4, np.float32)}),
]
cases(
    lambda folder, content: distances(folder, content[0], **content[1]),
    [(f"neighbours: {name}", (record, arrays), "have no spacing" if name == "a spacing of zero" else "4.safetensors")
     for name, record, arrays in NEIGHBOURS],
)


TABLES = [
    ("a formula in a cell", "K,memorized,spurious,generalized\n=cmd|'/c calc'!A1,1,0,0\n", "more than numbers"),
    ("HTML in a cell", "K,memorized,spurious,generalized\n<script>alert(1)</script>,1,0,0\n", "more than numbers"),
    ("columns missing", "K,memorized\n1,1\n", "no column"),
    ("no rows", "K,memorized,spurious,generalized\n", "without rows"),
    ("nothing", "", "not a table"),
    ("rows of two lengths", "K,memorized,spurious,generalized\n1,2,3,4\n1,2,3,4,5,6\n", "not a table"),
    ("a quote that never ends", 'K,memorized,spurious,generalized\n"1,1,0,0\n', "not a table"),
    ("bytes that are no text", b"K,memorized,spurious,generalized\n\xff\xfe,1,0,0\n", "not a table"),
    ("NULs", b"\0" * 1000, "no column"),
]


def fractions(folder, content):
    (folder / "fractions").mkdir()
    put(folder / "fractions" / "x.csv", content if isinstance(content, bytes) else content.encode())
    return transition, [folder, "--sweep", "x"]


cases(fractions, [(f"table: {name}", content, "x.csv", words) for name, content, words in TABLES])


@case("table: fractions without types", "types/x/2.safetensors: no such file")
def _(folder, _command):
    (folder / "fractions").mkdir()
    put(folder / "fractions" / "x.csv", b"K,memorized,spurious,generalized\n2,0,1,0\n")
    return clusters, ["x", "--metrics", folder, "--data", folder, "--dataset", "s"]


cases(lambda folder, options: (sample, ["--model", folder / "m", *options]), [
    ("command line: a ratio of NaN", ["--ratio", "nan"], "a number above 0"),
    ("command line: a device with a command", ["--device", f"$({TOUCH})"], "--device"),
])


# ---- the test


def snapshot(folder):
    return {
        path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def virtual_memory():
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()


def forge(case, monkeypatch):
    """Let checksums pass where they would hide what comes after them."""
    if case.name.startswith("MNIST: a header"):
        monkeypatch.setattr(datasets, "md5", lambda data: IDX["mnist"][1])
    if "forged" in case.name:
        monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", "x"] for i in range(1, 6)])
        monkeypatch.setattr(datasets, "md5", lambda data: "x")


def feed(case, folder):
    """(click's result, whether anything was written or run) of a case."""
    canary = folder / "run"
    (folder / "in").mkdir()
    module, arguments = case.make(folder / "in", f"touch {canary}")
    if module is scale:
        scale.ROOT = folder / "in"
    out = ["--out", str(folder / ("out.png" if "figures" in module.__name__ else "out"))]
    before, here = snapshot(folder), Path.cwd()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    ctypes.CDLL(None).malloc_trim(0)

    def late(*_):
        raise KeyboardInterrupt(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    os.chdir(folder)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (virtual_memory() + MEMORY, limits[1]))
        result = CliRunner().invoke(module.main, [*map(str, arguments), *out])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        os.chdir(here)
    touched = snapshot(folder) != before
    return result, touched


@pytest.fixture(autouse=True)
def scales(monkeypatch):
    monkeypatch.setattr(scale, "ROOT", scale.ROOT)


@pytest.mark.parametrize("case", CASES, ids=[case.name[:60].encode("unicode_escape").decode() for case in CASES])
def test_hostile_input_is_refused_with_one_line_and_does_nothing(case, tmp_path, monkeypatch, no_network):
    forge(case, monkeypatch)
    result, touched = feed(case, tmp_path)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (1, 2)
    aside = ("Usage:", "Try '", "read lsun_church:", "S  ", "S' ")  # how to call it, progress, what was read
    lines = [line for line in result.output.splitlines() if line.strip() and not line.startswith(aside)]
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    assert len(lines[0]) < 800
    assert not touched
    message = lines[0].replace(str(tmp_path), "")
    assert all(word in message for word in case.words), message
