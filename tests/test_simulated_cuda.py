"""The tests of CUDA on a simulated device, in a process of their own, because such a device stays registered."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_stages_on_a_simulated_device():
    environment = os.environ | {"ATTRACTORS_SIMULATED_CUDA": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "test_cuda.py"]
    done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    if all(importlib.util.find_spec(name) for name in ("diffusers", "transformers")):
        assert "skipped" not in done.stdout
