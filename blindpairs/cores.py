"""The machine's cores, with one computing thread each.

A torch operation that is spread over all cores ends when the slowest core is done. If another program is also running,
many small products then spend most of their time waiting. Here each thread computes on its own core, so that a core
that another program takes delays one block and not every product.
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
    """How many cores this process may use. A scheduler or a container can allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cores:
    """As many threads as torch may use, each of which computes on one core; for a GPU, a single thread.

    A context manager: at its end, work that has not started is dropped, and the threads end.
    """

    def __init__(self, device: "torch.device") -> None:
        import torch  # not at the top: `usable_cores` must stay cheap to import

        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self.count)
        threads_before, barrier = torch.get_num_threads(), threading.Barrier(self.count)

        def use_one_core() -> None:
            torch.get_num_threads()  # lets torch set this thread up now: later, that would undo the next line
            torch.set_num_threads(1)
            barrier.wait()  # keeps the thread busy, so that each thread of the pool runs this once

        for future in [self._pool.submit(use_one_core) for _ in range(self.count)]:
            future.result()
        # `set_num_threads` also changed the number for threads that start later: this thread's is put back.
        torch.set_num_threads(threads_before)

    def __enter__(self) -> "Cores":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, work: Callable[[], Result]) -> "Future[Result]":
        """Start `work` on a core, without gradients."""
        return self._pool.submit(_without_gradients, work)

    def blocks(self, work: Callable[[slice], Result], count: int, step: int) -> list[Result]:
        """The results of `work` for blocks of `step` rows out of `count`, in the order of the rows."""
        parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
        return [future.result() for future in [self.start(lambda part=part: work(part)) for part in parts]]  # type: ignore[misc]


def _without_gradients(work: Callable[[], Result]) -> Result:
    import torch

    # Whether gradients are recorded is a setting of each thread: the caller's has no effect here.
    with torch.no_grad():
        return work()
