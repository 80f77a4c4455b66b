import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import pytest
import torch
from ruamel.yaml import YAML

torch.set_num_threads(1)


def pipeline(root=ROOT):
    """The stages of all dvc.yaml files by name."""
    files = [YAML(typ="safe").load(root / name)["stages"] for name in ("dvc.yaml", "models/dvc.yaml")]
    assert not files[0].keys() & files[1].keys()  # so that messages and logs need no more than the name
    return files[0] | files[1]


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def same_folder():
    """A test that leaves the process in another folder fails itself, instead of those that run after it."""
    folder = Path.cwd()
    yield
    same = os.path.samefile(".", folder)
    os.chdir(folder)
    assert same


def pytest_collection_modifyitems(items):
    """The longest file first, so that no worker waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_simulated_cuda.py")
