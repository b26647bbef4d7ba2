"""The tasks of a join in torch alone: on any device and without a compiler. Tests compare compiled code with it.

skip    rows that cannot reach anything in the cell   (cells.py: one product per row and cell)
score   the other rows against the cell, K columns, row maximum   (points.py: one product per pair)
verify  the few pairs that passed, on the whole vectors   (rows.py)
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import product_error
from blindpairs.selfjoin.cells import SortedRows, Task, dense_pairs, onto_own_centres, skip_error
from blindpairs.selfjoin.rows import PairBlock, Scratch, confirmed, cosines, where
from blindpairs.selfjoin.tuning import JoinPlan

COLUMNS = 32  # with a number of columns that is no multiple, a product takes 4/3 and a row maximum 5 times as long
CHUNK_ROWS = 1024  # scores of one product: 1 MB; 512 rows take 1.2 times as long per pair, 8192 rows 1.4 times
DENSE_SHARE = 0.03  # where more pairs than this pass, one product over all D columns beats gathering them pair by pair


@dataclass(frozen=True)
class TorchEngine:
    """What all tasks share, read only."""

    join: SortedRows
    plan: JoinPlan
    left: Tensor  # (N, K) float32, in the order of the cells; see points.py
    right: Tensor  # (N + 31, K): behind the last row of all, nothing passes
    own: Tensor  # (N,) by place: the product of a row with the centre of its own cell
    reach: float
    skip_error: float
    scratch: Scratch
    name: str = "torch"

    @classmethod
    def of(cls, join: SortedRows, plan: JoinPlan, cores: Cores) -> "TorchEngine":
        """Lay the points out for products."""
        cells, points = join.cells, join.points
        count = len(points.values)
        left, right = points.left(0), points.right(torch.arange(count + COLUMNS - 1, device=points.values.device))
        own = onto_own_centres(points, cells, cores)
        error = skip_error(points, cells, product_error(points.columns))
        scratch = Scratch(join.rows.device)
        return cls(join, plan, left.float(), right.float(), own, points.reach, error, scratch)

    def run(self, task: Task) -> tuple[list[PairBlock], Task | None]:
        """See `cells.Engine`."""
        starts = self.join.cells.starts
        waiting: list[tuple[Tensor, Tensor]] = []
        blocks: list[PairBlock] = []
        held = 0
        for cell, places in zip(range(task.first_cell, task.last_cell), self._reachable(task), strict=True):
            if len(places) == 0:
                continue
            size = starts[cell + 1] - starts[cell]
            y, x = self._passed(places, starts[cell], size)
            if len(y) > DENSE_SHARE * len(places) * size:
                dense = dense_pairs(self.join, cell, places)
                blocks += dense
                held += sum(map(len, dense))
            else:
                waiting.append((y, x + starts[cell]))
                held += len(y)
            if held > self.plan.block_pairs and cell + 1 < task.last_cell:
                return blocks + self._sparse(waiting), replace(task, first_cell=cell + 1)
        return blocks + self._sparse(waiting), None

    def _reachable(self, task: Task) -> tuple[Tensor, ...]:
        """For each cell of the task, the places of the span that may reach into it."""
        cells = self.join.cells
        k = cells.centres.shape[1]
        others = slice(task.first_other, task.last_other)
        span = slice(cells.starts[others.start], cells.starts[others.stop])
        cell_of = cells.cell_of[span]
        centres = cells.centres[others]  # (B, k): of the cells that the span meets
        mine = cells.centres[task.first_cell : task.last_cell]  # (A, k)
        starts = cells.starts[task.first_cell : task.last_cell + 1]
        inside = slice(starts[0], starts[-1])
        ahead = self.left[inside, :k] @ centres.T - self.own[inside, None]  # (rows of the A cells, B): x.(b - a)
        sizes = [stop - start for start, stop in pairwise(starts)]
        most = torch.stack([part.amax(0) for part in ahead.split(sizes)])  # (A, B)
        most += _distances(mine, centres) * self.reach + self.skip_error
        shape = (len(mine), len(cell_of))
        products = torch.mm(mine, self.left[span, :k].T, out=self.scratch.take("products", *shape))
        products += torch.index_select(most, 1, cell_of - others.start, out=self.scratch.take("most", *shape))
        meets = torch.ge(products, self.own[span], out=self.scratch.take("meets", *shape, dtype=torch.bool))
        return tuple(where(row) + span.start for row in meets)

    def _passed(self, places: Tensor, first: int, size: int) -> tuple[Tensor, Tensor]:
        """Pairs that the bound cannot reject, of rows at `places` and `size` from `first` on: (place, index)."""
        columns = -(-size // COLUMNS) * COLUMNS
        take = self.scratch.take
        left = torch.index_select(self.left, 0, places, out=take("left", len(places), self.left.shape[1]))
        right = self.right[first : first + columns].T
        best, scores = take("best", len(places)), take("scores", CHUNK_ROWS, columns)
        for start in range(0, len(places), CHUNK_ROWS):
            part = left[start : start + CHUNK_ROWS]
            torch.mm(part, right, out=scores[: len(part)])  # (rows, columns)
            # A maximum reads the scores while they are in the cache, and writes next to nothing; a mask of all pairs
            # costs as much as the product.
            torch.amax(scores[: len(part)], 1, out=best[start : start + CHUNK_ROWS])
        hit = where(best >= 0)
        again = left[hit] @ right[:, :size]  # one row in fifty or fewer: cheaper than to have kept the scores
        row, column = (again >= 0).nonzero(as_tuple=True)
        return places[hit[row]], column

    def _sparse(self, waiting: list[tuple[Tensor, Tensor]]) -> list[PairBlock]:
        if not waiting:
            return []
        y, x = torch.cat([y for y, _ in waiting]), torch.cat([x for _, x in waiting])
        later = y > x  # within a cell every pair is met twice, and every row meets itself
        join, order = self.join, self.join.cells.order
        a, b = order[y[later]], order[x[later]]
        i, j = torch.minimum(a, b), torch.maximum(a, b)
        i, j, similarity = confirmed(join.rows, i, j, join.minimum, self.scratch)
        other = cosines(join.other, i, j, self.scratch) if join.other is not None else None
        return [PairBlock(i, j, similarity, other)]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # The default of cdist cancels: it may call two near points equal, and the bound must not.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
