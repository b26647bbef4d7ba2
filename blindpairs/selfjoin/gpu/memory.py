"""What a join on a GPU does when the GPU's memory runs out: smaller steps, and in the end the same tiles on the CPU.

Promise: a step that ran out of memory has handed out nothing, and exactly that step is done again, so no pair comes
twice and none is lost.
"""

import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from blindpairs.progress import Notice
from blindpairs.selfjoin.gpu.points import DevicePoints, DeviceRows
from blindpairs.selfjoin.rows import PairBlock, UnitRows, block_of

SHRINK_FACTOR = 8  # each time that memory runs out
HOST_COLUMNS = 8192  # of one product on the CPU

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU has too little memory. Torch has a class for it; drivers and Triton only have the words."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def unless_out_of_memory(work: Callable[[], Result]) -> Result | None:
    """The result of `work`, or None if the GPU's memory ran out; what `work` had allocated is then free again."""
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the except clause: there the traceback still holds the tensors of `work`, and nothing could be freed.
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return None


class Steps:
    """The step sizes of all workers of one device, which only become smaller.

    `capacity` is the most row segments that a launch may report, `segments` how many of them are decided at once.
    """

    def __init__(self, device: str, capacity: int, segments: int, min_capacity: int, notice: Notice) -> None:
        self.capacity, self.segments = max(capacity, min_capacity), max(1, segments)
        self.exhausted = False  # not even the smallest step fits
        self._device, self._min_capacity, self._notice = device, min_capacity, notice
        self._lock = threading.Lock()

    def shrink(self, capacity: int, segments: int) -> None:
        """Make the steps smaller, because one of these sizes did not fit."""
        with self._lock:
            if self.exhausted or capacity > self.capacity or segments > self.segments:
                return  # another worker has shrunk the steps since that one began
            if capacity <= self._min_capacity and segments <= 1:
                self.exhausted = True
                self._notice(f"{self._device} has no memory left for the smallest step: the CPU does the rest")
                return
            self.capacity = max(self._min_capacity, capacity // SHRINK_FACTOR)
            self.segments = max(1, segments // SHRINK_FACTOR)
            self._notice(f"{self._device} ran out of memory: it goes on in steps of {self.capacity:,} row segments")


class HostTiles:
    """Tiles of the pair matrix computed by the CPU, from host copies of the GPU's points made at the first use."""

    def __init__(self, points: DevicePoints, rows: DeviceRows, other: DeviceRows | None, minimum: float) -> None:
        self._device_points, self._minimum = points, minimum
        self._device_rows, self._device_other = rows, other

    def pairs(self, first_row: int, rows: int, first_column: int, columns: int) -> Iterator[PairBlock]:
        """The pairs of `rows` places from `first_row` on with `columns` places from `first_column` on.

        As from the kernels, only those with column > row.
        """
        packed, order = self._points
        left, right = packed.chunk(2, 1)  # (N padded, K) each: every point as the row and as the column of a pair
        unit_rows, other = self._rows
        y = left[first_row : first_row + rows].double()  # (rows, K)
        for start in range(first_column, first_column + columns, HOST_COLUMNS):
            stop = min(start + HOST_COLUMNS, first_column + columns)
            # float64: no setting of torch lowers its precision, so the bound's allowance for the product holds
            score = y @ right[start:stop].double().T  # (rows, stop - start)
            row, column = (score >= 0).nonzero(as_tuple=True)
            row, column = row + first_row, column + start  # places
            later = column > row
            yield block_of(unit_rows, other, (order[row[later]], order[column[later]]), self._minimum)

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor]:
        return self._device_points.packed.cpu(), self._device_points.order.cpu()

    @cached_property
    def _rows(self) -> tuple[UnitRows, UnitRows | None]:
        return self._device_rows.on_host(), self._device_other.on_host() if self._device_other is not None else None
