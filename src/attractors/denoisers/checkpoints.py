"""The saved state of a long run, from which a killed run continues."""

import hashlib
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import click
import torch

from attractors.files import atomic, temporary

CHECKPOINT_SECONDS = float(os.environ.get("ATTRACTORS_CHECKPOINT_SECONDS", "20"))


class Checkpoint:
    """The state of an unfinished run, stored beside its output in a folder that DVC does not track.

    DVC deletes outputs before it runs a stage, so the state cannot be an output. The file's name is a hash of
    everything that determines the result (settings, seed, inputs, code, torch), so a run with changed settings never
    continues from another run's state. The file is removed when the run succeeds.
    """

    def __init__(self, out: str | Path, **identity: Any) -> None:
        files = sorted(path for path in Path(__file__).parents[1].rglob("[!.]*.py") if path.is_file())
        code = b"".join(path.read_bytes() for path in files)
        identity |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode() + code).hexdigest()[:32]
        self.path, self.saved, self.cost = Path(out).parent / ".resume" / f"{key}.pt", time.monotonic(), 0.0

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the saved state with its tensors on `device`, or None where there is none or the file cannot be
        read.
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
        """Write `state`, at most once every CHECKPOINT_SECONDS, and so seldom that it costs at most a twentieth of the
        time.

        Raises ValueError where the file cannot be written.
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
