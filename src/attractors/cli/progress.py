"""The progress bar of every command."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(iterable: Iterable | None, description: str, unit: str = "step", **options: Any) -> tqdm:
    """Return a progress bar with rate and remaining time on a terminal, a line every 30 seconds elsewhere."""
    interval = 0.2 if sys.stderr.isatty() else 30
    return tqdm(
        iterable, description, unit=unit, mininterval=interval, maxinterval=interval, dynamic_ncols=True, **options
    )
