"""Released models: from a hub to the model of a run through the hub's own client, and the ways in which it fails."""

import errno
import hashlib
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from authors_checkpoint import checkpoint
from click.testing import CliRunner
from hub_server import COMMIT, OLDER, Hub

from attractors.arrays import read_arrays, read_record, write_arrays
from attractors.commands import scale
from attractors.data.subsets import nested_order, size_grid
from attractors.denoisers import released
from attractors.denoisers.models import new_model, read_model, write_model
from attractors.denoisers.training import train as train_model
from attractors.settings.train import Release, Training
from attractors.stages import sample, train

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
from huggingface_hub import constants

NAME, K, SHAPE = "lemoncmd/dm-am-mnist-unet32", 4, (1, 8, 8)
NETWORK = {"name": "unet", "width": 32, "multipliers": [1, 2], "blocks": 1, "attention": [4], "dropout": 0.1}
SWEEP = """\
dataset: mnist
network: {name: unet, width: 32, multipliers: [1, 2], blocks: 1, attention: [4]}
train: {released: lemoncmd/dm-am-mnist-unet32}
sample: {sampler: ddim, ddim_steps: 5, floor: 6}
"""


def images():
    return torch.rand(K, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def trained():
    model = new_model(NETWORK, {}, SHAPE, 3407, images())
    train_model(model, images(), Training(iterations=150, batch=8, learning_rate=2e-3, repeat=True, ema=0.9), 3407)
    return model.requires_grad_(False)


@pytest.fixture
def hub(monkeypatch, tmp_path, trained):
    """A hub with K.pt of the trained network; the client has an empty cache of its own."""
    hub = Hub({NAME: {f"{K}.pt": checkpoint(trained.network, train_size=K), "9.pt": b"", "README.md": b"x"}})
    for name, value in {
        "ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():
        monkeypatch.setattr(constants, name, value)  # HF_ENDPOINT and HF_HOME are read when the client is imported
    write_arrays(tmp_path / "subset", {"images": images().numpy()}, dataset="mnist")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    yield hub
    hub.close()


def fetch(folder, *options, out="m.safetensors"):
    common = ["--sweep", folder / "sweep.yaml", "--subset", folder / "subset", "--size", K, "--out", folder / out]
    return CliRunner().invoke(train.main, [str(part) for part in (*common, *options)])


def left(folder):
    """The files of the client's cache that hold content."""
    return [path for path in (folder / "cache").rglob("*") if path.is_file() and "blobs" in path.parts]


def test_a_released_model_gives_the_samples_that_its_network_gave(hub, tmp_path, trained):
    done = fetch(tmp_path)
    assert done.exit_code == 0, done.output
    model, record = read_model(tmp_path / "m.safetensors")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in trained.state_dict().items())
    source = record["released"]
    assert source["sha256"] == hashlib.sha256(hub.repositories[NAME][f"{K}.pt"]).hexdigest()
    assert (source["repository"], source["commit"], source["file"]) == (NAME, COMMIT, "4.pt")
    assert (record["step"], source["options"]["ema_decay"], record["size"]) == (400_000, 0.9999, K)
    write_model(tmp_path / "before.safetensors", trained.state_dict(), **record)
    for sampler in (["--sampler", "ddim", "--ddim-steps", 5], ["--sampler", "ancestral"]):
        drawn = []
        for name in ("before", "m"):
            arguments = ["--model", tmp_path / f"{name}.safetensors", "--floor", 5, *sampler, "--out", tmp_path / "s"]
            result = CliRunner().invoke(sample.main, [str(part) for part in arguments])
            assert result.exit_code == 0, result.output
            drawn.append(read_arrays(tmp_path / "s")[0]["images"])
        assert len(drawn[0]) == 16 and drawn[0].std() > 0.1
        np.testing.assert_array_equal(*drawn)


def test_a_revision_is_resolved_and_a_second_time_works_offline(hub, tmp_path, monkeypatch):
    assert fetch(tmp_path, "--revision", "v1").exit_code == 0
    assert read_record(tmp_path / "m.safetensors")["released"]["commit"] == OLDER
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    again = fetch(tmp_path, "--revision", "v1", out="again.safetensors")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    assert hub.requests == []


def test_a_download_can_be_dropped_once_it_is_converted(hub, tmp_path):
    assert fetch(tmp_path, "--no-keep-download").exit_code == 0
    assert left(tmp_path) == []
    assert fetch(tmp_path, out="again").exit_code == 0


def test_a_cut_download_is_resumed_where_it_was_cut(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut[f"{K}.pt"] = 5000
    done = fetch(tmp_path)
    assert done.exit_code == 0, done.output
    ranges = [ranged for method, path, ranged in hub.requests if method == "GET" and path.startswith("cdn")]
    assert ranges == [None, "bytes=5000-"]
    assert read_record(tmp_path / "m.safetensors")["released"]["commit"] == COMMIT


@pytest.mark.parametrize(
    ("fault", "options", "line"),
    [
        ({}, ["--released", "me/other"], "me/other: no such repository, or it needs a token: `hf auth login`"),
        ({"private": NAME}, [], f"{NAME}: no such repository, or it needs a token: `hf auth login`"),
        ({"gated": NAME}, [], f"{NAME}: gated; accept its licence on its page, then `hf auth login`"),
        ({}, ["--revision", "v9"], f"{NAME}: no revision v9"),
        ({"missing": True}, [], f"{NAME}: no 4.pt in it"),
        ({"lies": "0" * 64}, [], f"{NAME}: 4.pt has another sha256 than the hub says; it was deleted, try again"),
        ({"offline": True}, [], f"{NAME}: the hub is out of reach, and the cache has no 4.pt"),
    ],
)
def test_what_the_hub_refuses_is_one_line_and_leaves_nothing_torn(hub, tmp_path, monkeypatch, fault, options, line):
    for name in ("private", "gated"):
        if name in fault:
            getattr(hub, name).add(fault[name])
    if "missing" in fault:
        del hub.repositories[NAME]["4.pt"]
    if "lies" in fault:
        hub.lies["4.pt"] = fault["lies"]
    if "offline" in fault:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    done = fetch(tmp_path, *options)
    assert (done.exit_code, done.output) == (1, f"Error: {line}\n")
    assert not (tmp_path / "m.safetensors").exists() and left(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"train_size": 500}, "4.pt: not the model of this run: in the file size is 500, not 4\n"),
        ({"global_seed": 1}, "in the file seed is 1, not 3407\n"),
        ({"data_name": "fashionmnist"}, "in the file dataset is fashion_mnist, not mnist\n"),
        ({"timesteps": 500}, "in the file steps is 500, not 1000\n"),
        ({"dim": 64}, "all_modules.0 of shape (128, 32) where time.0 of (256, 64) should be"),
    ],
)
def test_a_file_that_is_not_that_of_the_run_is_refused_in_one_line(hub, tmp_path, trained, changes, line):
    hub.repositories[NAME]["4.pt"] = checkpoint(trained.network, **{"train_size": K} | changes)
    done = fetch(tmp_path)
    assert done.exit_code == 1 and done.output.count("\n") == 1
    assert line in done.output
    assert len(left(tmp_path)) == 1  # what was downloaded is as the hub says, and is kept


def test_another_width_another_kind_and_an_untrained_network_are_refused(hub, tmp_path, trained):
    wide = new_model(NETWORK | {"width": 64}, {}, SHAPE, 0, images())
    hub.repositories[NAME]["4.pt"] = checkpoint(wide.network, train_size=K, dim=64)
    assert "4.pt: not the model of this run: in the file width is 64, not 32" in fetch(tmp_path).output
    shutil.rmtree(tmp_path / "cache")
    hub.repositories[NAME]["4.pt"] = b"PK not a checkpoint" * 99
    refused = fetch(tmp_path)
    assert refused.exit_code == 1 and refused.output.count("\n") == 1
    assert "4.pt: not a file of torch.save" in refused.output
    shutil.rmtree(tmp_path / "cache")
    hub.repositories[NAME]["4.pt"] = checkpoint(new_model(NETWORK, {}, SHAPE, 0, images()).network, train_size=K)
    assert "4.pt: takes pure noise for something else" in fetch(tmp_path).output
    assert fetch(tmp_path, "--no-check").exit_code == 0


def test_a_full_disk_is_one_line_with_the_words_of_the_system(hub, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "cache"))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    assert fetch(tmp_path).output == f"Error: {tmp_path / 'cache'}: No space left on device\n"
    assert not (tmp_path / "m.safetensors").exists()


def test_without_the_client_one_line_says_how_to_install_it(tmp_path, hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert f"Error: released models are downloaded with huggingface_hub: {released.EXTRA}" in fetch(tmp_path).output


def test_the_sizes_of_a_repository_are_its_files(hub):
    assert released.released_sizes(Release(released=NAME)) == ([4, 9], COMMIT)
    with pytest.raises(ValueError, match="no revision v9"):
        released.released_sizes(Release(released=NAME, revision="v9"))


def test_scale_makes_the_sizes_of_a_sweep_those_of_the_repository(tmp_path):
    grid, path = size_grid(500, 8000, 50_000), tmp_path / "released.yaml"
    present = sorted({*grid, 2569} - {2568, 500})
    path.write_text(f"# Top\ndataset: cifar10\nsizes: {{a: 500, b: 8000, total: 50000}}\ntrain: {{released: {NAME}}}\n")

    def said(held):
        return list(scale.keep_to_repository(path, held))

    def unreachable(_):
        raise ValueError("no hub")

    before = path.read_text()
    assert said(unreachable)[0].endswith("held against the repository: no hub")
    assert path.read_text() == before
    assert said(lambda _: (grid, COMMIT)) == [f"released.yaml: 38 sizes of {NAME} at commit c0ffeec, the grid of B.1"]
    assert path.read_text() == before
    (line,) = said(lambda _: (present, COMMIT))
    assert line.endswith("at commit c0ffeec, of the grid of B.1 without [500, 2568], and with [2569] besides")
    assert f"sizes: {present}\ntrain" in path.read_text() and path.read_text().startswith("# Top")
    assert said(lambda _: (present, COMMIT)) == []
    with pytest.raises(ValueError, match=r"has no K = 2569; it has \[2, "):
        said(lambda _: (grid, COMMIT))


@pytest.mark.parametrize(("count", "size"), [(60_000, 2), (60_000, 21_379), (50_000, 7310), (126_227, 4896), (10, 7)])
def test_the_training_set_is_that_of_random_split_over_the_order_of_the_dataset(count, size):
    lengths = [size, size, count - 2 * size]  # training, validation and the rest, which may be negative
    split = torch.utils.data.random_split(range(count), lengths, torch.Generator().manual_seed(3407))
    assert list(split[0].indices) == nested_order(count)[:size].tolist()


def test_a_synthetic_set_drawn_elsewhere_stands_for_samples_and_no_model_is_evaluated(tmp_path, trained, monkeypatch):
    write_model(tmp_path / "m", trained.state_dict(), network=NETWORK, diffusion={}, image_shape=SHAPE, size=K, seed=0)
    theirs = np.random.default_rng(0).uniform(-1, 1, (7, *SHAPE)).astype(np.float32)
    (tmp_path / "sets").mkdir()
    arguments = ["--model", tmp_path / "m", "--synthetic-sets", tmp_path / "sets", "--out", tmp_path / "s"]
    missing = CliRunner().invoke(sample.main, [str(part) for part in arguments])
    assert missing.exit_code == 1 and f"{tmp_path / 'sets' / '4.npz'}: no such file" in missing.output
    np.savez_compressed(tmp_path / "sets" / "4.npz", samples=theirs)
    monkeypatch.setattr(sample, "read_model", None)
    done = CliRunner().invoke(sample.main, [str(part) for part in arguments])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(read_arrays(tmp_path / "s")[0]["images"], theirs)
    np.savez_compressed(tmp_path / "sets" / "4.npz", samples=theirs[:, :, :4, :4])
    assert "those of" in CliRunner().invoke(sample.main, [str(part) for part in arguments]).output
    assert os.path.exists(tmp_path / "s")
