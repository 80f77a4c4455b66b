"""Run as a process that ends others when its parent is gone, however the parent ended.

python keeper.py reads lines from standard input: +PID for a process to watch, -PID for one that has ended.
"""

import contextlib
import sys
from collections.abc import Iterable

import psutil

GRACE = 10  # seconds in which a process may end by itself after it was asked to


def end(processes: Iterable[psutil.Process]) -> None:
    """End processes and all that they started: ask them first, and kill those that remain after GRACE seconds."""
    family = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            family += [*process.children(recursive=True), process]
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(family, timeout=GRACE)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


def main() -> None:
    """Remember the processes named on standard input, and end those that still run when it closes."""
    kept = {}
    for line in sys.stdin:
        number = int(line[1:])
        if line[0] == "-":
            kept.pop(number, None)
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            kept[number] = psutil.Process(number)  # remembers when it began: no later process of that number is ended
    end(kept.values())


if __name__ == "__main__":
    main()
