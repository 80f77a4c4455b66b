"""The audit of anyone's samples: planted copies and duplicates are found with their names, as `classify` finds them."""

import io
import json
import zipfile
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.stats import fisher_exact

import attractors
from attractors.arrays import read_arrays
from attractors.auditing.measure import groups, steps_of
from attractors.auditing.page import shares_over
from attractors.cli.group import main
from attractors.data.images import read_images
from attractors.distances.detection import TYPES, classify, fractions

SIDE = 8


def smooth(count, seed):
    """Images [n, h, w, 3] of bytes, each of a few coarse blocks, so that a small network's features differ."""
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8).repeat(2, 1).repeat(2, 2)


def folder(path, images):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"image {i}.png")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """60 training pictures, of which 3 and 31 are alike; 40 samples: 8 copies, 6 that repeat each other, 26 others."""
    root = tmp_path_factory.mktemp("audit")
    training, samples = smooth(60, 0), smooth(40, 1)
    training[31] = training[3]
    training[31, 0, 0] ^= 1
    samples[:8] = training[10:18]
    samples[20:26] = samples[20]
    samples[20:26, 0, 0, 0] += np.arange(6, dtype=np.uint8)
    folder(root / "training", training)
    np.savez(root / "samples.npz", samples)
    np.savez(root / "new.npz", smooth(50, 2))
    np.savez(root / "twice.npz", np.concatenate([training, training[:50]]))
    return root


def run(*arguments):
    result = CliRunner().invoke(main, ["audit", *map(str, arguments)])
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    return result


def test_planted_copies_and_duplicates_are_found_with_their_names(made, tmp_path):
    result = run(made / "samples.npz", made / "training", "--held-out", made / "new.npz", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert list(np.flatnonzero(pairs.type == "memorized")) == list(range(8))
    assert list(pairs.training_file[:8]) == [f"image {i}.png" for i in range(10, 18)]
    assert list(np.flatnonzero(pairs.type == "spurious")) == list(range(20, 26))
    duplicates = pd.read_csv(tmp_path / "duplicates.csv")
    assert list(duplicates.file[duplicates.set == "training"]) == ["image 3.png", "image 31.png"]
    assert list(duplicates.number[duplicates.set == "samples"]) == list(range(20, 26))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["shares"]["memorized"]["share"] == 0.2 and summary["chance"]["share"] == 0
    page = (tmp_path / "index.html").read_text()
    assert summary["sentence"] in page and "image 31.png" in page and "http" not in page.replace("http://www.w3", "")
    assert summary["sentence"].startswith("20.0% (10.5% to 34.8%) of 40 samples are memorized")
    assert "more than real images reach by chance" in summary["sentence"]


@pytest.mark.parametrize("training", ["training", "twice.npz"])
def test_types_are_those_of_neighbours_and_classify(made, tmp_path, training):
    found = attractors.audit(made / "samples.npz", made / training)
    files = ["--synthetic", made / "samples.npz", "--training", made / training, "--out", tmp_path / "n.safetensors"]
    assert CliRunner().invoke(main, ["neighbours", *map(str, files)]).exit_code == 0
    result = CliRunner().invoke(main, ["classify", str(tmp_path / "n.safetensors"), "--out", str(tmp_path),
                                       "--name", "x", "--types", str(tmp_path / "types")])
    assert result.exit_code == 0, result.output
    arrays = read_arrays(next((tmp_path / "types").glob("*.safetensors")))[0]
    np.testing.assert_array_equal(next(a for name, a in arrays.items() if "type" in name or "code" in name),
                                  found.measured.codes)
    limits = pd.read_csv(tmp_path / "thresholds" / "x.csv")
    assert limits.delta_m[0] == pytest.approx(found.measured.delta_m.value, rel=1e-5)
    assert found.fractions == dict(zip(TYPES, fractions(found.measured.codes), strict=True))
    neighbours = read_arrays(tmp_path / "n.safetensors")[0]
    np.testing.assert_array_equal(found.measured.samples.to_training[:, 1], neighbours["training_second"])


@pytest.mark.parametrize(
    ("limit", "code"), [(["--fail-above", "0.1"], 3), (["--fail-above", "0.11"], 0), ([], 0),
                        (["--fail-above", "2"], 2), (["--delta-m", "-1"], 2), (["--delta-m", "nan"], 2)]
)
def test_exit_codes(made, tmp_path, limit, code):  # the interval of 8 of 40 begins at .105
    assert run(made / "samples.npz", made / "training", "--out", tmp_path, *limit).exit_code == code


def test_what_does_not_fit_is_one_line(made, tmp_path):
    np.savez(tmp_path / "few.npz", smooth(9, 3))
    np.savez(tmp_path / "wide.npz", smooth(12, 3).repeat(2, 1))
    for name, shape in (("a", (40, 5)), ("b", (60, 4)), ("c", (39, 5)), ("d", (60, 5))):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=shape).astype("f4"))
    (tmp_path / "model.pt").write_bytes(b"no model")
    np.savez(tmp_path / "keras.npz", x_train=smooth(60, 3), y_train=np.arange(60), x_test=smooth(12, 4))
    samples, table = made / "samples.npz", lambda first, second: ("--features", tmp_path / first, tmp_path / second)
    for arguments, words in (
        ((tmp_path / "few.npz",), "9 images; an audit needs ten or more"),
        ((tmp_path / "wide.npz",), "images of shape (3, 16, 8)"),
        ((tmp_path / "none.npz",), "none.npz: no such file"),
        ((tmp_path / "keras.npz",), "keras.npz:x_train takes one (x_train: 60 x 8 x 8 x 3 uint8; y_train: 60 int64"),
        ((samples, *table("a.npy", "b.npy")), "features of lengths 4 and 5"),
        ((samples, *table("c.npy", "d.npy")), "c.npy: 39 rows for 40 images"),
        ((samples, *table("a.npy", "d.npy"), "--distance", "lpips_vgg"), "features have cosine or l2"),
        ((samples, "--distance", "cosine"), "images have l2, lpips_alex"),
        ((samples, "--encoder", tmp_path / "model.pt"), "neither TorchScript (.pt) nor torch.export"),
        ((samples, *table("a.npy", "d.npy"), "--against", samples), "with --features needs --against-features"),
    ):
        result = run(arguments[0], made / "training", *arguments[1:], "--out", tmp_path / "out")
        assert result.exit_code in (1, 2) and words in result.output.splitlines()[-1], result.output
        assert not (tmp_path / "out").exists()


def test_copies_of_one_image_leave_no_spacing():
    images = np.random.default_rng(0).uniform(-1, 1, (12, 1, 4, 4)).astype("f4")
    with pytest.raises(ValueError, match="copies of one: no spacing gives a threshold"):
        attractors.audit(images, images[:1].repeat(24, 0))
    assert attractors.audit(images, images[:1].repeat(24, 0), delta_m=0, delta_s=0).memorized.share == 1 / 12
    assert attractors.audit(images, images.repeat(2, 0)).memorized.share == 1


def test_the_training_set_may_be_the_first_k_images_of_a_file(made, tmp_path):
    result = run(made / "samples.npz", made / "training", "--size", 14, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert list(pd.read_csv(tmp_path / "pairs.csv").query("type == 'memorized'").training) == [10, 11, 12, 13]
    assert "holds 60 images; 61 were asked for" in run(made / "samples.npz", made / "training", "--size", 61,
                                                       "--out", tmp_path).output


class Encoder(torch.nn.Module):
    """Sees the mean of each quarter of an image, which a shift by a pixel hardly changes."""

    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def test_an_encoder_gives_what_its_features_give_from_pictures_of_any_size_in_a_zip(made, tmp_path):
    torch.jit.script(Encoder()).save(tmp_path / "model.pt")
    training = [Image.open(made / "training" / f"image {i}.png") for i in range(60)]
    with zipfile.ZipFile(tmp_path / "samples.zip", "w") as archive:  # as StyleGAN's dataset tool names them
        for i in range(12):
            buffer = io.BytesIO()
            training[4 + i].resize((24, 24), Image.Resampling.NEAREST).save(buffer, "png")
            archive.writestr(f"00000/img{i:08d}.png", buffer.getvalue())
        archive.writestr("dataset.json", "{}")
    given = tmp_path / "samples.zip", made / "training"
    found = attractors.audit(*given, encoder=tmp_path / "model.pt", resize=SIDE, normalised=False)
    assert list(found.measured.samples.training[:, 0]) == list(range(4, 16)) and found.memorized.share == 1
    assert found.pairs().file[1] == "00000/img00000001.png"
    whole = torch.from_numpy(np.stack([np.asarray(image) for image in training])).permute(0, 3, 1, 2) / 255
    np.save(tmp_path / "t.npy", Encoder()(whole).numpy())
    np.save(tmp_path / "s.npy", Encoder()(whole[4:16]).numpy())
    same = attractors.audit(*given, features=[tmp_path / "s.npy", tmp_path / "t.npy"])
    np.testing.assert_allclose(same.measured.spacing, found.measured.spacing, atol=1e-6)
    vectors = np.load(tmp_path / "t.npy")
    cosine = 1 - vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    np.fill_diagonal(cosine, np.inf)
    np.testing.assert_allclose(same.measured.spacing[:, 0], cosine.min(1), atol=1e-6)


def test_against_another_set_the_difference_has_an_interval_and_fishers_p(made):
    found = attractors.audit(made / "samples.npz", made / "training", against=made / "new.npz").measured
    change = found.difference()["memorized"]
    assert change["difference"] == pytest.approx(-0.2)
    assert change["p"] == pytest.approx(3 * fisher_exact([[8, 32], [0, 50]]).pvalue)
    assert change["low"] < -0.2 < change["high"] < 0
    same = attractors.audit(made / "samples.npz", made / "training", against=made / "samples.npz").measured
    assert all(row["p"] == 1 and row["low"] < 0 < row["high"] for row in same.difference().values())


def test_curves_are_the_fractions_of_classify_at_every_step(made):
    measured = attractors.audit(made / "samples.npz", made / "training").measured
    near, cells = measured.samples, measured.cells()
    for column in (0, 33, 40, 80):
        shares = shares_over(cells, column)
        for row, delta_m in enumerate(steps_of(measured.delta_m.value)):
            delta_s = steps_of(measured.delta_s.value)[column]
            codes = classify(near.to_training[:, 0], near.within[:, 0], delta_m, delta_s)
            np.testing.assert_allclose(shares[row], fractions(codes))


def test_groups_are_chains_of_links():
    places = np.array([0.0, 1, 2, 10, 11, 20])
    gaps = np.abs(places[:, None] - places)
    np.fill_diagonal(gaps, np.inf)
    numbers = np.argsort(gaps, 1, kind="stable")[:, :2]
    found = groups(np.take_along_axis(gaps, numbers, 1), numbers, 1)
    assert [part.tolist() for part in found] == [[0, 1, 2], [3, 4]]


@pytest.mark.skipif(not find_spec("torchmetrics"), reason="needs the extra metric")
def test_the_metric_in_batches_equals_the_audit(made):
    from attractors import CopyFractions

    training, samples = (torch.from_numpy(read_images(made / name)) for name in ("training", "samples.npz"))
    metric = CopyFractions(training)
    for part in samples.split(7):
        metric.update(part)
    expected = attractors.audit(made / "samples.npz", made / "training").fractions
    assert {kind: value.item() for kind, value in metric.compute().items()} == pytest.approx(expected)
    metric.reset()
    metric.update(samples[:10])
    assert metric.compute()["memorized"].item() == pytest.approx(0.8)


def test_sliders_say_what_classify_says_and_axe_finds_nothing(made, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser").Axe()
    from test_report_browser import CHROMIUM

    if not CHROMIUM:
        pytest.skip("needs Chromium")
    found = attractors.audit(made / "samples.npz", made / "training")
    found.write(tmp_path)
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, problems = browser.new_page(viewport={"width": 390, "height": 800}), []
        page.on("console", lambda message: problems.append(message.text))
        page.goto((tmp_path / "index.html").as_uri())
        for row, column in ((40, 40), (75, 40), (80, 80), (0, 77)):
            page.evaluate(f"for (const [name, value] of [['m', {row}], ['s', {column}]]) {{"
                          "const input = document.getElementById(name); input.value = value;"
                          "input.dispatchEvent(new Event('input')); }")
            words = page.inner_text("#readout")
            for kind, share in zip(TYPES, shares_over(found.measured.cells(), column)[row], strict=True):
                assert f"{float(f'{100 * share:.3g}'):g}% {kind}" in words
        found = axe.run(page).response["violations"]
        assert not [(part["id"], part["nodes"][0]["html"][:120]) for part in found] + problems
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
