"""The machine's cores, one thread each.

A torch operation that spreads itself over all cores ends when the slowest is done: beside any other load, a join of
many small products waits most of its time. Here every thread computes alone, and a core that is taken away delays one
block and not every product.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch


Result = TypeVar("Result")


def usable_cores() -> int:
    """How many cores this process may use, which a container or a scheduler can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cores:
    """As many threads as torch may use, each of which computes on one core; a single one for a GPU.

    A context: at its end the work that has not begun is dropped, and the threads are gone.
    """

    def __init__(self, device: "torch.device") -> None:
        import torch  # late: who only counts cores does not load it

        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self.count)
        ours, barrier = torch.get_num_threads(), threading.Barrier(self.count)

        def alone() -> None:
            torch.get_num_threads()  # makes torch set this thread up now: later it would overrule the next line
            torch.set_num_threads(1)
            barrier.wait()  # holds the thread, so that each of the pool gets one of these

        for future in [self._pool.submit(alone) for _ in range(self.count)]:
            future.result()
        torch.set_num_threads(ours)  # what this thread and those begun later are to use

    def __enter__(self) -> "Cores":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, work: Callable[[], Result]) -> "Future[Result]":
        """Begin `work` on a core, without gradients."""
        return self._pool.submit(_without_gradients, work)

    def blocks(self, work: Callable[[slice], Result], count: int, step: int) -> list[Result]:
        """`work` for every block of `step` out of `count` rows, in order of the rows."""
        parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
        return [future.result() for future in [self.start(lambda part=part: work(part)) for part in parts]]  # type: ignore[misc]


def _without_gradients(work: Callable[[], Result]) -> Result:
    import torch

    with torch.no_grad():
        return work()
