"""What long work reports while it runs: notices, and its progress, with the rate and the time left."""

import math
from collections.abc import Callable
from typing import Protocol

Notice = Callable[[str], None]  # gets a line for the user, such as that the CPU replaces a GPU


class Progress(Protocol):
    """Called when work begins, and often until it ends. The display decides how many of the calls it shows."""

    def __call__(self, done: int, total: int, failed: int = 0, /) -> None:
        """Of `total` units, `done` have succeeded and `failed` have failed."""


def silent(done: int, total: int, failed: int = 0, /) -> None:
    """Ignore the progress."""


def drop_notice(_: str) -> None:
    """Ignore a notice."""


class Pace:
    """The rate and the time left, measured from the first report: loading, before it, says nothing about the rate."""

    def __init__(self) -> None:
        self._first: tuple[float, int, int] | None = None

    def at(self, now: float, done: int, total: int, failed: int = 0) -> tuple[float, float]:
        """Units done per second, and the seconds left; infinite until a report after the first shows progress."""
        started, done_then, failed_then = self._first = self._first or (now, done, failed)
        # A resumed run begins with a first report of what is done already, which says nothing about today's rate.
        seconds, processed = now - started, done - done_then + failed - failed_then
        if seconds <= 0 or processed <= 0:
            return 0.0, math.inf
        # Failed units take time too, so they count for the time left, but not for the rate of results.
        return (done - done_then) / seconds, (total - done - failed) * seconds / processed
