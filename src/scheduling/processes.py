"""Run commands as processes that each have a log and never outlive this process.

On Linux a command `python SCRIPT ...` starts as a fork of a process that has already imported the slow libraries
(`multiprocessing`'s fork server). Elsewhere, and for all other commands, a shell runs it as DVC would: on macOS a fork
of a process that has imported torch is unsafe, and Windows has no fork.
"""

import contextlib
import multiprocessing.connection
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from scheduling import keeper

LOGS = Path(".dvc/tmp/fan_out")
PLAIN = frozenset("|&;<>()$`\\\"'*?[]#~=%!{}\n")  # a command with one of these characters needs a shell


def log_of(name: str) -> Path:
    """Return where a stage's output goes, relative to the checkout."""
    return LOGS / f"{name}.log"


def last_line(path: Path) -> str:
    """Return the last line of a log, as a terminal would show it; empty where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 1000))
            lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def become(script: str, arguments: list[str], folder: str, environment: dict[str, str], log: str) -> None:
    """Run `python SCRIPT ARGUMENTS` in this process, which is a fork, as a new interpreter would run it."""
    os.setsid()  # an interrupt at the terminal reaches the scheduler alone, which ends its processes
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 1)
    os.dup2(1, 2)
    sys.argv, sys.path[0] = [script, *arguments], str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


class Processes:
    """Running commands, all of which end when this process ends, for whatever reason."""

    def __init__(self, preloaded: Sequence[str] = (), script: Path = Path(keeper.__file__)) -> None:
        """preloaded: libraries that commands `python SCRIPT ...` find imported, on Linux; script: the file keeper.py.

        Measured on two busy cores: six stages that import torch take 20.2 s of CPU started anew, and 3.9 s as forks.
        """
        self.context: Any = None
        if preloaded and sys.platform == "linux":
            self.context = multiprocessing.get_context("forkserver")
            self.context.set_forkserver_preload(list(preloaded))
        self.kept, self.lock, self.stopped = {}, threading.Lock(), False
        self.keeper: Any = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, encoding="utf-8", start_new_session=True
        )

    def run(self, command: str, folder: str, environment: dict[str, str], log: Path) -> int:
        """Run `command` in `folder` with its output appended to `log`; return its exit code.

        The exit code is negative for a signal.
        """
        with self.lock:
            if self.stopped:
                return -signal.SIGTERM
            number, wait = self._start(command, folder, environment, str(log))
            self.kept[number] = None
            with contextlib.suppress(psutil.NoSuchProcess):
                self.kept[number] = psutil.Process(number)
            self._tell(f"+{number}")
        try:
            code = wait()  # 0 where `stop` has read the exit code first
            return -signal.SIGTERM if self.stopped and code == 0 else code
        finally:
            with self.lock:
                del self.kept[number]
                self._tell(f"-{number}")

    def _start(self, command: str, folder: str, environment: dict[str, str], log: str) -> tuple[int, Callable[[], int]]:
        """Start a command; return (process id, a function that waits for the exit code and returns it)."""
        words = [] if PLAIN & set(command) else shlex.split(command)
        if self.context and words[:1] == ["python"] and words[1:] and words[1].endswith(".py"):
            child = self.context.Process(target=become, args=(words[1], words[2:], folder, environment, log))
            child.start()

            def wait() -> int:
                multiprocessing.connection.wait([child.sentinel])
                with self.lock:  # starting a process reads the exit codes of others, and each can be read only once
                    child.join()
                return child.exitcode

            return child.pid, wait
        from dvc.stage.run import _make_cmd, get_executable

        shell = get_executable()
        with open(log, "ab") as output:
            child = subprocess.Popen(
                _make_cmd(shell, command) if shell else command, cwd=folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )
        return child.pid, child.wait

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # where the keeper has ended, the stages still run
            if not self.keeper.stdin.closed:
                self.keeper.stdin.write(line + "\n")
                self.keeper.stdin.flush()

    def stop(self) -> None:
        """End everything that runs, and start no more."""
        with self.lock:
            self.stopped = True
            running = [process for process in self.kept.values() if process]
        keeper.end(running)
        with self.lock:
            self.keeper.stdin.close()
        self.keeper.wait()
