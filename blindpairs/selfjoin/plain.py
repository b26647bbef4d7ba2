"""The tasks of a join in torch: on any device, and without a C compiler. Tests compare compiled code with it.

skip     the rows that cannot reach a row of the cell: one product for each row and cell (cells.py)
compare  the other rows with those of the cell: a product over K columns for each pair (bound.py)
decide   the few pairs that passed, on the whole vectors (rows.py)
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import product_error
from blindpairs.selfjoin.cells import SortedRows, Task, dense_pairs, own_centre_products, skip_error
from blindpairs.selfjoin.rows import PairBlock, Scratch, block_of, where
from blindpairs.selfjoin.tuning import JoinPlan

# The columns of a product are a multiple of this: with another number the product takes 4/3 as long, and a row maximum
# five times as long.
COLUMNS = 32
CHUNK_ROWS = 1024  # of one product, whose scores take 1 MB; a pair takes 1.2 times as long with 512, 1.4 with 8192
DENSE_SHARE = 0.03  # if a larger share of pairs passes, one product over all D columns is faster than gathering each


@dataclass(frozen=True)
class TorchEngine:
    """What all tasks share, read only."""

    join: SortedRows
    plan: JoinPlan
    left: Tensor  # (N, K) float32, in the order of the cells; see bound.py
    right: Tensor  # (N + 31, K): the last 31 never pass, so that 32 columns can be read from any place
    own_products: Tensor  # (N,) by place: the product of a row with the centre of its own cell
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
        own_products = own_centre_products(points, cells, cores)
        error = skip_error(points, cells, product_error(points.columns))
        scratch = Scratch(join.rows.device)
        return cls(join, plan, left.float(), right.float(), own_products, points.reach, error, scratch)

    def run(self, task: Task) -> tuple[list[PairBlock], Task | None]:
        """See `cells.Engine`."""
        starts = self.join.cells.starts
        waiting: list[tuple[Tensor, Tensor]] = []
        blocks: list[PairBlock] = []
        held = 0  # pairs in `waiting` and `blocks`
        for cell, places in zip(range(task.first_cell, task.last_cell), self._reachable(task), strict=True):
            if len(places) == 0:
                continue
            size = starts[cell + 1] - starts[cell]
            y, x = self._passed(places, starts[cell], size)  # places, and indices within the cell
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
        centres = cells.centres[others]  # (B, k): the cells of the span
        mine = cells.centres[task.first_cell : task.last_cell]  # (A, k): the cells of the task
        starts = cells.starts[task.first_cell : task.last_cell + 1]
        inside = slice(starts[0], starts[-1])
        # x.(b - a) of every row x of the A cells and every centre b, then its maximum over each cell.
        projections = self.left[inside, :k] @ centres.T - self.own_products[inside, None]  # (rows, B)
        sizes = [stop - start for start, stop in pairwise(starts)]
        slack = torch.stack([part.amax(0) for part in projections.split(sizes)])  # (A, B)
        slack += _distances(mine, centres) * self.reach + self.skip_error
        # y reaches cell A if y.a + slack >= y.b, b the centre of its own cell.
        shape = (len(mine), len(cell_of))  # (A, places of the span)
        products = torch.mm(mine, self.left[span, :k].T, out=self.scratch.take("products", *shape))
        products += torch.index_select(slack, 1, cell_of - others.start, out=self.scratch.take("slack", *shape))
        reaches = torch.ge(
            products, self.own_products[span], out=self.scratch.take("reaches", *shape, dtype=torch.bool)
        )
        return tuple(where(row) + span.start for row in reaches)

    def _passed(self, places: Tensor, first: int, size: int) -> tuple[Tensor, Tensor]:
        """The pairs that the bound cannot reject, of the rows at `places` with the `size` rows from place `first` on.

        Two int64 vectors: the place of the one, and the index of the other from `first` on.
        """
        columns = -(-size // COLUMNS) * COLUMNS
        take = self.scratch.take
        left = torch.index_select(self.left, 0, places, out=take("left", len(places), self.left.shape[1]))
        right = self.right[first : first + columns].T
        best, scores = take("best", len(places)), take("scores", CHUNK_ROWS, columns)
        for start in range(0, len(places), CHUNK_ROWS):
            part = left[start : start + CHUNK_ROWS]
            torch.mm(part, right, out=scores[: len(part)])  # (rows, columns)
            # A maximum reads the scores while they are in the cache and writes one number a row. A mask of all pairs
            # would take as long as the product.
            torch.amax(scores[: len(part)], 1, out=best[start : start + CHUNK_ROWS])
        hit = where(best >= 0)
        again = left[hit] @ right[:, :size]  # of one row in fifty or fewer, which is faster than keeping all scores
        row, column = (again >= 0).nonzero(as_tuple=True)
        return places[hit[row]], column

    def _sparse(self, waiting: list[tuple[Tensor, Tensor]]) -> list[PairBlock]:
        if not waiting:
            return []
        y, x = torch.cat([y for y, _ in waiting]), torch.cat([x for _, x in waiting])
        later = y > x  # within a cell every pair occurs twice, and every row with itself
        join, order = self.join, self.join.cells.order
        pairs = order[y[later]], order[x[later]]
        return [block_of(join.rows, join.other, pairs, join.minimum, self.scratch)]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # The default of cdist subtracts squares that cancel: two near points may get the distance 0, and a row be lost.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
