"""Images in the layouts in which people have them: a third of the samples are near-copies, in every one of them."""

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from attractors.arrays import read_arrays, write_arrays
from attractors.commands import import_checkpoint
from attractors.data.images import open_images, read_images
from attractors.stages import classify, neighbours, subset

RANDOM = np.random.default_rng(0)
TRAINING = RANDOM.integers(0, 256, (60, 16, 16, 3), np.uint8)
NOISE = RANDOM.integers(-3, 4, (40, 16, 16, 3))
SAMPLES = np.concatenate([np.clip(TRAINING[:40] + NOISE, 0, 255).astype(np.uint8),
                          RANDOM.integers(0, 256, (80, 16, 16, 3), np.uint8)])
GREY = TRAINING[..., :1]
RAMP = np.linspace(0, 1, 16)


def pictures(folder: Path, arrays, name="{:03d}.png", **options) -> Path:
    for i, array in enumerate(arrays):
        path = folder / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
        picture.save(path, path.suffix[1:].lower().replace("jpg", "jpeg"), **options)
    return folder


def splits(folder: Path) -> Path:
    pictures(folder, SAMPLES[:2], "train/{}.png")
    return pictures(folder, SAMPLES[2:4], "test/{}.png")


def npz(path: Path, *arrays, **named) -> Path:
    np.savez(path, *arrays, **named)
    return path


def file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sixteen_bits(path: Path) -> Path:
    """A folder with a PNG in colour of 16 bits a channel, whose high bytes Pillow gives as RGB."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + bytes(6 * 4)) * 4)
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return file(path / "x" / "a.png", b"\x89PNG\r\n\x1a\n" + parts).parent


def arrays(folder: Path, parts, save=np.save, suffix=".npy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, part in enumerate(parts):
        save(folder / f"{i}{suffix}", part)
    return folder


def both(folder: Path, one: str, other: str) -> Path:
    """Two sets side by side in a folder."""
    return pictures(pictures(folder, SAMPLES[:3], one), SAMPLES[:3], other)


def png(array) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, "png")
    return content.getvalue()


def mixed(folder: Path) -> Path:
    """Pictures of which some have another kind, another suffix, or none."""
    for i, array in enumerate(SAMPLES[80:]):
        file(folder / f"x{i:03d}{('', '.jfif')[i % 2]}", png(array))
    return pictures(pictures(folder, SAMPLES[:40]), SAMPLES[40:80], "s{:03d}.ppm")


def published(folder: Path, parts, name: str, others: dict[str, bytes]) -> Path:
    """A folder as torchvision leaves it: batches of CIFAR or idx files, with labels and test images beside them."""
    for i, part in enumerate(parts, 1):
        content = np.ascontiguousarray(part)
        idx = struct.pack(">4I", 0x803, *content.shape[:3]) + content.tobytes()
        rows = np.moveaxis(content, -1, 1).reshape(len(content), -1)
        file(folder / name.format(i), pickle.dumps({"data": rows}, 3) if "batch" in name else idx)
    for other, content in others.items():
        file(folder / other, content)
    return folder


def runs(folder: Path) -> Path:
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        npz(folder / name / "samples.npz", SAMPLES)
    return folder


def stored(folder: Path, *names: str) -> Path:
    for name in names:
        write_arrays(folder / name, {"images": GREY.transpose(0, 3, 1, 2)})
    return folder


def torch_file(path: Path, content) -> Path:
    torch.save(content, path)
    return path


def zipped(path: Path, arrays, *others) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i, array in enumerate(arrays):
            content = io.BytesIO()
            Image.fromarray(array).save(content, "png")
            archive.writestr(f"{i // 50:05d}/img{i}.png", content.getvalue())
        for name, content in (("dataset.json", json.dumps({"labels": None}).encode()), *others):
            archive.writestr(name, content)
    return path


def damaged(path: Path) -> Path:
    """A zip of packed pictures, one byte of which a disk got wrong."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.bmp", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:64] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    return path


def linked(folder: Path) -> Path:
    (folder / "005.png").symlink_to("../annex/5")
    return folder


def a_mac_s(folder: Path) -> Path:
    pictures(folder, SAMPLES)
    (folder / "._000.png").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(4000))
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    pictures(folder / "@eaDir" / "000.png", SAMPLES[:1, :4, :4])
    return folder


def with_alpha(folder: Path, seed: int) -> Path:
    """Pictures whose border cannot be seen and holds other colours for each seed."""
    hidden = np.random.default_rng(seed).integers(0, 256, SAMPLES.shape, np.uint8)
    visible = np.zeros((120, 16, 16, 1), bool)
    visible[:, 4:12, 4:12] = True
    return pictures(folder, np.concatenate([np.where(visible, SAMPLES, hidden), visible * np.uint8(255)], 3))


def turned(folder: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    return pictures(folder, [Image.fromarray(x).transpose(Image.Transpose.ROTATE_90) for x in SAMPLES], exif=exif)


LAYOUTS = {
    "guided-diffusion: images and labels": lambda p: (npz(p / "x.npz", SAMPLES, np.zeros(120, np.int64)), []),
    "labels first, images under another name": lambda p: (npz(p / "x.npz", y=np.zeros(120), data=SAMPLES), []),
    "one of several arrays": lambda p: (f"{npz(p / 'x.npz', x_test=TRAINING, x_train=SAMPLES)}:x_train", []),
    "capitals": lambda p: (npz(p / "x.npz", SAMPLES).rename(p / "X.NPZ"), []),
    "channels first": lambda p: (npz(p / "x.npz", SAMPLES.transpose(0, 3, 1, 2)), []),
    "64-bit integers": lambda p: (npz(p / "x.npz", SAMPLES.astype(np.int64)), []),
    "floats in [0, 1]": lambda p: (npz(p / "x.npz", (SAMPLES / 255).astype(np.float32)), ["--range", "unit"]),
    "floats in [0, 255]": lambda p: (npz(p / "x.npz", SAMPLES.astype(np.float32)), ["--range", "bytes"]),
    "halves in [-1, 1]": lambda p: (npz(p / "x.npz", (SAMPLES / 127.5 - 1).astype(np.float16)), []),
    "opaque alpha in an array": lambda p: (npz(p / "x.npz", np.pad(SAMPLES, [(0, 0)] * 3 + [(0, 1)],
                                                                    constant_values=255)), []),
    "EDM's subfolders": lambda p: (pictures(p / "x", SAMPLES, "0{0:03d}/{0:06d}.png"), []),
    "StyleGAN's zip": lambda p: (zipped(p / "x.zip", SAMPLES), []),
    "a Mac's zip": lambda p: (zipped(p / "x.zip", SAMPLES, ("__MACOSX/._img.png", b"x")), []),
    "a Mac's folder": lambda p: (a_mac_s(p / "x"), []),
    "photographs turned by EXIF": lambda p: (turned(p / "x"), []),
    "torch.save of a tensor": lambda p: (torch_file(p / "x.pt", torch.from_numpy(SAMPLES)), []),
    "torch.save of images and labels": lambda p: (torch_file(p / "x.pt", (torch.from_numpy(SAMPLES),
                                                                           torch.zeros(120))), []),
    "torch.save of a list of images": lambda p: (torch_file(p / "x.pt", list(torch.from_numpy(SAMPLES))), []),
    "a folder of .npz": lambda p: (arrays(p / "x", np.split(SAMPLES, 3), np.savez, ".npz"), []),
    "a folder of .npy, a picture each": lambda p: (arrays(p / "x", SAMPLES.transpose(0, 3, 1, 2)), []),
    "an .npz called .bin": lambda p: (npz(p / "x.npz", SAMPLES).rename(p / "x.bin"), []),
    ".npy without a suffix": lambda p: (arrays(p, [SAMPLES]) and (p / "0.npy").rename(p / "y"), []),
    "some .ppm and .jfif of PNG": lambda p: (mixed(p / "x"), []),
    "two dots in a zip's names": lambda p: (zipped(p / "x.zip", [], *((f"a..b/wait...{i}.png", png(x))
                                                                     for i, x in enumerate(SAMPLES))), []),
    "batches of CIFAR": lambda p: (published(p / "x/cifar-10-batches-py", np.split(SAMPLES, 5), "data_batch_{}", {
        "batches.meta": pickle.dumps({"label_names": ["a"]}, 3), "test_batch": b"\x80\x03}."}).parent, []),
    "torch.save of batches": lambda p: (torch_file(p / "x.pt", list(torch.from_numpy(SAMPLES).split(50))), []),
}


def run(command, *arguments):
    return CliRunner().invoke(command.main, [str(argument) for argument in arguments])


def memorized(folder, synthetic, training, *options):
    """(the share of samples within 1 of a training image, what was said)."""
    result = run(neighbours, "--synthetic", synthetic, "--training", training, "--out", folder / "n", *options)
    assert result.exit_code == 0, result.output
    arrays, _ = read_arrays(folder / "n")
    return (arrays["training_distances"][:, 0] <= 1).mean(), result.output


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_third_is_memorized_in_every_layout(tmp_path, layout):
    synthetic, options = LAYOUTS[layout](tmp_path)
    share, said = memorized(tmp_path, synthetic, npz(tmp_path / "training.npz", TRAINING), *options)
    assert share == pytest.approx(1 / 3)
    assert "S  " in said
    assert "60 images, 16 x 16 x 3, uint8 from 0 to 255 (arr_0)" in said
    assert "120 images, 16 x 16 x 3, " in said


@pytest.mark.parametrize("layout", ["EDM's subfolders", "StyleGAN's zip", "floats in [0, 1]", "torch.save of a tensor"])
def test_a_synthetic_set_is_imported_from_the_same_layouts(tmp_path, layout):
    path, options = LAYOUTS[layout](tmp_path)
    result = run(import_checkpoint, path, "--out", tmp_path / "s", *options)
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(read_images(tmp_path / "s"), SAMPLES.transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)


def test_numbered_archives_are_one_synthetic_set_in_the_order_in_which_people_count(tmp_path):
    (tmp_path / "parts").mkdir()
    for number, part in enumerate(np.split(SAMPLES, 12)):
        npz(tmp_path / "parts" / f"samples_{number}.npz", part)
    result = run(import_checkpoint, tmp_path / "parts", "--out", tmp_path / "s")
    assert result.exit_code == 0, result.output
    assert "120 images, 16 x 16 x 3, uint8 from 0 to 255 (12 files, samples_0.npz to samples_11.npz)" in result.output
    np.testing.assert_allclose(read_images(tmp_path / "s"), SAMPLES.transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("layout", ["EDM's subfolders", "StyleGAN's zip", "floats in [0, 1]", "torch.save of a tensor"])
def test_a_dataset_is_stored_from_the_same_layouts(tmp_path, layout):
    path, options = LAYOUTS[layout](tmp_path)
    result = run(subset, "mine", "--source", path, "--out", tmp_path / "s", *options)
    assert result.exit_code == 0, result.output
    arrays, _ = read_arrays(tmp_path / "s")
    np.testing.assert_array_equal(arrays["images"], SAMPLES.transpose(0, 3, 1, 2)[arrays["order"]])


def test_what_cannot_be_seen_does_not_count(tmp_path):
    share, said = memorized(tmp_path, with_alpha(tmp_path / "a", 1), with_alpha(tmp_path / "b", 2))
    assert share == 1
    assert "120 with what is transparent laid on white" in said
    halves = np.concatenate([TRAINING, np.full((60, 16, 16, 1), 128, np.uint8)], 3)
    found = open_images(npz(tmp_path / "x.npz", halves))
    expected = (TRAINING * (128 / 255) + 255 * (127 / 255)).transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(found.array, expected, atol=0.6 / 127.5)


def test_a_palette_and_a_grey_picture_among_coloured_ones(tmp_path):
    flat = TRAINING[:, :1, :1] * np.ones((1, 16, 16, 1), np.uint8)
    share, _ = memorized(
        tmp_path, pictures(tmp_path / "p", [Image.fromarray(x).quantize(4) for x in flat]),
        npz(tmp_path / "t.npz", flat),
    )
    assert share == 1
    folder = pictures(tmp_path / "x", [*TRAINING[:3], TRAINING[3, ..., 0]])
    found = open_images(folder)
    assert "1 grey, in three channels" in found.said
    np.testing.assert_array_equal(found.array[3, 0], found.array[3, 2])


def test_numbers_count_as_numbers(tmp_path):
    folder = pictures(tmp_path / "x", TRAINING, "{}.png")
    np.testing.assert_array_equal(read_images(folder, 12), TRAINING[:12].transpose(0, 3, 1, 2) / np.float32(127.5) - 1)


def test_grey_in_three_channels_takes_one_beside_grey_and_is_refused_beside_colour(tmp_path):
    grey = npz(tmp_path / "grey.npz", GREY)
    three = npz(tmp_path / "three.npz", np.repeat(GREY, 3, 3))
    share, said = memorized(tmp_path, three, grey)
    assert share == 1
    assert "grey: one of its three channels is taken" in said
    colour = npz(tmp_path / "colour.npz", TRAINING)
    result = run(neighbours, "--synthetic", three, "--training", colour, "--out", tmp_path / "n2")
    assert result.exit_code == 1
    assert "three.npz: grey in three channels, and the other set is in colour; --range says" in result.output
    given = ["--synthetic", three, "--training", colour, "--range", "bytes", "--out", tmp_path / "n2"]
    assert run(neighbours, *given).exit_code == 0


def test_a_set_in_half_the_range_of_the_other_is_refused_unless_its_range_is_given(tmp_path):
    training, half = npz(tmp_path / "t.npz", TRAINING), npz(tmp_path / "h.npz", SAMPLES // 2)
    arguments = ["--synthetic", half, "--training", training, "--out", tmp_path / "n"]
    result = run(neighbours, *arguments)
    assert result.exit_code == 1
    assert "one is in half the range of the other" in result.output
    assert run(neighbours, *arguments, "--range", "bytes").exit_code == 0


@pytest.mark.parametrize("name", ["", ":arr_0"])
def test_a_file_that_is_read_is_not_overwritten(tmp_path, name):
    path = npz(tmp_path / "t.npz", TRAINING)
    before = path.read_bytes()
    for command, arguments in (
        (neighbours, ("--synthetic", npz(tmp_path / "s.npz", SAMPLES), "--training", f"{path}{name}")),
        (subset, ("mine", "--source", f"{path}{name}")),
        (import_checkpoint, (f"{path}{name}",)),
    ):
        result = run(command, *arguments, "--out", tmp_path / "." / "t.npz")
        assert result.exit_code == 2, result.output
        assert "t.npz: it is read too, and would be overwritten" in result.output
        assert path.read_bytes() == before


UNIT = (SAMPLES / 255).astype(np.float32)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 1\n"
SIDES = {"generated and reference": ("generated/{}.png", "reference/{}.png"), "images and masks": ("images/{}.png",
         "masks/m{}.png"), "step_1 and step_2": ("step_1/{}.png", "step_2/b{}.png"),
         "A and B": ("A/{}.png", "B/b{}.png"),
         "0_fake.png and 0_real.png": ("{}_real.png", "{}_fake.png"), ". and previews": ("{}.png", "previews/p{}.png"),
         "3 files have namesakes in one and two": ("one/{}.png", "two/{}.png")}
REFUSED = {
    **{words: (lambda p, names=names: both(p / "x", *names), words) for words, names in SIDES.items()},
    **{f"a pointer of git-lfs as {name}": (lambda p, name=name: file(p / name, POINTER), f"{name}: a Git LFS pointer")
       for name in ("x", "x.npz", "x.npy", "x.pt", "x.zip", "x.safetensors")},
    "a pointer among pictures": (lambda p: file(pictures(p / "x", SAMPLES[:2]) / "9.png", POINTER).parent, "git lfs"),
    "16 bits in colour": (sixteen_bits, "more than 8 bits"),
    "12 bits of .ppm": (lambda p: file(p / "x/a.ppm", b"P6 1 1 4095\n" + bytes(6)).parent, "more than 8 bits"),
    "pictures of a kind that is not read": (lambda p: file(pictures(p / "x", SAMPLES[:2]) / "z.txt",
                                                           b"\0\0\0\x1cftypavif").parent, "1 avif, first z.txt"),
    "pictures and an array of images": (lambda p: npz(pictures(p / "x", SAMPLES[:2]) / "z.npz", SAMPLES).parent,
                                        "holds 2 pictures and z.npz"),
    "arrays of train and test": (lambda p: npz(npz(p / "x.npz", SAMPLES).rename(p / "train.npz").with_name("test.npz"),
                                               SAMPLES).parent, "test.npz and train.npz, which are different sets"),
    "checkpoints": (lambda p: torch_file(p / "2.pt", {"a.weight": torch.zeros(8, 3, 7, 7)}).parent, "weights of a net"),
    "an optimizer's state": (lambda p: torch_file(p / "x.bin", {"state": {0: {"exp_avg": torch.randn(64, 3, 7, 7)
                                                                              .clamp(-1, 1)}}}), "weights of a net"),
    "a pickle": (lambda p: file(p / "data_batch_1", b"\x80\x02}."), "no batch of CIFAR"),
    "a pickle of rows that are no images": (lambda p: file(p / "data_batch_1", pickle.dumps(
        {"data": np.zeros((12, 100), np.uint8)}, 3)), "no batch of CIFAR"),
    "archives of one name in two folders": (lambda p: runs(p / "x"), "1 files have namesakes in one and two"),
    "several sets of this project": (lambda p: stored(p / "x", "2.safetensors", "4.safetensors"), "name one of them"),
    "floats in [0, 1]": (lambda p: npz(p / "x.npz", UNIT), "--range symmetric (-1, 1) or --range unit (0, 1)"),
    "floats about 0.5 wide": (lambda p: npz(p / "x.npz", UNIT - 0.5), "none is below -0.5"),
    "floats in [0, 255]": (lambda p: npz(p / "x.npz", UNIT * 255), "--range bytes"),
    "floats a little beyond [0, 1]": (lambda p: npz(p / "x.npz", UNIT * 1.008 - 0.004), "must lie in [-1, 1]"),
    "a name where nothing is named": (lambda p: f"{pictures(p / 'x', SAMPLES[:2])}:images", "no arrays by name"),
    "bytes of 0 and 1": (lambda p: npz(p / "x.npz", SAMPLES // 128), "--range unit"),
    "several arrays": (lambda p: npz(p / "x.npz", x_test=TRAINING, x_train=SAMPLES), "x.npz:x_test takes one"),
    "rows": (lambda p: npz(p / "x.npz", SAMPLES.reshape(120, -1)), "one row each?"),
    "one image": (lambda p: npz(p / "x.npz", SAMPLES[0]), "one image in colour"),
    "channels at either end": (lambda p: npz(p / "x.npz", SAMPLES[:, :3]), "channels at either end?"),
    "floats of four channels": (lambda p: npz(p / "x.npz", np.ones((5, 4, 8, 8), np.float32)), "latents?"),
    "two splits": (lambda p: splits(p / "x"), "test and train"),
    "one picture": (lambda p: pictures(p, SAMPLES[:1]) / "000.png", "one picture"),
    "an animation": (lambda p: pictures(p / "x", [Image.fromarray(SAMPLES[0])], save_all=True,
                                        append_images=[Image.fromarray(SAMPLES[1])]), "an animation of 2 frames"),
    "CMYK": (lambda p: pictures(p / "x", [Image.fromarray(SAMPLES[0]).convert("CMYK")], "{}.jpg"), "CMYK"),
    "another archive": (lambda p: file(p / "x.tar", b"x" * 512), ".tar is not read"),
    "a zip of something else": (lambda p: zipped(p / "x.zip", [], ("a.txt", b"x")), "it holds 1 ."),
    "a picture in two formats": (lambda p: pictures(pictures(p / "x", SAMPLES[:3]), SAMPLES[:1], "{:03d}.jpg"),
                                 "holds 000 in 2 formats"),
    "a link to nothing": (lambda p: linked(pictures(p / "x", SAMPLES[:3])), "005.png: a link to ../annex/5, where"),
    "a zip with a wrong byte": (lambda p: damaged(p / "x.zip"), "x.zip: not a zip of pictures"),
    "a name twice in a zip": (lambda p: zipped(p / "x.zip", SAMPLES[:2], ("00000/img0.png", b"x")), "holds two files"),
    "a zip that leads outside": (lambda p: zipped(p / "x.zip", SAMPLES[:2], ("../x.png", b"x")),
                                 "x.zip: it names a file outside"),
    "tensors of weights": (lambda p: torch_file(p / "x.pt", {"a": torch.zeros(9, 9, 9), "b": torch.zeros(9, 9, 9)}),
                           "2 arrays may be the images"),
}


def test_what_is_left_aside_is_counted_by_kind_and_sets_may_be_joined(tmp_path):
    folder = both(tmp_path / "x", "one/{}.png", "two/{}.png")
    for name, content in (("labels.json", b"{}"), ("log.txt", b"x"), ("more.txt", b"x")):
        file(folder / name, content)
    npz(folder / "stats.npz", mu=np.zeros(4), sigma=np.zeros((4, 4)))  # of FID: no images
    said = open_images(f"{folder}:all").said
    assert said.startswith("6 images") and "4 other files left aside: " in said
    assert all(words in said for words in ("2 .txt", "1 .json", "1 .npz"))


def test_the_first_picture_of_a_phone_s_jpeg_is_taken(tmp_path):
    folder = pictures(tmp_path / "x", SAMPLES[:3], "{}.png")
    second = Image.fromarray(SAMPLES[0, :4, :4])
    for i in range(3):
        Image.fromarray(SAMPLES[i]).save(folder / f"{i}.jpg", "MPO", save_all=True, append_images=[second], quality=100)
        (folder / f"{i}.png").unlink()
    images = open_images(folder)
    assert "3 with a second picture behind it" in images.said and images.array.shape == (3, 3, 16, 16)


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_of_the_folder_of_mnist_the_training_images_are_taken(tmp_path, packed):
    names = {f"t10k-images-idx3-ubyte{packed}": b"\0\0\x08\x03", f"train-labels-idx1-ubyte{packed}": b"\0\0\x08\x01"}
    raw = published(tmp_path / "MNIST" / "raw", [GREY[..., 0]], "train-images-idx3-ubyte", names)
    packed_copy = gzip.compress((raw / "train-images-idx3-ubyte").read_bytes())
    file(raw / "train-images-idx3-ubyte.gz", packed_copy)
    if packed:
        (raw / "train-images-idx3-ubyte").unlink()
    images = open_images(tmp_path / "MNIST")
    np.testing.assert_array_equal(images.array, GREY.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)
    assert f"raw/train-images-idx3-ubyte{packed}, " in images.said and "other files left aside" in images.said


def test_a_set_of_this_project_alone_in_a_folder_is_that_set(tmp_path):
    images = open_images(stored(tmp_path / "x", "2.safetensors"), 7)
    np.testing.assert_array_equal(images.array, GREY[:7].transpose(0, 3, 1, 2) / np.float32(127.5) - 1)


def test_few_images_of_a_large_array_are_read_without_the_others(tmp_path):
    path = tmp_path / "x.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (10**9, 16, 16, 3))[:60] = TRAINING  # sparse on disk
    np.testing.assert_array_equal(read_images(path, 60), TRAINING.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_known_is_refused_in_one_line(tmp_path, case):
    make, words = REFUSED[case]
    path = make(tmp_path)
    result = run(neighbours, "--synthetic", path, "--training", path, "--out", tmp_path / "n")
    assert result.exit_code == 1, result.output
    (line,) = result.output.strip().splitlines()
    assert words in line


def test_two_models_of_one_size_are_not_classified_together(tmp_path):
    training = npz(tmp_path / "t.npz", TRAINING)
    for name in "ab":
        assert run(neighbours, "--synthetic", npz(tmp_path / "s.npz", SAMPLES), "--training", training,
                   "--out", tmp_path / name).exit_code == 0
    result = run(classify, tmp_path / "a", tmp_path / "b", "--types", tmp_path / "types", "--out", tmp_path / "o",
                 "--delta-m", 1, "--delta-s", 1)
    assert result.exit_code == 1, result.output
    assert f"{tmp_path / 'a'} and {tmp_path / 'b'}: both of K = 60" in result.output
    assert not (tmp_path / "o").exists()
