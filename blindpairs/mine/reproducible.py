"""Computing that gives the same last bits on any number of threads.

A product or a sum that torch splits over its threads rounds differently with each number of them. The difference grows
where something is chosen by it (axes, clusters, ranks): 62 of the demo's 300 pairs by differences once depended on the
number of threads. So one thread computes each piece of work (blindpairs/cores.py). Pieces run side by side, and the
results come in the order of the pieces. What follows may use other threads for operations that compute each number
by itself, but not for products and sums.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import torch

from blindpairs.cores import Cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_turn(cores: Cores, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of `work` in the order of the items, of which at most one more than there are cores are in flight."""
    running: deque[Future[Result]] = deque()
    for item in items:
        running.append(cores.start(partial(work, item)))
        if len(running) > cores.count:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def on_cores(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of `work` in the order of the items, each computed by one thread."""
    with Cores(torch.device("cpu")) as cores:
        yield from in_turn(cores, work, items)


def in_blocks(work: Callable[[slice], Result], count: int, step: int) -> Iterator[Result]:
    """The results of `work` for blocks of `step` out of `count`, in their order, each computed by one thread."""
    return on_cores(work, [slice(start, min(start + step, count)) for start in range(0, count, step)])


def on_one_core(work: Callable[[], Result]) -> Result:
    """What `work` returns, computed by one thread."""
    (result,) = on_cores(lambda _: work(), [None])
    return result
