"""What is running, how much is done and how long the rest will take."""

import shutil
import sys
import time


def clock(seconds):
    """Seconds as h:mm:ss or mm:ss."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"


class Display:
    """On a terminal a line for each running stage, redrawn; elsewhere a line of counts every minute."""

    def __init__(self, stream=sys.stderr):
        self.stream, self.live, self.drawn = stream, stream.isatty(), 0
        self.started = self.last = time.monotonic()

    def say(self, text):
        """A line that stays."""
        self.stream.write(("\r\x1b[J" if self.live and not self.drawn else self._up()) + text + "\n")
        self.stream.flush()

    def _up(self):
        lines, self.drawn = self.drawn, 0
        return f"\x1b[{lines}F\x1b[J" if lines else ""

    def show(self, agenda, running, workers):
        """Draw what is running: (stage, seconds, where, last line) each."""
        now = time.monotonic()
        if now - self.last < (0.5 if self.live else 60):
            return
        self.last, running, left = now, list(running), agenda.left(workers)
        counts = (
            f"{len(agenda.done)} of {len(agenda.graph)} done, {len(running)} running, {len(agenda.failed)} failed, "
            f"{clock(now - self.started)} so far" + (f", {clock(left)} left" if left is not None else "")
        )
        if not self.live:
            self.say(f"{counts}: {', '.join(name for name, *_ in running)}")
            return
        size = shutil.get_terminal_size()
        rows = [f"{name:32} {clock(seconds)} {where} {line}" for name, seconds, where, line in running]
        if len(rows) > size.lines - 2:
            rows[size.lines - 3 :] = [f"and {len(rows) - size.lines + 3} more"]
        rows = [row[: size.columns - 1] for row in (*rows, counts)]
        self.stream.write(self._up() + "\n".join(rows) + "\n")
        self.stream.flush()
        self.drawn = len(rows)

    def clear(self):
        self.stream.write(self._up())
        self.stream.flush()
