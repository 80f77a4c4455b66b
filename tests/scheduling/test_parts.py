"""What scheduling is made of: processes and their end, systems that lack something, the display, lost machines."""

import io
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import networkx
import psutil
import pytest
from conftest import ROOT
from dvc.repo import Repo
from dvc_objects.fs.local import LocalFileSystem
from rich.console import Console
from small_scale import environment, git

from scheduling.books import Books
from scheduling.cluster import ClusterLane, snapshot
from scheduling.display import Display
from scheduling.graph import Agenda
from scheduling.processes import PLAIN, Processes, last_line

SCRIPT = """
import os, sys
import helper
print("colorsys" in sys.modules, sys.argv[1:], os.getcwd(), os.environ.get("COLOUR"), helper.VALUE, __name__)
print("to stderr", file=sys.stderr)
sys.stdout.flush()
{end}
"""


@pytest.fixture(params=[("colorsys",), ()], ids=["forked", "shell"])
def processes(request):
    """Processes that fork from one with a library imported, and such that start anew."""
    if request.param and sys.platform != "linux":
        pytest.skip("forks on Linux only")
    started = Processes(request.param)
    yield started
    started.stop()


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").touch()
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("sys.exit(3)", 3), ("sys.exit('why')", 1), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -9)],
)
def test_a_script_sees_and_returns_what_it_does_under_a_plain_python(processes, tmp_path, log, end, code):
    (tmp_path / "helper.py").write_text("VALUE = 7")
    (tmp_path / "script.py").write_text(SCRIPT.format(end=end))
    command = "python script.py a -b --c d,e"
    found = processes.run(command, str(tmp_path), environment() | {"COLOUR": "red"}, log)
    assert found == code or (code < 0 and found == 128 - code)  # a shell between says 128 + signal
    said = log.read_text().splitlines()
    # Of the two streams the order is not fixed: standard output may be buffered.
    assert f"{bool(processes.context)} ['a', '-b', '--c', 'd,e'] {tmp_path} red 7 __main__" in said
    assert "to stderr" in said
    assert ("ZeroDivisionError" in log.read_text()) == (end == "1 / 0")
    assert ("why" in said) == ("why" in end)


def test_what_a_shell_must_read_goes_to_a_shell(processes, tmp_path, log):
    assert processes.run("echo one && echo $COLOUR > file", str(tmp_path), environment() | {"COLOUR": "red"}, log) == 0
    assert log.read_text() == "one\n"
    assert (tmp_path / "file").read_text() == "red\n"
    assert {"&", "$", ">", "'", "\\", "*"} <= PLAIN


def wait_for(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(path.read_text())


SLEEPER = "import os, time\nopen('alive', 'w').write(str(os.getpid()))\ntime.sleep(60)\n"


def test_stop_ends_what_runs_and_lets_nothing_start(processes, tmp_path, log):
    (tmp_path / "script.py").write_text(SLEEPER)
    codes = []
    thread = threading.Thread(
        target=lambda: codes.append(processes.run("python script.py", str(tmp_path), environment(), log))
    )
    thread.start()
    number = wait_for(tmp_path / "alive")
    processes.stop()
    thread.join(20)
    assert codes and codes[0] != 0
    assert not psutil.pid_exists(number)
    assert processes.run("python script.py", str(tmp_path), environment(), log) < 0


@pytest.mark.parametrize("preloaded", [("colorsys",), ()])
def test_what_runs_ends_when_the_scheduler_is_killed(tmp_path, preloaded):
    (tmp_path / "script.py").write_text(SLEEPER)
    (tmp_path / "log").touch()
    (tmp_path / "scheduler.py").write_text(
        f"import os, sys, pathlib\nsys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "from scheduling.processes import Processes\n"
        "if __name__ == '__main__':\n"
        f"    Processes({preloaded!r}).run('python script.py', '.', dict(os.environ), pathlib.Path('log'))\n"
    )
    scheduler = subprocess.Popen([sys.executable, "scheduler.py"], cwd=tmp_path, env=environment())
    stage = psutil.Process(wait_for(tmp_path / "alive"))
    scheduler.kill()
    scheduler.wait()
    assert not psutil.wait_procs([stage], timeout=20)[1]


def test_what_git_refuses_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"^git ls-files: fatal: not a git repository: .*none'$"):
        snapshot((), None)


def test_workers_get_the_settings_of_dvc_and_what_git_and_dvcignore_do_not_leave_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    Repo.init(str(tmp_path)).close()
    for path in ("code.py", "results/object", "made", "scratch"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("x")
    Path(".dvcignore").write_text("/results/\n")
    Path(".gitignore").write_text("/scratch\n")
    with Repo(str(tmp_path)) as repo:
        content, uncommitted = snapshot({"made"}, repo)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = set(archive.getnames())
    assert {".dvc/config", ".dvcignore", "code.py", "made"} <= names
    assert not names & {"results/object", "scratch"}
    assert "code.py" in uncommitted and "made" not in uncommitted


def test_a_lock_that_is_cut_off_while_it_is_written_stays_as_it_was(tmp_path, monkeypatch):
    from dvc import rwlock

    books = Books.__new__(Books)
    books.repo, books.hardlink = SimpleNamespace(tmp_dir=str(tmp_path), fs=LocalFileSystem()), False
    stage = SimpleNamespace(deps=[], outs=[SimpleNamespace(fs_path=str(tmp_path / "out"))])
    with books._paths(stage):
        pass
    before = (tmp_path / "rwlock").read_bytes()

    def cut_off(content, file):
        file.write("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(rwlock.json, "dump", cut_off)
    with pytest.raises(KeyboardInterrupt), books._paths(stage):
        pass
    assert (tmp_path / "rwlock").read_bytes() == before and len(before) > 1


def test_last_line_of_a_log(tmp_path):
    (tmp_path / "log").write_bytes(b"one\n10%\r20%\r\n\n")
    assert last_line(tmp_path / "log") == "20%"
    assert last_line(tmp_path / "none") == ""


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_without_a_safe_fork_stages_start_anew(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    started = Processes(("colorsys",))
    assert started.context is None
    started.stop()


def test_a_cluster_on_windows_is_one_line(monkeypatch):
    from scheduling import cluster

    monkeypatch.setattr(cluster.os, "name", "nt")
    with pytest.raises(ValueError, match="Linux or macOS; without it stages run side by side here"):
        cluster.Cluster("auto", None, None, None, 1, None, None, None, False, 10)


class Lost:
    """A cluster whose machines come and go."""

    cpus, gpus, jobs, patience, there = 1, 0, None, 10, 0

    def workers(self, gpu):
        return self.there


def test_without_any_machine_a_cluster_is_given_up_after_a_while(monkeypatch, capsys):
    now, cluster = [0.0], Lost()
    monkeypatch.setattr("scheduling.cluster.time.monotonic", lambda: now[0])
    lane = ClusterLane(cluster, False, lambda name: True)
    lane.check()
    now[0] = 590.0
    lane.check()
    cluster.there = 1  # one comes back
    lane.check()
    cluster.there, now[0] = 0, 700.0
    lane.check()
    now[0] = 1299.0
    lane.check()
    now[0] = 1301.0
    with pytest.raises(ValueError, match=r"no machine .* 1 CPUs for 10 minutes \(--patience\)"):
        lane.check()
    assert capsys.readouterr().err.count("waiting for one, 10 minutes at most") == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_display_counts_and_says(monkeypatch, terminal):
    now = [0.0]
    monkeypatch.setattr("scheduling.display.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    agenda = Agenda(networkx.DiGraph([("a@1", "b"), ("a@2", "b")]))
    display = Display(Console(file=stream, force_terminal=terminal, width=100, height=4, highlight=False))
    agenda.settle(["a@1"], {"a@1": (0, 10.0)})
    display.say("a@1: done [after] 10.0 s")
    now[0] = 61.0
    display.show(agenda, [(f"a@{i}", 5.0, "here", "[half]") for i in range(2, 6)], 1)
    display.clear()
    said = stream.getvalue()
    assert "a@1: done [after] 10.0 s" in said
    assert "1 of 3 done, 4 running, 0 failed, 0:01:01 so far, 0:00:20 left" in said
    assert ("and 3 more" in said) == terminal
    assert "a@2" in said
