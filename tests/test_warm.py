"""A warm python does what the plain one does: output, exit codes, environment, and an end when it is not wanted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from scheduling import warm  # noqa: E402

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture(scope="module")
def folder():
    with warm.python() as folder:
        deadline = time.monotonic() + 60
        while not Path(folder, "socket").exists():
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)
        yield folder


def run(folder, *arguments, **options):
    command = [f"{folder}/python", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


SCRIPT = """
import os, sys
import helper
print("torch" in sys.modules, sys.argv[1:], os.getcwd(), os.environ.get("COLOUR"), helper.VALUE, __name__)
print("to stderr", file=sys.stderr)
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("sys.exit(3)", 3), ("sys.exit('why')", 1), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", 256 - 9)],
)
def test_a_script_sees_and_returns_what_it_does_under_a_plain_python(folder, tmp_path, end, code):
    (tmp_path / "helper.py").write_text("VALUE = 7")
    (tmp_path / "script.py").write_text(SCRIPT.format(end=end))
    result = run(folder, "script.py", "a b", "$c", cwd=tmp_path, env={**os.environ, "COLOUR": "red"})
    assert result.returncode == code
    if end != "os.kill(os.getpid(), 9)":
        assert result.stdout == f"True ['a b', '$c'] {tmp_path} red 7 __main__\n"
        assert result.stderr.startswith("to stderr\n")
        assert ("ZeroDivisionError" in result.stderr) == (end == "1 / 0")


def test_other_uses_of_python_are_plain(folder):
    assert run(folder, "-c", "import sys; print('torch' in sys.modules)").stdout == "False\n"


def test_two_forks_draw_the_same_numbers(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import torch; print(torch.randn(3, generator=torch.Generator().manual_seed(5)).tolist())")
    plain = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True)
    assert {run(folder, script).stdout for _ in range(2)} == {plain.stdout} != {""}


def test_a_script_whose_caller_was_killed_is_killed(folder, tmp_path):
    script, alive = tmp_path / "script.py", tmp_path / "alive"
    script.write_text(f"import os, time\nopen({str(alive)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    caller = subprocess.Popen([f"{folder}/python", str(script)])
    deadline = time.monotonic() + 20
    while not alive.exists() or not alive.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    number = int(alive.read_text())
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(number, 0)
            time.sleep(0.05)


def test_when_the_block_has_ended_its_python_is_a_plain_one():
    with warm.python() as folder:
        pass
    assert not Path(folder).exists()
