"""What a join works on, what it is cut into, and what it hands out."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from blindpairs.selfjoin.cells import Cells
from blindpairs.selfjoin.points import Points
from blindpairs.selfjoin.rows import UnitRows

CELLS_PER_TASK = 32


@dataclass(frozen=True)
class SortedRows:
    """The rows whose pairs of cosine >= `minimum` are sought, sorted into cells; `points` are in the cells' order."""

    rows: UnitRows
    other: UnitRows | None
    cells: Cells
    points: Points
    minimum: float


@dataclass(frozen=True)
class PairBlock:
    """Some of the pairs found: rows i < j, the cosine of each, and that in other vectors where asked for."""

    i: Tensor  # (n,) int64
    j: Tensor  # (n,) int64
    similarity: Tensor  # (n,) float64
    other: Tensor | None = None  # (n,) float64

    def __len__(self) -> int:
        return len(self.i)


@dataclass(frozen=True)
class Task:
    """Cells first_cell to last_cell against cells first_other to last_other, none of which stands before them.

    The first ones are of one group: numbers 32 n to 32 n + 31, or the last of these.
    """

    first_cell: int
    last_cell: int
    first_other: int
    last_other: int


class Engine(Protocol):
    """What does the tasks: `compiled.CompiledEngine`, or `plain.PlainEngine`."""

    def run(self, task: Task) -> tuple[list[PairBlock], Task | None]:
        """The pairs of a task, or those of its first cells and the task that remains when there are many."""
