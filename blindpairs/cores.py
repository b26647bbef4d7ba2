"""The machine's cores, one thread each.

A torch operation that uses all cores ends when the slowest core is done. If anything else runs on the machine, a join
of many small products waits most of its time. Here each thread computes a block on one core, so a core that is busy
otherwise delays one block and not every product.
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

    A context manager: its exit drops the work that has not begun, and ends the threads.
    """

    def __init__(self, device: "torch.device") -> None:
        import torch  # here, so that counting cores does not load it

        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self.count)
        caller_threads, barrier = torch.get_num_threads(), threading.Barrier(self.count)

        def alone() -> None:
            torch.get_num_threads()  # torch initialises the thread now: later, that would undo the next line
            torch.set_num_threads(1)
            barrier.wait()  # keeps this thread busy until every thread of the pool has run this function

        for future in [self._pool.submit(alone) for _ in range(self.count)]:
            future.result()
        torch.set_num_threads(caller_threads)  # for this thread and for threads that start later

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
