"""Systems that lack what Linux has: a run by hand works without it, in a process where it has been taken away."""

import subprocess
import sys

import pytest
from conftest import ROOT

MODULES = ("fcntl", "resource", "pwd", "grp", "termios")
FUNCTIONS = ("fork", "forkpty", "sched_getaffinity", "getuid", "geteuid", "killpg", "setsid", "mkfifo")
CODE = f"""
import os, signal, sys
for name in {MODULES}:
    sys.modules[name] = None  # import raises ImportError
for name in {FUNCTIONS}:
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGALRM", "alarm"):
    if hasattr(signal, name):
        delattr(signal, name)
real = open
def closed(file, *rest, **more):
    if str(file).startswith("/proc/") and str(file) != "/proc/self/maps":  # threadpoolctl's, on Linux alone
        raise FileNotFoundError(file)
    return real(file, *rest, **more)
import builtins
builtins.open = closed
sys.path.insert(0, {str(ROOT / "src")!r})
from attractors.cli.group import main
for line in sys.stdin.read().splitlines():
    main(line.split(), standalone_mode=False)
"""
SWEEP = f"--sweep {ROOT / 'sweeps/digits.yaml'} --device cpu"
RUN = f"""
subset digits --out subset.safetensors
train {SWEEP} --subset subset.safetensors --size 4 --iterations 3 --out model.safetensors
sample {SWEEP} --model model.safetensors --floor 8 --out samples.safetensors
neighbours {SWEEP} --synthetic samples.safetensors --training subset.safetensors --size 4 --out 4.safetensors
classify 4.safetensors --name mine --out results
scale laptop --out runs.yaml
inputs --out settings
""".strip()


def without(lines, folder):
    return subprocess.run([sys.executable, "-c", CODE], input=lines, cwd=folder, capture_output=True, text=True,
                          check=False, timeout=600)


def test_a_run_by_hand_needs_nothing_that_only_linux_has(tmp_path):
    result = without(RUN, tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "results/fractions/mine.csv").is_file()
    assert (tmp_path / "runs.yaml").is_file() and any((tmp_path / "settings").iterdir())


@pytest.mark.parametrize("use", ["import fcntl", "os.fork()", "signal.alarm(1)", "open('/proc/self/statm')"])
def test_what_is_taken_away_is_away(use):
    code = CODE.partition("sys.path")[0] + use
    found = subprocess.run([sys.executable, "-c", code], input="", capture_output=True, text=True, check=False)
    assert found.returncode == 1
