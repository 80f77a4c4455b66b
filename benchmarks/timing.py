"""Ratios of two ways to do the same, timed in turn (A B A B ...), so that both meet the same machine."""

import time
from dataclasses import dataclass
from statistics import median

import torch


@dataclass
class Row:
    """One line of the table: `part` against `peer`; ratio > 1 is in our favour unless `below` is set (seconds)."""

    part: str
    peer: str
    value: float | None
    goal: float | None
    detail: str = ""
    unit: str = "x"  # x: a ratio, at least the goal; s: seconds, at most the goal

    @property
    def met(self):
        if self.value is None or self.goal is None:
            return None
        return self.value >= self.goal if self.unit == "x" else self.value <= self.goal


clock = time.perf_counter  # or time.process_time, with one thread on a machine that others use too


def seconds(function):
    start = clock()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def interleaved(rounds, **functions):
    """{name: its seconds in each round}, one after the other in every round; one untimed call of each before."""
    taken = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            once = seconds(function)
            if number:
                taken[name].append(once)
    return taken


def ratio(taken, ours, theirs, work=1.0):
    """Median over rounds of theirs / ours; `work`: how many times more of it ours did."""
    return median(b / a * work for a, b in zip(taken[ours], taken[theirs], strict=True))


def typical(taken, name):
    return median(taken[name])
