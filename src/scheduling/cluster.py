"""Stages on a Ray cluster: each in a copy of this checkout, results back through the DVC cache or remote.

What DVC keeps (weights, samples) goes through a cache that all machines share, or a remote. What git keeps (tables,
pictures, the entries of lock files) comes back with the task. So `dvc repro` here finds all as if it had run it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import socket
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click
import networkx as nx

from scheduling import books, keeper, processes, remote_worker
from scheduling.graph import TOGETHER

LARGE = 50_000_000
SAME = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def requirements(path: Path = Path("requirements.txt")) -> list[str]:
    """Return DVC and the packages named in requirements.txt, whose versions must agree on all machines."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else ()
    return ["dvc", *(match[0] for line in lines if (match := re.match(r"[\w.-]+", line)))]


def snapshot(made: Container[str], repo: Any) -> tuple[bytes, list[str]]:
    """Return (this checkout as a tar file, the files in it that are not committed).

    The tar file has DVC's settings and all files that git tracks or would track and .dvcignore does not name. made
    contains what stages write, which does not count as uncommitted. Raises ValueError for a file that is too large to
    be source code, and with git's message where git fails, as in a repository that belongs to another user.
    """

    def git(*arguments: str) -> str:
        ended = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", check=False)
        if ended.returncode:
            raise ValueError(f"git {arguments[0]}: {' '.join(ended.stderr.split())}")
        return ended.stdout

    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    ignored = repo.dvcignore.is_ignored_file  # of .dvc/ too
    files = [path for path in dict.fromkeys(listed) if path and os.path.lexists(path)
             and (path.startswith(".dvc/") or not ignored(os.path.join(repo.root_dir, path)))]
    if large := [path for path in files if os.path.getsize(path) > LARGE]:
        raise ValueError(f"{large[0]}: over {LARGE // 10**6} MB and not in .gitignore; workers get a copy of all else")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in files:
            archive.add(path, recursive=False)
    changed = [line[3:] for line in git("status", "--porcelain", "-uall").splitlines()]
    return buffer.getvalue(), [path for path in changed if path not in made]


def written(config: Mapping[str, Any]) -> str:
    """Return a section of DVC's settings in the form of config.local."""
    return "".join(f"    {key} = {value}\n" for key, value in config.items())


def reachable(address: str, seconds: float = 10) -> None:
    """Raise ValueError where nothing answers at HOST:PORT within `seconds`; Ray itself needs minutes to notice that."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise ValueError(f"--address {address}: expected auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), seconds).close()
    except OSError as error:
        raise ValueError(f"--address {address}: no Ray there ({error.strerror or error})") from None


class Cluster:
    """The connection to a Ray cluster, with the snapshot and the running stages that this scheduler stores there."""

    def __init__(
        self, address: str, checkout: books.Books, graph: nx.DiGraph, gpus: float | None, cpus: int, jobs: int | None,
        cache: str | None, remote: str | None, allow_versions: bool, patience: float, forward: Sequence[str] = (),
    ) -> None:
        """checkout: its `Books`; patience: minutes without a machine after which it is given up.

        forward: variables of the environment that workers get beside those in SAME.
        """
        if os.name == "nt":
            raise ValueError("--address: clusters are of Linux or macOS; without it stages run side by side here")
        try:
            import ray
        except ImportError:
            raise ValueError("--address needs Ray: pip install ray") from None
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", namespace="scheduling")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"--address {address}: {str(error).splitlines()[0]}") from None
        for module in (remote_worker, books, processes, keeper):
            ray.cloudpickle.register_pickle_by_value(module)
        self.ray, self.graph, self.gpus, self.cpus, self.jobs = ray, graph, gpus, cpus, jobs
        self.remote, self.merged, self.running_refs, self.keys = remote, [], {}, itertools.count()
        self.books, self.patience, repo = checkout, patience, checkout.repo
        if gpus is None:
            self.gpus = int("GPU" in ray.cluster_resources())
        made = {path for _, paths in graph.graph["all"].nodes(data="outputs") for path in paths}
        locks = checkout.by_file({name: {} for name in checkout.stages})
        content, self.uncommitted = snapshot(made | set(locks), repo)
        self.snapshot = ray.put(content)
        self.board = ray.remote(num_cpus=0, max_restarts=-1)(remote_worker.Board).remote()
        self.perform = ray.remote(max_retries=3)(remote_worker.perform)
        self.job: dict[str, Any] = {
            "allow_versions": allow_versions,
            "versions": remote_worker.versions(requirements()),
            "environment": {name: os.environ.get(name) for name in (*SAME, *forward)},
            "config": f"[core]\n{written({'no_scm': True, 'check_update': False})}",
            "keeper": Path(keeper.__file__).read_text("utf-8"),
            "remote": remote, "cache": None, "token": None,
        }
        if remote:
            if remote not in repo.config["remote"]:
                raise ValueError(f"--remote {remote}: none of that name; dvc remote list shows those there are")
            self.job["config"] += (
                f"    remote = {remote}\n['remote \"{remote}\"']\n{written(repo.config['remote'][remote])}"
            )
        else:
            self.job["cache"] = str(Path(cache or repo.cache.local_cache_dir).resolve())
            token = Path(self.job["cache"]) / "fan_out" / uuid.uuid4().hex
            token.parent.mkdir(parents=True, exist_ok=True)
            token.touch()
            self.job["token"] = str(token)

    def workers(self, gpu: bool) -> int:
        """Return how many stages the cluster can run at a time."""
        has, each = self.ray.cluster_resources(), {"CPU": self.cpus} | ({"GPU": self.gpus} if gpu else {})
        return int(min(has.get(resource, 0) / number for resource, number in each.items() if number))

    def lanes(self) -> list[ClusterLane]:
        """Return a lane for stages that need a GPU, and one for those that do not."""
        if not self.gpus:
            return [ClusterLane(self, gpu=False, suits=lambda name: not self.graph.nodes[name]["here"])]
        return [
            ClusterLane(self, True, lambda name: self.graph.nodes[name]["device"]),
            ClusterLane(
                self, False, lambda name: not self.graph.nodes[name]["device"] and not self.graph.nodes[name]["here"]
            ),
        ]

    def submit(self, inside: dict[str, list[str]], gpu: bool) -> Future:
        """Start stages on a worker; return a future of the result of `remote_worker.perform`."""
        nodes = self.graph.graph["all"].nodes
        read = {name: [other for other in nodes[name]["inputs"] if other not in inside] for name in inside}
        inputs = sorted({name for names in read.values() for name in names})
        key = next(self.keys)
        job = self.job | {
            "key": key, "gpu": gpu, "inside": inside, "read": read,
            "lock": self.books.by_file(self.books.entries((*inputs, *inside))),
            "files": remote_worker.contents(Path("."), [path for n in inputs for path in nodes[n]["uncached"]]),
            "uncached": {name: nodes[name]["uncached"] for name in inside},
            "outputs": [path for name in inside for path in nodes[name]["outputs"]],
        }
        task = self.perform.options(num_cpus=self.cpus, num_gpus=self.gpus if gpu else 0, name=" ".join(inside))
        ref = task.remote(self.snapshot, job, self.board)
        self.running_refs[key] = ref, next(iter(inside)), time.monotonic(), gpu
        future = ref.future()
        future.add_done_callback(lambda _: self.running_refs.pop(key, None))
        return future

    def absorb(self, result: dict[str, Any]) -> dict[str, tuple[int, float]]:
        """Store what a worker sent: files, logs, then lock entries, an order in which a crash here loses nothing.

        Raises ValueError where the worker refused the stages or sent a file that is no output of them.
        """
        if "refused" in result:
            raise ValueError(result["refused"])
        nodes = self.graph.graph["all"].nodes
        known = {path for name in result["entries"] for path in nodes[name]["uncached"]}
        for path, content in result["files"].items():
            if ".." in Path(path).parts or not known & {path, *map(str, Path(path).parents)}:
                raise ValueError(f"worker {result['where']}: sent {path}, which is no output of its stages")
            books.write(Path(path), content)
        for name, log in result["logs"].items():
            header = f"on {result['where']}, {', '.join(f'{p} {v}' for p, v in result['versions'].items())}\n"
            books.write(processes.log_of(name), header.encode() + log)
        self.books.enter(result["entries"])
        self.merged += result["entries"]
        return result["results"]

    def running(self, gpu: bool) -> Iterator[tuple[str, float, str, str]]:
        """Yield (stage, seconds, where, last line of its log) of each batch; a batch may still wait."""
        try:
            news = self.ray.get(self.board.read.remote(), timeout=2)
        except (self.ray.exceptions.RayError, TimeoutError):
            news = {}
        for key, (_, first, since, uses_gpu) in list(self.running_refs.items()):
            if uses_gpu == gpu:
                name, where, line = news.get(key, (first, "waits for a worker", ""))
                yield name, time.monotonic() - since, where, line

    def stop(self) -> None:
        """Cancel all running stages and close the connection."""
        for ref, *_ in list(self.running_refs.values()):
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(ref, force=True)
        self.close()

    def close(self) -> None:
        """Close the connection, and remove the file by which workers recognise the shared cache."""
        if self.job["token"]:
            Path(self.job["token"]).unlink(missing_ok=True)
        self.ray.shutdown()


class ClusterLane:
    """The stages of one kind on the cluster: with or without GPUs."""

    together = TOGETHER

    def __init__(self, cluster: Cluster, gpu: bool, suits: Callable[[str], bool]) -> None:
        self.cluster, self.gpu, self.suits = cluster, gpu, suits
        self.missing: float | None = None  # since when no machine can run these stages

    @property
    def workers(self) -> int:
        """The number of stages given to Ray at a time: twice what fits, so that no worker waits for this machine."""
        return self.cluster.jobs or max(1, 2 * self.cluster.workers(self.gpu))

    def check(self) -> None:
        """Print a line when no machine of the cluster can run these stages. Raises ValueError where that lasts."""
        if self.cluster.workers(self.gpu):
            self.missing = None
            return
        need = f"{self.cluster.cpus} CPUs" + (f" and {self.cluster.gpus:g} GPUs" if self.gpu else "")
        if self.missing is None:
            self.missing = time.monotonic()
            minutes = f"{self.cluster.patience:g} minutes at most"
            click.echo(f"no machine of the cluster has {need}; waiting for one, {minutes}", err=True)
        if time.monotonic() - self.missing > 60 * self.cluster.patience:
            raise ValueError(
                f"no machine of the cluster has had {need} for {self.cluster.patience:g} minutes (--patience); "
                "what is done is kept, and the next call does the rest"
            )

    def submit(self, inside: dict[str, list[str]]) -> Future:
        """Start the stages `inside`; return a future of what came of them."""
        return self.cluster.submit(inside, self.gpu)

    def absorb(self, result: dict[str, Any]) -> dict[str, tuple[int, float]]:
        """Store what a worker sent; return {name: (exit code, seconds)}."""
        return self.cluster.absorb(result)

    def running(self) -> Iterator[tuple[str, float, str, str]]:
        """Yield (stage, seconds, where, last line of its log) of each batch."""
        return self.cluster.running(self.gpu)

    def stop(self) -> None:
        """Cancel all running stages."""
        self.cluster.stop()
