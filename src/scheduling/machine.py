"""Stages on this machine, on its cores and its GPUs, in this checkout."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType

from scheduling.books import Books
from scheduling.processes import Processes, last_line, log_of


def visible_gpus() -> list[str]:
    """Return the GPUs of this machine as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number in range(listed.count("GPU "))]


def shares(gpus: list[str], each: float) -> list[str]:
    """Return the GPUs for each of the stages that run at a time: `each` GPUs, or a part of one.

    Raises ValueError where there are too few.
    """
    if each > len(gpus):
        raise ValueError(f"--gpus-per-run {each:g}: this machine has {len(gpus)}")
    if each < 1:
        return [gpu for gpu in gpus for _ in range(int(1 / each))]
    if each != int(each):
        raise ValueError(f"--gpus-per-run {each:g}: a whole number, or less than 1")
    return [",".join(gpus[i : i + int(each)]) for i in range(0, len(gpus) - int(each) + 1, int(each))]


class Lane:
    """The stages on this machine, at most `size` at a time of those that `suits` admits.

    Each of them holds one of `gpus`, if any are given.
    """

    together = 0.0  # seconds of stages that are started as one: a stage costs no start of DVC here

    def __init__(
        self, books: Books, processes: Processes, suits: Callable[[str], bool], size: int,
        gpus: list[str] | None = None, after: Callable[[str], None] = lambda name: None,
    ) -> None:
        """after: called with the name of each stage that succeeded."""
        self.books, self.processes, self.suits, self.workers, self.after = books, processes, suits, size, after
        self.free = None if gpus is None else list(gpus)
        self.pool, self.begun = ThreadPoolExecutor(size), {}

    def submit(self, inside: dict[str, list[str]]) -> Future:
        """Start the stages `inside`; return a future of {name: (exit code, seconds)}."""
        (name,) = inside
        gpu = None if self.free is None else self.free.pop(0) if self.free else ""
        return self.pool.submit(self._run, name, gpu)

    def _run(self, name: str, gpu: str | None) -> dict[str, tuple[int, float]]:
        try:
            return {name: self.perform(name, {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})}
        finally:
            if gpu and self.free is not None:
                self.free.append(gpu)

    def perform(self, name: str, more: Mapping[str, str] = MappingProxyType({})) -> tuple[int, float]:
        """Bring a stage up to date; return (exit code, seconds). more: variables of its environment."""
        log, self.begun[name] = log_of(name).absolute(), time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        try:
            code = self.books.reproduce(
                name, lambda command, folder, given: self.processes.run(command, folder, {**given, **more}, log), log
            )
            if not code:
                self.after(name)
            return code, time.monotonic() - self.begun[name]
        finally:
            del self.begun[name]

    def absorb(self, results: dict[str, tuple[int, float]]) -> dict[str, tuple[int, float]]:
        """Return the results of a batch, which are already stored."""
        return results

    def check(self) -> None:
        """Do nothing: this machine is always there."""

    def running(self) -> Iterator[tuple[str, float, str, str]]:
        """Yield (stage, seconds, where, the last line of its log) of each stage that runs."""
        for name, since in list(self.begun.items()):
            yield name, time.monotonic() - since, "", last_line(log_of(name))

    def stop(self) -> None:
        """End everything that runs, and start no more."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.processes.stop()
        self.pool.shutdown()
