"""What mining runs on: the join that finds the pairs, and where large arrays lie. None of it changes what is sought."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from blindpairs.mine.memory import Room
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import Hardware, JoinPlan, PairBlock, UnitRows, similar_pairs

EXACT = {"method": "exact", "exact": True}


class Join(Protocol):
    """`selfjoin.similar_pairs`, or something that can stand for it."""

    def __call__(
        self,
        rows: UnitRows,
        minimum: float,
        /,
        *,
        other: UnitRows | None = None,
        plan: JoinPlan | None = None,
        progress: Progress = silent,
    ) -> Iterator[PairBlock]:
        """Pairs of rows i < j with cosine >= `minimum`, each once, and their cosine in `other`."""


class ExactJoin:
    """`similar_pairs` on some hardware, which it remembers: a GPU that failed once is not asked again."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    def __call__(
        self,
        rows: UnitRows,
        minimum: float,
        /,
        *,
        other: UnitRows | None = None,
        plan: JoinPlan | None = None,
        progress: Progress = silent,
    ) -> Iterator[PairBlock]:
        """The pairs of `similar_pairs`."""
        return similar_pairs(rows, minimum, other=other, plan=plan, progress=progress, hardware=self._hardware)

    def describe(self) -> Mapping[str, Any]:
        """What pairs.json says of it."""
        return EXACT | {"device": self._hardware.describe()}


@dataclass(frozen=True)
class Running:
    """`join` finds the pairs, and `describe` says afterwards how: `method`, and whether that is `exact`.

    `room` bounds what vectors may take; without it they are all in memory.
    """

    join: Join = similar_pairs
    describe: Callable[[], Mapping[str, Any]] = field(default=lambda: EXACT)
    room: Room | None = None


LOCAL = Running()
