"""The work of one worker of a cluster. Ray sends this module's functions by value, so workers need not install it."""

import contextlib
import io
import os
import shutil
import socket
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from scheduling.books import Books, LockFile
from scheduling.processes import Processes, last_line, log_of

LOG_BYTES = 200_000  # of each stage's log that return to the head


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return {package: its installed version}.

    The local part is left out, because builds for CUDA and for CPU are the same version.
    """
    known = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in set(packages) - set(known):
        try:
            known[package] = version(package).split("+")[0]
        except PackageNotFoundError:
            known[package] = "absent"
    return known


class Board:
    """An actor that stores what each batch is doing, so that the head can read it."""

    def __init__(self) -> None:
        self.news = {}

    def tell(self, key: int, *news: Any) -> None:
        """Store the news of the batch `key`."""
        self.news[key] = news

    def read(self) -> dict[int, tuple]:
        """Return the latest news of every batch."""
        return self.news


def own_folder(base: Path) -> Path:
    """Return a new folder for one batch below `base`, after removing those of workers that have ended.

    Raises ValueError where `base` belongs to another user.
    """
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        raise ValueError(f"{base}: belongs to another user; set SCHEDULING_WORKERS to a folder of your own")
    for old in base.glob("[0-9]*-*"):
        if not psutil.pid_exists(int(old.name.split("-")[0])):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))


def unpack(folder: Path, snapshot: bytes, job: dict[str, Any], resume: Path) -> None:
    """Make `folder` the head's checkout: its files, the lock entries and small files of the stages that are read."""
    with tarfile.open(fileobj=io.BytesIO(snapshot)) as archive:
        archive.extractall(folder, filter="tar")
    (folder / ".dvc/config.local").write_text(job["config"], "utf-8")
    for path, entries in job["lock"].items():
        LockFile(folder / path).enter(entries)
    for path, content in job["files"].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    resume.mkdir(parents=True, exist_ok=True)
    for parent in {(folder / path).parent for path in job["outputs"]}:  # a training killed elsewhere goes on here
        parent.mkdir(parents=True, exist_ok=True)
        (parent / ".resume").symlink_to(resume)


def contents(folder: Path, paths: Iterable[str | Path]) -> dict[str, bytes]:
    """Return {path: bytes} of files, and of all files in folders, relative to `folder`."""
    files = (file for path in paths for file in ([folder / path], (folder / path).rglob("*"))[(folder / path).is_dir()])
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


def perform(snapshot: bytes, job: dict[str, Any], board: Any) -> dict[str, Any]:
    """Run a batch of stages on this machine; return all that the head needs to continue as if it had run them.

    snapshot: the head's checkout as a tar file; job: as `Cluster.submit` writes it; board: where to tell news.
    """
    where = socket.gethostname().split(".")[0]
    if gpus := os.environ.get("CUDA_VISIBLE_DEVICES"):
        where += f":{gpus}"
    installed = versions(job["versions"])
    differ = [f"{p} {v} (head: {job['versions'][p]})" for p, v in installed.items() if v != job["versions"][p]]
    if differ and not job["allow_versions"]:
        return {"refused": f"worker {where}: other versions: {', '.join(differ)}; --allow-versions accepts them"}
    if job["token"] and not Path(job["token"]).exists():
        return {"refused": f"worker {where}: does not see the shared cache {Path(job['token']).parents[1]}; "
                           "--cache names one that all machines see, --remote goes without"}
    base = Path(os.environ.get("SCHEDULING_WORKERS") or f"{tempfile.gettempdir()}/scheduling-{os.getuid()}").absolute()
    folder, cache = own_folder(base), job["cache"] or str(base / "cache")
    job["config"] += f"[cache]\n    dir = {cache}\n"
    with contextlib.ExitStack() as opened:
        opened.callback(shutil.rmtree, folder, ignore_errors=True)
        unpack(folder, snapshot, job, Path(cache) / "fan_out" / "resume")
        opened.enter_context(contextlib.chdir(folder))  # DVC takes some paths from there
        keeper = folder / ".dvc" / "tmp" / "keeper.py"
        keeper.parent.mkdir(parents=True, exist_ok=True)
        keeper.write_text(job["keeper"], "utf-8")
        processes, books, over = Processes(script=keeper), Books(folder), threading.Event()
        for end in (books.close, processes.stop, over.set):
            opened.callback(end)
        results, current = {}, [next(iter(job["inside"]))]

        def report() -> None:
            while not over.wait(2):
                board.tell.remote(job["key"], current[-1], where, last_line(folder / log_of(current[-1])))

        threading.Thread(target=report, daemon=True).start()
        for name, needs in job["inside"].items():
            if any(results.get(other, (1,))[0] for other in needs):
                continue
            current.append(name)
            results[name] = reproduced(books, processes, name, folder / log_of(name), job)
        done = [name for name, (code, _) in results.items() if not code]
        return {
            "where": where, "versions": installed, "results": results, "entries": books.entries(done),
            "files": contents(folder, [path for name in done for path in job["uncached"][name]]),
            "logs": {name: log[-LOG_BYTES:] for name in results for log in contents(folder, [log_of(name)]).values()},
        }


def reproduced(books: Books, processes: Processes, name: str, log: Path, job: dict[str, Any]) -> tuple[int, float]:
    """Bring one stage up to date; return (exit code, seconds). With a remote, its outputs are sent there."""

    def run(command: str, folder: str, environment: dict[str, str]) -> int:
        environment = {k: v for k, v in environment.items() if k not in job["environment"]}
        environment |= {k: v for k, v in job["environment"].items() if v is not None}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        if not job["gpu"]:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        return processes.run(command, folder, environment, log)

    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    try:
        books.checkout(job["read"][name], job["remote"])
        code = books.reproduce(name, run, log)
        if not code and job["remote"]:
            books.push([name], job["remote"])
    except Exception as error:  # of a remote, in whichever way its library says so
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{type(error).__name__}: {error}\n")
        code = 1
    return code, time.monotonic() - started
