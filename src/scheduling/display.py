"""What is running, how much is done and how long the rest will take."""

import time
from collections.abc import Iterable
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from scheduling.graph import Agenda


class Display:
    """On a terminal a line for each running stage, redrawn; elsewhere a line of counts every minute."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.started = self.last = time.monotonic()
        if self.console.is_terminal:
            self.live.start()

    def say(self, text: str) -> None:
        """Print a line that is not redrawn."""
        self.console.print(text, markup=False)

    def show(self, agenda: Agenda, running: Iterable[tuple[str, float, str, str]], workers: int) -> None:
        """Draw what is running: (stage, seconds, where, last line of its log) each."""
        now = time.monotonic()
        if now - self.last < (0.5 if self.console.is_terminal else 60):
            return
        self.last, running, left = now, list(running), agenda.left(workers)
        counts = (
            f"{len(agenda.done)} of {len(agenda.graph)} done, {len(running)} running, {len(agenda.failed)} failed, "
            f"{timedelta(seconds=int(now - self.started))} so far"
            + (f", {timedelta(seconds=int(left))} left" if left is not None else "")
        )
        if not self.console.is_terminal:
            self.say(f"{counts}: {', '.join(name for name, *_ in running)}")
            return
        rows = [f"{name:32} {timedelta(seconds=int(seconds))} {where} {line}" for name, seconds, where, line in running]
        room = max(1, self.console.size.height - 2)
        if len(rows) > room:
            rows[room - 1 :] = [f"and {len(rows) - room + 1} more"]
        lines = [Text(row, no_wrap=True, overflow="ellipsis") for row in (*rows, counts)]
        self.live.update(Group(*lines), refresh=True)

    def clear(self) -> None:
        """Remove the lines that are redrawn."""
        self.live.stop()
