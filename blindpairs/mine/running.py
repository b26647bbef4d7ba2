"""What mining runs on: the join that finds the pairs, and the memory budget. Exact joins all find the same pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import Hardware, PairBlock, UnitRows, similar_pairs
from blindpairs.store.memory import MemoryBudget

EXACT = {"method": "exact", "exact": True}


class Join(Protocol):
    """What finds the pairs: `ExactJoin`, `executors.joining.RayJoin` or `index.approximate.ApproximateJoin`."""

    def __call__(
        self,
        rows: UnitRows,
        minimum: float,
        /,
        *,
        other: UnitRows | None = None,
        progress: Progress = silent,
    ) -> Iterator[PairBlock]:
        """Pairs of rows i < j with cosine >= `minimum`, each once, and their cosine in `other`."""

    def describe(self) -> Mapping[str, Any]:
        """What pairs.json says of the join afterwards: at least `method`, and whether it is `exact`."""


class ExactJoin:
    """`similar_pairs` on `hardware`, which remembers that a GPU failed and does not ask it again.

    Without `hardware` each search takes every GPU of this machine, and pairs.json does not name a device.
    """

    def __init__(self, hardware: Hardware | None = None) -> None:
        self._hardware = hardware

    def __call__(
        self,
        rows: UnitRows,
        minimum: float,
        /,
        *,
        other: UnitRows | None = None,
        progress: Progress = silent,
    ) -> Iterator[PairBlock]:
        """The pairs of `similar_pairs`."""
        return similar_pairs(rows, minimum, other=other, progress=progress, hardware=self._hardware)

    def describe(self) -> Mapping[str, Any]:
        """What pairs.json says of the join."""
        return EXACT | ({"device": self._hardware.describe()} if self._hardware else {})


@dataclass(frozen=True)
class Running:
    """The join that finds the pairs, and how much memory vectors may take. Without a budget they are all in memory."""

    join: Join = ExactJoin()  # noqa: RUF009
    memory: MemoryBudget | None = None


LOCAL = Running()
