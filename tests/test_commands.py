"""Bad input: one line that names the option or file and what would be right, before any work, and nothing written."""

import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT

from attractors.arrays import write_arrays
from attractors.cli import group
from attractors.cli.settings import checkout_around
from attractors.data.images import read_images


def run(script, *arguments):
    return CliRunner().invoke(group.main, [script, *map(str, arguments)])


@pytest.fixture(scope="module")
def subset(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "digits.safetensors"
    assert run("subset", "digits", "--out", out).exit_code == 0
    return out


def sweep_file(folder, text):
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


SWEEP = "dataset: digits\nsizes: [2]\nnetwork: {name: mlp, width: 8, blocks: 1}\n"


def cases(folder, subset):
    """(name, words of the message, exit code, script, arguments) of bad input; more is in test_hostile.py."""
    good = sweep_file(folder, SWEEP + "train: {iterations: 1}\n")
    train = ["--subset", subset, "--out", folder / "out.safetensors"]
    np.save(folder / "small.npy", np.full((3, 1, 4, 4), -1, np.float32))
    write_arrays(folder / "other.safetensors", {"x": np.zeros(3)})
    (folder / "empty").mkdir()
    misspelt = folder / "misspelt.yaml"
    misspelt.write_text(SWEEP + "train: {iteration: 1}\n")
    network = folder / "network.yaml"
    network.write_text(SWEEP.replace("blocks", "block"))
    unknown = folder / "unknown.yaml"
    unknown.write_text(SWEEP.replace("mlp", "resnet"))
    classify = ["--types", folder / "out", "--out", folder / "out"]
    pair = lambda s: ["--synthetic", folder / s, "--training", subset, "--out", folder / "out.safetensors"]  # noqa: E731
    return [
        ("unknown dataset", ["unknown dataset 'digit'", "digits"], 1, "subset", ["digit", "--out", folder / "out.x"]),
        ("K beyond the dataset", ["holds 1797 images; 1798"], 1, "train", ["--sweep", good, "--size", 1798, *train]),
        ("K of 1", ["--size", "x>=2"], 2, "train", ["--sweep", good, "--size", 1, *train]),
        ("negative threshold", ["'-1'", "auto or a number at least 0"], 2, "classify", [folder, "--delta-m", -1, *classify]),
        ("threshold in words", ["'wide'", "auto or a number at least 0"], 2, "classify", [folder, "--delta-s", "wide", *classify]),
        ("misspelt setting", ["'iteration'", "did you mean iterations?"], 2, "train", ["--sweep", misspelt, "--size", 2, *train]),
        ("misspelt network setting", ["no setting 'block'; did you mean blocks?"], 1, "train", ["--sweep", network, "--size", 2, *train]),
        ("unknown network", ["'resnet'", "mlp"], 1, "train", ["--sweep", unknown, "--size", 2, *train]),
        ("missing sweep", ["no such file"], 2, "train", ["--sweep", folder / "none.yaml", "--size", 2, *train]),
        ("foreign file", ["other.safetensors", "but not images"], 1, "neighbours", pair("other.safetensors")),
        ("missing file", ["none.npy: no such file"], 1, "neighbours", pair("none.npy")),
        ("other image shape", ["small.npy", "(1, 4, 4)"], 1, "neighbours", pair("small.npy")),
        ("not a model", ["not a model"], 1, "sample", ["--model", subset, "--out", folder / "out.x"]),
        ("no neighbours", ["holds no neighbours"], 1, "classify", [folder / "empty", *classify]),
        ("unknown scale", ["desktop", "laptop"], 2, "scale", ["desktop", "--out", folder / "out.yaml"]),
        ("unknown device", ["--device tpu9"], 1, "sample", ["--model", subset, "--device", "tpu9", "--out", folder / "out.x"]),
    ]


def test_every_bad_input_gets_one_line_the_right_exit_code_and_writes_nothing(tmp_path, subset):
    table = cases(tmp_path, subset)
    before = sorted(tmp_path.rglob("*"))
    for name, words, code, script, arguments in table:
        result = run(script, *arguments)
        assert result.exit_code == code, (name, result.output)
        assert isinstance(result.exception, SystemExit), name
        message = " ".join(result.output.split())
        assert all(word in message for word in words), (name, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_subset_holds_the_digits_in_subset_order_scaled_to_minus_one_to_one(subset):
    from sklearn.datasets import load_digits

    from attractors.data.subsets import nested_order

    expected = load_digits().images[nested_order(1797)] / 8 - 1
    np.testing.assert_allclose(read_images(subset)[:, 0], expected, atol=1e-6)


def test_every_file_of_a_stage_or_command_is_in_the_table_of_help_and_says_what_it_does():
    rooms = {room: {path.stem for path in (ROOT / "src/attractors" / room).glob("[!_]*.py")} for room in
             ("commands", "stages", "figures")}
    named = {name: path.parent.name for name, (_, path) in group.modules().items()}
    assert {name for name, room in named.items() if room == "figures"} == {
        f"figure_{name}" for name in rooms["figures"] - set(group.NO_FIGURES)
    }
    assert {name for name, room in named.items() if room != "figures"} == rooms["commands"] | rooms["stages"]
    said = CliRunner().invoke(group.main, ["--help"], terminal_width=300).output
    for name, (_, path) in group.modules().items():
        assert path.parent.name == "figures" or (f"{name} " in said and group.summary(path) in said)
    assert CliRunner().invoke(group.main, ["sd-generate", "--help"]).exit_code == 0


def test_a_traceback_is_shown_on_demand(tmp_path, monkeypatch):
    arguments = ["export_diffusers", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(group.main, arguments).output == f"Error: {tmp_path / 'none'}: no such file\n"
    monkeypatch.setenv("ATTRACTORS_DEBUG", "1")
    output = CliRunner().invoke(group.main, arguments).output
    assert output.startswith("Traceback") and output.endswith(f"Error: {tmp_path / 'none'}: no such file\n")


def test_a_reader_that_closes_the_pipe_is_no_error():
    code = "import click; from attractors.cli.stage import Stage\n" \
        "click.command(cls=Stage)(lambda: [click.echo('x' * 99999) for _ in range(99)])()"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT / "src", stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(60)


def test_the_checkout_around_the_current_folder_is_the_one_that_commands_act_on(tmp_path):
    (tmp_path / "src" / "attractors").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "deeper").mkdir()
    command = [sys.executable, ROOT / "src/main.py", "scale", "digits"]
    environment = os.environ | {"PYTHONPATH": ""}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path / "deeper",
                            env=environment)
    assert f"The code of {ROOT} acts on the checkout around this folder, {tmp_path}.\n" in result.stderr
    assert "neither a scale" in result.stderr and not (tmp_path / "runs.yaml").exists()
    assert checkout_around(tmp_path / "deeper") == tmp_path and checkout_around(tmp_path.parent) is None
    assert "The code of" not in run("scale", "desktop").output


@pytest.mark.parametrize("order", [["sweep"], ["sweep", "params"], ["params", "sweep"]])
def test_a_sweep_overrides_params_yaml_and_an_option_overrides_both(tmp_path, order):
    from attractors.stages import basin

    (tmp_path / "params.yaml").write_text("seed: 5\nbasin: {trials: 20, steps: 10}\n")
    files = {"sweep": sweep_file(tmp_path, SWEEP + "basin: {trials: 4, delta_d: 0.1}\n"),
             "params": tmp_path / "params.yaml"}
    needed = [part for name in ("model", "neighbours", "synthetic", "subset", "out") for part in (f"--{name}", "x")]
    given = [str(part) for name in order for part in (f"--{name}", files[name])]
    settings = basin.main.make_context("basin", [*given, *needed]).params
    assert (settings["trials"], settings["delta_d"]) == (4, 0.1)
    if "params" in order:
        assert (settings["steps"], settings["seed"]) == (10, 5)
    assert basin.main.make_context("basin", [*given, *needed, "--trials", "7"]).params["trials"] == 7
