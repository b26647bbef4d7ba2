"""Threads that run the launches of a join, each on its own CUDA stream, and return their blocks in order.

Promise: an error in a worker ends the join with that error, and the join never waits for a worker that has ended.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from blindpairs.selfjoin.rows import PairBlock

POLL_SECONDS = 1.0  # how often a reader checks that the worker is alive


class StreamWorker:
    """A thread that runs launches in turn on its own stream, and waits while its queue of blocks is full."""

    def __init__(self, device: torch.device, work: Callable[[Tensor], Iterator[PairBlock]]) -> None:
        self._device, self._blocks = device, work
        self._launches: queue.Queue[Tensor | None] = queue.Queue()
        # The blocks of a launch and then None, for one launch after another.
        self._results: queue.Queue[PairBlock | BaseException | None] = queue.Queue(maxsize=4)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, launch: Tensor) -> None:
        """Queue one more launch."""
        self._launches.put(launch)

    def blocks(self) -> Iterator[PairBlock]:
        """The blocks of the next launch, in the order in which launches were submitted."""
        while (result := self._next()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result

    def close(self) -> None:
        """Drop the remaining launches and blocks, and join the thread."""
        self._ended.set()
        self._launches.put(None)  # wakes a thread that waits for a launch
        # A thread that waits for room in the full queue of results ends only once somebody takes from it.
        while self._thread.is_alive():
            try:
                self._results.get(timeout=0.01)
            except queue.Empty:
                continue

    def _next(self) -> PairBlock | BaseException | None:
        while True:
            alive = self._thread.is_alive()  # asked before the queue: an ended thread has put all its results
            try:
                return self._results.get(timeout=POLL_SECONDS if alive else 0)
            except queue.Empty:
                if not alive:
                    return RuntimeError("a thread of the join ended without a result and without an error")

    def _work(self) -> None:
        try:
            with own_stream(self._device), torch.no_grad():
                while not self._ended.is_set() and (launch := self._launches.get()) is not None:
                    for block in self._blocks(launch):
                        self._results.put(block)
                        if self._ended.is_set():
                            return
                    self._results.put(None)
        except BaseException as error:  # raised again in the caller's thread
            self._results.put(error)


def own_stream(device: torch.device) -> AbstractContextManager[object]:
    """A new stream of the device as the current one."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()
