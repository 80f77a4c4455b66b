import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)
