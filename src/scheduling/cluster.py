"""Stages on a Ray cluster: each in a copy of this checkout, results back through the DVC cache or remote.

What DVC keeps (weights, samples) goes through a cache that all machines share, or a remote. What git keeps (tables,
pictures, the entries of dvc.lock) comes back with the task. So `dvc repro` here finds all as if it had run it.
"""

import contextlib
import io
import itertools
import os
import socket
import subprocess
import tarfile
import time
import uuid
from pathlib import Path

import click

from scheduling import books, keeper, processes, remote_worker
from scheduling.graph import TOGETHER

LARGE = 50_000_000
SAME = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ATTRACTORS_CHECKPOINT_SECONDS")


def requirements(path="requirements.txt"):
    """The packages that requirements.txt names: those whose versions must agree."""
    lines = (line.split("#")[0].strip() for line in Path(path).read_text("utf-8").splitlines())
    return [line.split("<")[0].split(">")[0].split("=")[0].strip() for line in lines if line]


def snapshot(made):
    """(this checkout as a tar file, what in it is not committed): all files that git tracks or would.

    made: what stages write, which is not called uncommitted. Raises ValueError where a file is too large to be source.
    """

    def git(*arguments):
        return subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", check=True).stdout

    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    files = [path for path in dict.fromkeys(listed) if path and os.path.lexists(path)]
    if large := [path for path in files if os.path.getsize(path) > LARGE]:
        raise ValueError(f"{large[0]}: over {LARGE // 10**6} MB and not in .gitignore; workers get a copy of all else")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in files:
            archive.add(path, recursive=False)
    changed = [line[3:] for line in git("status", "--porcelain", "-uall").splitlines()]
    return buffer.getvalue(), [path for path in changed if path not in made]


def written(config):
    """A section of DVC's settings as config.local holds it."""
    return "".join(f"    {key} = {value}\n" for key, value in config.items())


def reachable(address, seconds=10):
    """Raises ValueError where nothing answers at HOST:PORT, which Ray itself finds out only after minutes."""
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
    """The connection to a Ray cluster, and what this fan-out keeps there."""

    def __init__(self, address, own, graph, gpus, cpus, jobs, cache, remote, allow_versions, patience):
        """own: the `Books` of this checkout; patience: minutes without a machine after which it is given up."""
        if os.name == "nt":
            raise ValueError("--address: clusters are of Linux or macOS; without it stages run side by side here")
        try:
            import ray
        except ImportError:
            raise ValueError("--address needs Ray: pip install -r requirements-cluster.txt") from None
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", namespace="attractors")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"--address {address}: {str(error).splitlines()[0]}") from None
        for module in (remote_worker, books, processes, keeper):
            ray.cloudpickle.register_pickle_by_value(module)
        self.ray, self.graph, self.gpus, self.cpus, self.jobs = ray, graph, gpus, cpus, jobs
        self.remote, self.merged, self.running_refs, self.keys = remote, [], {}, itertools.count()
        self.books, self.patience, repo = own, patience, own.repo
        if gpus is None:
            self.gpus = int("GPU" in ray.cluster_resources())
        made = {path for _, paths in graph.graph["all"].nodes(data="outputs") for path in paths}
        content, self.uncommitted = snapshot(made | {"dvc.lock"})
        self.snapshot = ray.put(content)
        self.board = ray.remote(num_cpus=0, max_restarts=-1)(remote_worker.Board).remote()
        self.perform = ray.remote(max_retries=3)(remote_worker.perform)
        self.job = {
            "allow_versions": allow_versions,
            "versions": remote_worker.versions(requirements()),
            "environment": {name: os.environ.get(name) for name in SAME},
            "config": f"[core]\n{written({'no_scm': True, 'check_update': False})}",
            "keeper": os.path.relpath(keeper.__file__, repo.root_dir),
            "remote": remote, "cache": None, "token": None,
        }  # fmt: skip
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

    def workers(self, gpu):
        """How many stages the cluster runs at a time."""
        has, each = self.ray.cluster_resources(), {"CPU": self.cpus} | ({"GPU": self.gpus} if gpu else {})
        return int(min(has.get(resource, 0) / number for resource, number in each.items() if number))

    def lanes(self):
        """Stages that need a GPU, and those that do not."""
        if not self.gpus:
            return [ClusterLane(self, gpu=False, suits=lambda name: not self.graph.nodes[name]["here"])]
        return [
            ClusterLane(self, True, lambda name: self.graph.nodes[name]["device"]),
            ClusterLane(
                self, False, lambda name: not self.graph.nodes[name]["device"] and not self.graph.nodes[name]["here"]
            ),
        ]

    def submit(self, inside, gpu):
        """Start stages on a worker; a future of what `remote_worker.perform` returns."""
        nodes = self.graph.graph["all"].nodes
        read = {name: [other for other in nodes[name]["inputs"] if other not in inside] for name in inside}
        inputs = sorted({name for names in read.values() for name in names})
        key = next(self.keys)
        job = self.job | {
            "key": key, "gpu": gpu, "inside": inside, "read": read,
            "lock": self.books.entries((*inputs, *inside)),
            "files": remote_worker.contents(Path("."), [path for n in inputs for path in nodes[n]["uncached"]]),
            "uncached": {name: nodes[name]["uncached"] for name in inside},
            "outputs": [path for name in inside for path in nodes[name]["outputs"]],
        }  # fmt: skip
        task = self.perform.options(num_cpus=self.cpus, num_gpus=self.gpus if gpu else 0, name=" ".join(inside))
        ref = task.remote(self.snapshot, job, self.board)
        self.running_refs[key] = ref, next(iter(inside)), time.monotonic(), gpu
        future = ref.future()
        future.add_done_callback(lambda _: self.running_refs.pop(key, None))
        return future

    def absorb(self, result):
        """Take in what a worker sent: files, logs, lock entries, in this order, so that a crash here loses nothing.

        Raises ValueError where the worker refused.
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

    def running(self, gpu):
        """(stage, seconds, where, last line of its log) of each batch; where it waits for a place, that."""
        try:
            news = self.ray.get(self.board.read.remote(), timeout=2)
        except (self.ray.exceptions.RayError, TimeoutError):
            news = {}
        for key, (_, first, since, own) in list(self.running_refs.items()):
            if own == gpu:
                name, where, line = news.get(key, (first, "waits for a worker", ""))
                yield name, time.monotonic() - since, where, line

    def stop(self):
        for ref, *_ in list(self.running_refs.values()):
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(ref, force=True)
        self.close()

    def close(self):
        if self.job["token"]:
            Path(self.job["token"]).unlink(missing_ok=True)
        self.ray.shutdown()


class ClusterLane:
    """One kind of place in the cluster: with or without GPUs."""

    together = TOGETHER

    def __init__(self, cluster, gpu, suits):
        self.cluster, self.gpu, self.suits, self.missing = cluster, gpu, suits, None

    @property
    def workers(self):
        """What is given to Ray at a time: twice what fits, so that no worker waits for the head."""
        return self.cluster.jobs or max(1, 2 * self.cluster.workers(self.gpu))

    def check(self):
        """Say when no machine of the cluster can run what was given to it. Raises ValueError where that lasts."""
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

    def submit(self, inside):
        return self.cluster.submit(inside, self.gpu)

    def absorb(self, result):
        return self.cluster.absorb(result)

    def running(self):
        return self.cluster.running(self.gpu)

    def stop(self):
        self.cluster.stop()
