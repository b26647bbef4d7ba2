"""What mining runs on: the join that finds the pairs, and the memory for large arrays. The options are elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from blindpairs.mine.memory import Room
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import Hardware, Join, PairBlock, UnitRows, similar_pairs

EXACT = {"method": "exact", "exact": True}


class ExactJoin:
    """`similar_pairs` on one `hardware`, which it keeps: a GPU that failed once is not tried again."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    def __call__(
        self, rows: UnitRows, minimum: float, /, *, other: UnitRows | None = None, progress: Progress = silent
    ) -> Iterator[PairBlock]:
        """See `selfjoin.Join`."""
        return similar_pairs(rows, minimum, other=other, progress=progress, hardware=self._hardware)

    def describe(self) -> Mapping[str, Any]:
        """What pairs.json records of the join: method, devices, and the engines that ran."""
        return EXACT | {"device": self._hardware.describe(), "engine": self._hardware.engines()}


@dataclass(frozen=True)
class Running:
    """`join` finds the pairs. `describe` tells afterwards how: `method`, and whether it is `exact`.

    `room` limits the memory of the vectors; without it they are all in memory.
    """

    join: Join = similar_pairs
    describe: Callable[[], Mapping[str, Any]] = field(default=lambda: EXACT)
    room: Room | None = None


LOCAL = Running()
