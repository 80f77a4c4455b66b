"""The installable library: its requirements, its command and its public names."""

import re
import tomllib

import pytest
from conftest import ROOT

import attractors

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def listed(path):
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-r")]


def test_requirements_are_the_same_in_both_lists():
    assert PROJECT["dependencies"] == listed(ROOT / "requirements.txt")
    files = {path.stem.removeprefix("requirements-"): path for path in ROOT.glob("requirements-*.txt")}
    assert PROJECT["optional-dependencies"] == {name: listed(path) for name, path in files.items()}


def test_public_names_are_those_of_their_modules():
    from attractors.distances.neighbours import nearest

    assert attractors.nearest is nearest
    for name in attractors.__all__:
        assert getattr(attractors, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = attractors.nothing


def test_ten_lines_of_the_readme_classify_two_sets(tmp_path, monkeypatch, capsys):
    """The example of the README, with distances of pixels in place of LPIPS, whose weights are not here."""
    import numpy as np

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    random = np.random.default_rng(0)
    training = random.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "training.npz", images=training)
    np.savez(
        tmp_path / "samples.npz", images=np.concatenate([training[:3], random.integers(0, 256, (5, 8, 8, 3), np.uint8)])
    )
    monkeypatch.chdir(tmp_path)

    class Pixels:
        def batches(self, images):
            import torch

            yield torch.from_numpy(images).flatten(1)

    monkeypatch.setattr(attractors, "read_embedding", lambda path: Pixels(), raising=False)
    exec(compile(code, "README.md", "exec"), {})
    assert "'memorized': " in capsys.readouterr().out.replace("np.str_", "")
