"""What mining runs on: the join that finds the pairs, and the memory budget. Exact joins all find the same pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import Hardware, Join, PairBlock, UnitRows, similar_pairs
from blindpairs.store.memory import MemoryBudget

EXACT = {"method": "exact", "exact": True}


class ExactJoin:
    """`similar_pairs` on one `hardware`, which it keeps: a GPU that failed once is not tried again.

    Without `hardware` each search takes every GPU of this machine, and pairs.json names no device.
    """

    def __init__(self, hardware: Hardware | None = None) -> None:
        self._hardware = hardware

    def __call__(
        self, rows: UnitRows, minimum: float, /, *, other: UnitRows | None = None, progress: Progress = silent
    ) -> Iterator[PairBlock]:
        """See `selfjoin.Join`."""
        return similar_pairs(rows, minimum, other=other, progress=progress, hardware=self._hardware)

    def describe(self) -> Mapping[str, Any]:
        """What pairs.json records of the join: method, devices, and the engines that ran."""
        if self._hardware is None:
            return EXACT
        return EXACT | {"device": self._hardware.describe(), "engine": self._hardware.engines()}


@dataclass(frozen=True)
class Running:
    """The join that finds the pairs, and how much memory vectors may take. Without a budget they are all in memory."""

    join: Join = ExactJoin()  # noqa: RUF009
    memory: MemoryBudget | None = None


LOCAL = Running()
