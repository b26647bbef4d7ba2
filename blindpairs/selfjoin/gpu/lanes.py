"""Threads that do a join's launches, and hand out their blocks in order.

Whatever ends a lane ends the join: with its error, never with a wait for blocks that cannot come.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from blindpairs.selfjoin.rows import PairBlock

LOOK_SECONDS = 1.0  # how often somebody who waits for a lane looks whether it is still there


class Lane:
    """A thread that does launches in turn on its own stream, and waits while nobody takes its blocks."""

    def __init__(self, device: torch.device, work: Callable[[Tensor], Iterator[PairBlock]]) -> None:
        self._device, self._blocks = device, work
        self._launches: queue.Queue[Tensor | None] = queue.Queue()
        self._results: queue.Queue[PairBlock | BaseException | None] = queue.Queue(maxsize=4)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, launch: Tensor) -> None:
        """Give it one more launch to do."""
        self._launches.put(launch)

    def blocks(self) -> Iterator[PairBlock]:
        """The blocks of the first launch that was not yet asked for."""
        while (result := self._next()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result

    def end(self) -> None:
        """Drop what is left and wait until the thread is gone."""
        self._ended.set()
        self._launches.put(None)
        while self._thread.is_alive():
            try:
                self._results.get(timeout=0.01)
            except queue.Empty:
                continue

    def _next(self) -> PairBlock | BaseException | None:
        while True:
            alive = self._thread.is_alive()  # asked first: what a dead lane has said is all in the queue
            try:
                return self._results.get(timeout=LOOK_SECONDS if alive else 0)
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
        except BaseException as error:  # whatever it is, the caller's thread is to see it
            self._results.put(error)


def own_stream(device: torch.device) -> AbstractContextManager[object]:
    """A new stream of the device as the current one."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()
