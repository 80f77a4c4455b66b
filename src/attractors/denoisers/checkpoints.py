"""The saved state of a long run, from which a killed run continues."""

import hashlib
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from attractors.arrays import rows_header
from attractors.code import code_hashes
from attractors.files import atomic, temporary

CHECKPOINT_SECONDS = float(os.environ.get("ATTRACTORS_CHECKPOINT_SECONDS", "20"))
SOURCE = Path(__file__).resolve().parents[2]


def resume_path(out: Path | str, script: Path | str, device: torch.device, suffix: str, **identity: Any) -> Path:
    """Return where a run that will write `out` keeps its state: beside it, in a folder that DVC does not track.

    DVC deletes outputs before it runs a stage, so the state cannot be an output. The file's name is a hash of
    everything that determines the result, so a run with changed settings never continues from another run's state:
    identity (JSON values: settings, seed, hashes of inputs), the code of the stage `script` by the same hashes by which
    DVC runs it again, the kind of device, torch's version and its number of threads.
    """
    code = code_hashes([Path(script).resolve()], SOURCE)
    identity |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": device.type, "code": code}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    return Path(out).parent / ".resume" / f"{key}{suffix}"


class Checkpoint:
    """The state of an unfinished run, stored beside its output under `resume_path`; remove it when the run succeeds."""

    def __init__(self, out: Path | str, script: Path | str, device: torch.device, **identity: Any) -> None:
        self.path = resume_path(out, script, device, ".pt", **identity)
        self.saved, self.cost = time.monotonic(), 0.0

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the saved state with its tensors on `device`, or None where there is none.

        A file that cannot be read is reported, and also gives None.
        """
        if not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:  # torch reads the numbers without looking at their checksums
                if damaged := archive.testzip():
                    raise ValueError(damaged)
            return torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:  # torn or foreign, in whichever way torch finds out
            click.echo(f"{self.path}: unreadable ({type(error).__name__}); starting anew", err=True)
            return None

    def save(self, state: dict[str, Any]) -> None:
        """Write `state`, at most once every CHECKPOINT_SECONDS.

        It is written so seldom that it costs at most a twentieth of the time. Raises ValueError where it cannot be
        written.
        """
        started = time.monotonic()
        if started - self.saved >= max(CHECKPOINT_SECONDS, 20 * self.cost):
            try:
                with atomic(self.path) as partial:
                    torch.save(state, partial)
            except RuntimeError:  # torch's word for whatever kept it from writing
                raise ValueError(f"{self.path}: could not be written; is the disk full?") from None
            self.saved = time.monotonic()
            self.cost = self.saved - started

    def remove(self) -> None:
        """Delete the saved state, if there is any."""
        for path in (self.path, temporary(self.path)):
            path.unlink(missing_ok=True)


class Rows:
    """An array [n, ...] float32 that is written to disk block by block, so that a killed run continues after its last
    block and the array is never in memory as a whole.

    `out` gets the bytes that `write_arrays` would write. Every block has `block` rows except the last. `done` is how
    many rows are written, at first those of an earlier run with the same record (see `resume_path`).

        rows = Rows(out, script, device, "images", (n, 3, 64, 64), record, block)
        for start in range(rows.done, n, block):
            rows.append(made(start, start + block))
        rows.finish()
    """

    def __init__(
        self, out: Path | str, script: Path | str, device: torch.device, name: str, shape: tuple[int, ...],
        record: dict[str, Any], block: int,
    ) -> None:
        self.out, self.shape = Path(out), shape
        self.path = resume_path(out, script, device, self.out.suffix, name=name, shape=shape, block=block, **record)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header, self.width = rows_header(name, shape, record), 4 * int(np.prod(shape[1:]))
        self.file = open(self.path, "a+b")  # noqa: SIM115 (closed by `finish`, or with the process)
        written = (self.file.seek(0, os.SEEK_END) - len(header)) // self.width
        self.done = max(0, min(shape[0], written if written >= shape[0] else written // block * block))
        self.file.truncate(len(header) + self.done * self.width if written >= 0 else 0)
        if written < 0:
            self.file.write(header)

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows: [b, ...] float32. Raises OSError, naming the file, where the disk is full."""
        try:
            self.file.write(np.ascontiguousarray(rows, np.float32).data)
            self.file.flush()
            os.fsync(self.file.fileno())  # a block that is counted must survive a loss of power
        except OSError as error:
            error.filename = error.filename or str(self.out)
            raise
        self.done += len(rows)

    def finish(self) -> None:
        """Rename the file to `out`, once all rows are written."""
        assert self.done == self.shape[0]
        self.file.close()
        os.replace(self.path, self.out)
