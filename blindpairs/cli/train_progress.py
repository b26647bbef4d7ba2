"""The progress of a training run: steps, loss, tokens a second, and the share of what the device can do."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from blindpairs.cli.app import say
from blindpairs.progress import Progress

if TYPE_CHECKING:
    from blindpairs.mof.training import Watching

LINE_EVERY = 10.0  # seconds, in a log


@contextmanager
def training_display() -> Iterator["Watching"]:
    """Bars on a terminal, a line every ten seconds in a log."""
    from blindpairs.mof.training import Watching

    if sys.stderr is not None and sys.stderr.isatty():
        with _bars() as (bars, rows):
            yield Watching(bars, say, rows)
    else:
        lines = _Lines()
        yield Watching(lines.bars, say, lines.row)


def figures(row: Mapping[str, Any]) -> str:
    """`loss 0.412, 12,300 tokens/s, 31% of the device`."""
    speed = f"{row['tokens_per_second']:,.0f} tokens/s, {row['flops_utilisation']:.0%} of the device"
    return f"loss {row['loss']:.3f}, {speed}"


class _Lines:
    """Lines of a log."""

    def __init__(self) -> None:
        self._printed, self._row = time.monotonic(), ""

    def bars(self, label: str, unit: str) -> Progress:
        """Show a part of the work."""

        def show(done: int, total: int, failed: int = 0, /) -> None:
            """Print a line, if the last one is old enough."""
            if time.monotonic() - self._printed >= LINE_EVERY:
                self._printed = time.monotonic()
                say(
                    f"{label}: {done:,} of {total:,} {unit}"
                    + (f", {self._row}" if unit == "steps" and self._row else "")
                )

        return show

    def row(self, row: Mapping[str, Any]) -> None:
        """Keep the newest figures for the next line."""
        self._row = figures(row)


@contextmanager
def _bars() -> Iterator[tuple[Callable[[str, str], Progress], Callable[[Mapping[str, Any]], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}, left"),
        TimeRemainingColumn(),
    )
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        tasks = []

        def bars(label: str, unit: str) -> Progress:
            """Show a part of the work, from its first report on."""
            task = display.add_task(label, total=None, visible=False, figures=unit)
            tasks.append(task)

            def show(done: int, total: int, failed: int = 0, /) -> None:
                """Move the bar."""
                display.update(task, visible=True, completed=done + failed, total=total)

            return show

        def row(newest: Mapping[str, Any]) -> None:
            """Put the newest figures beside the bar that was begun last: that of the steps."""
            display.update(tasks[-1], figures=figures(newest))

        yield bars, row
