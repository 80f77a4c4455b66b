"""Where a long run keeps its state, so that a killed one goes on where it stopped."""

import hashlib
import json
import os
import time
import zipfile
from pathlib import Path

import click
import torch

from attractors.files import atomic, temporary

CHECKPOINT_SECONDS = float(os.environ.get("ATTRACTORS_CHECKPOINT_SECONDS", "20"))


class Checkpoint:
    """Resume state beside the output but outside of what DVC tracks: DVC deletes outputs before a stage runs.

    Its name is a hash of all that decides the result (settings, seed, inputs, code, torch), so a changed recipe
    never resumes from another's state. Removed when the run succeeds.
    """

    def __init__(self, out, **identity):
        files = sorted(path for path in Path(__file__).parents[1].rglob("[!.]*.py") if path.is_file())
        code = b"".join(path.read_bytes() for path in files)
        identity |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode() + code).hexdigest()[:32]
        self.path, self.saved, self.cost = Path(out).parent / ".resume" / f"{key}.pt", time.monotonic(), 0.0

    def load(self, device):
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

    def save(self, state):
        """Write `state`, at most every CHECKPOINT_SECONDS, and seldom enough to cost a twentieth of the time."""
        started = time.monotonic()
        if started - self.saved >= max(CHECKPOINT_SECONDS, 20 * self.cost):
            try:
                with atomic(self.path) as partial:
                    torch.save(state, partial)
            except RuntimeError:  # torch's word for whatever kept it from writing
                raise ValueError(f"{self.path}: could not be written; is the disk full?") from None
            self.saved = time.monotonic()
            self.cost = self.saved - started

    def remove(self):
        for path in (self.path, temporary(self.path)):
            path.unlink(missing_ok=True)
