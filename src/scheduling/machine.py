"""Stages on this machine, on its cores and its GPUs, in this checkout."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from scheduling.batch import Batch, log_of

REPRODUCE = ["--wait-for-lock", "repro", "--single-item"]


def visible_gpus():
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number in range(listed.count("GPU "))]


def shares(gpus, each):
    """What each stage at a time is given: `each` GPUs, or a part of one. Raises ValueError where there are too few."""
    if each > len(gpus):
        raise ValueError(f"--gpus-per-run {each:g}: this machine has {len(gpus)}")
    if each < 1:
        return [gpu for gpu in gpus for _ in range(int(1 / each))]
    if each != int(each):
        raise ValueError(f"--gpus-per-run {each:g}: a whole number, or less than 1")
    return [",".join(gpus[i : i + int(each)]) for i in range(0, len(gpus) - int(each) + 1, int(each))]


class Lane:
    """Up to `size` batches at a time of the stages that `suits` admits; each holds one of `gpus`, if any are given."""

    def __init__(self, suits, size, gpus=None, after=()):
        """after: commands of DVC for each stage that succeeded, without its name."""
        self.suits, self.workers, self.free, self.after = suits, size, gpus and list(gpus), after
        self.pool, self.batches = ThreadPoolExecutor(size), {}

    def submit(self, inside):
        """Start stages; a future of {name: (exit code, seconds)}."""
        gpu = None if self.free is None else self.free.pop(0) if self.free else ""
        return self.pool.submit(self._run, inside, gpu)

    def _run(self, inside, gpu):
        environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        commands = {name: [[*REPRODUCE, name], *([*after, name] for after in self.after)] for name in inside}
        batch = Batch(".", inside, commands, environment)
        self.batches[batch] = (next(iter(inside)), time.monotonic())
        try:
            return batch.run(lambda name: self.batches.update({batch: (name, time.monotonic())}))
        finally:
            del self.batches[batch]
            if gpu:
                self.free.append(gpu)

    def absorb(self, results):
        return results

    def running(self):
        """(stage, seconds, where, the last line of its log) of each batch."""
        for name, since in list(self.batches.values()):
            yield name, time.monotonic() - since, "", last_line(log_of(name))

    def stop(self):
        self.pool.shutdown(wait=False, cancel_futures=True)
        for batch in list(self.batches):
            batch.stop()
        self.pool.shutdown()


def last_line(path):
    """The last line of a log, as a terminal would show it."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 1000))
            lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
