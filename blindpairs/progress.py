"""How long work tells how far it is: one kind of callback, and the rate and time left that follow from its calls."""

import math
from typing import Protocol


class Progress(Protocol):
    """Called when work begins, and now and then until it ends. Whoever shows it decides how often."""

    def __call__(self, done: int, total: int, failed: int = 0, /) -> None:
        """Of `total` units, `done` are finished and `failed` are given up."""


def silent(done: int, total: int, failed: int = 0, /) -> None:
    """Progress that nobody watches."""


class Pace:
    """The rate and the time left, counted from the first report: the work before it was of another kind."""

    def __init__(self) -> None:
        self._first: tuple[float, int, int] | None = None

    def at(self, now: float, done: int, total: int, failed: int = 0) -> tuple[float, float]:
        """Units done per second, and the seconds left: infinite until something was done after the first report."""
        started, done_then, failed_then = self._first = self._first or (now, done, failed)
        seconds, treated = now - started, done - done_then + failed - failed_then
        if seconds <= 0 or treated <= 0:
            return 0.0, math.inf
        return (done - done_then) / seconds, (total - done - failed) * seconds / treated
