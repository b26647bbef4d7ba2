"""All pairs of rows above a cosine, exactly.

The work is cut into tasks, each some neighbouring cells against one span of rows (`JoinPlan.span_rows`):
    skip    rows that cannot reach anything in the cell   (cells.py: one product per row and cell)
    score   the other rows against the cell, k + 1 columns, row maximum   (bound.py: one product per pair)
    verify  the few pairs above the threshold, on the whole vectors   (verify.py)
"""

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.errors import ConfigError
from blindpairs.selfjoin.bound import Coordinates, coordinates, principal_axes, product_error
from blindpairs.selfjoin.cells import Cells, partition
from blindpairs.selfjoin.plan import SAMPLE_ROWS, JoinPlan, cheapest_dimensions
from blindpairs.selfjoin.rows import BLOCK_ROWS, UnitRows
from blindpairs.selfjoin.scratch import Scratch, where
from blindpairs.selfjoin.verify import confirmed, cosines, products

CELLS_PER_TASK = 16
COLUMNS = 32  # with a number of columns that is no multiple, a product takes 4/3 and a row maximum 5 times as long
CHUNK_ROWS = 1024  # scores of one product: 1 MB; 512 rows take 1.2 times as long per pair, 8192 rows 1.4 times
FILL = 0.6  # cells of k-means differ in size: aim below the limit, so that few are cut
DENSE_SHARE = 0.03  # where more pairs than this pass, one product over all D columns beats gathering them pair by pair


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
    """Cells first_cell to last_cell against the places first_place to last_place at or behind each of them."""

    first_cell: int
    last_cell: int
    first_place: int
    last_place: int


@dataclass(frozen=True)
class Prepared:
    """Everything that the tasks share, read only."""

    rows: UnitRows
    other: UnitRows | None
    cells: Cells
    points: Coordinates  # in the order of the cells
    thresholds: Tensor  # (N,) by place
    own: Tensor  # (N,) by place: the product of a row with the centre of its own cell
    skip_error: float
    minimum: float
    plan: JoinPlan
    scratch: Scratch


def similar_pairs(
    vectors: Tensor | UnitRows,
    minimum: float,
    *,
    other: UnitRows | None = None,
    plan: JoinPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[PairBlock]:
    """Every pair of rows of `vectors` (N, D) float16 or float32 with cosine >= `minimum`, each once, in blocks.

    Decided as float64 arithmetic on the rows normalised in float32 decides it (`rows.UnitRows`). Memory: the given
    vectors, k + 4 floats a row, and some tens of MB per thread, however many pairs there are; nothing of size N x N.
    With `other`, vectors of the same N, each pair found is also given its cosine there.
    The blocks and their order do not depend on the number of threads. `progress(done, total)` counts tasks.
    On a GPU with Triton the fused kernel does it (`gpu.py`), unless a plan asks for this path, which is its oracle.
    Raises InputError for a row without direction, ConfigError for a `minimum` that is no cosine.
    """
    if not -1.0 <= minimum <= 1.0:
        raise ConfigError(f"a cosine lies between -1 and 1; {minimum:g} does not")
    rows = vectors if isinstance(vectors, UnitRows) else UnitRows(vectors)
    if rows.count < 2:
        return
    if plan is None and torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
        from blindpairs.selfjoin.gpu import similar_pairs_cuda  # late: it imports this module

        yield from similar_pairs_cuda(rows, minimum, other=other, progress=progress)
        return
    with Cores(rows.device) as cores:
        prepared = prepare(rows, minimum, cores, plan=plan, other=other)
        tasks = deque(tasks_of(prepared))
        done, total = 0, len(tasks)
        for blocks, finished in in_order(prepared, tasks, cores):
            yield from blocks
            done += finished
            if progress is not None and finished:
                progress(done, total)


def prepare(
    rows: UnitRows, minimum: float, cores: Cores, *, plan: JoinPlan | None = None, other: UnitRows | None = None
) -> Prepared:
    """Rotate, choose k where no plan says it, and sort the rows into cells."""
    sample = rows.sample(SAMPLE_ROWS, seed=plan.seed if plan else 0)
    axes = cores.start(lambda: principal_axes(sample)).result()
    if plan is None:
        plan = JoinPlan(dimensions=cheapest_dimensions(sample, axes, minimum, cores))
    axes = axes[:, : plan.dimensions]
    k = axes.shape[1]
    points = coordinates(rows, axes, minimum, cores)
    count = round(rows.count / (plan.cell_rows * FILL))
    cells = partition(points.values[:, :k], count, plan.cell_rows, plan.seed, cores)
    points = points.reordered(cells.order)
    own = torch.empty_like(points.half_norms)

    def onto_own_centre(part: slice) -> None:
        own[part] = (points.values[part, :k] * cells.centres[cells.cell_of[part]]).sum(1)

    cores.blocks(onto_own_centre, rows.count, BLOCK_ROWS)
    radius = (2 * float(points.half_norms.max())) ** 0.5
    # Four products of k terms and their sums, each term at most |y| |b|; centres are averages of coordinates.
    skip_error = 8 * product_error(k + 4) * radius * max(radius, float(cells.centres.norm(dim=1).max()))
    shared = (points, points.thresholds, own, skip_error + 1e-12, minimum, plan, Scratch(rows.device))
    return Prepared(rows, other, cells, *shared)


def tasks_of(prepared: Prepared) -> Iterator[Task]:
    """All the work of a join, in an order that depends on the data and the plan alone."""
    starts, count = prepared.cells.starts, prepared.rows.count
    span = prepared.plan.span_rows
    for first in range(0, len(prepared.cells), CELLS_PER_TASK):
        last = min(first + CELLS_PER_TASK, len(prepared.cells))
        for place in range(starts[first], count, span):
            yield Task(first, last, place, min(place + span, count))


def in_order(prepared: Prepared, tasks: deque[Task], cores: Cores) -> Iterator[tuple[list[PairBlock], bool]]:
    """The results of the tasks in their order, a few being under way; False with those of an unfinished task."""
    running: deque[Future[tuple[list[PairBlock], Task | None]]] = deque()
    while tasks or running:
        while tasks and len(running) < cores.count + 2:
            running.append(cores.start(partial(_run, prepared, tasks.popleft())))
        blocks, rest = running.popleft().result()
        yield blocks, rest is None
        if rest is not None:
            running.appendleft(cores.start(partial(_run, prepared, rest)))


def _run(prepared: Prepared, task: Task) -> tuple[list[PairBlock], Task | None]:
    """The pairs of one task, or those of its first cells and the task that remains when there are many."""
    starts = prepared.cells.starts
    first = starts[task.first_cell]
    inside = _folded(prepared, first, starts[task.last_cell])
    waiting: list[tuple[Tensor, Tensor]] = []
    blocks: list[PairBlock] = []
    held = 0
    for cell, places in zip(range(task.first_cell, task.last_cell), _reachable(prepared, task), strict=True):
        if len(places) == 0:
            continue
        size = starts[cell + 1] - starts[cell]
        y, x = _above_threshold(prepared, places, inside[starts[cell] - first :], size)
        if len(y) > DENSE_SHARE * len(places) * size:
            blocks.append(_dense(prepared, cell, places))
            held += len(blocks[-1])
        else:
            waiting.append((y, x + starts[cell]))
            held += len(y)
        if held > prepared.plan.block_pairs and cell + 1 < task.last_cell:
            return blocks + _sparse(prepared, waiting), replace(task, first_cell=cell + 1)
    return blocks + _sparse(prepared, waiting), None


def _reachable(prepared: Prepared, task: Task) -> tuple[Tensor, ...]:
    """For each cell of the task, the places of the span that may reach into it."""
    cells, values, k = prepared.cells, prepared.points.values, prepared.cells.centres.shape[1]
    span = slice(task.first_place, task.last_place)
    cell_of = cells.cell_of[span]
    others = slice(int(cell_of[0]), int(cell_of[-1]) + 1)
    centres = cells.centres[others]  # (B, k): of the cells that the span meets
    mine = cells.centres[task.first_cell : task.last_cell]  # (A, k)
    starts = cells.starts[task.first_cell : task.last_cell + 1]
    inside = slice(starts[0], starts[-1])
    ahead = values[inside, :k] @ centres.T - prepared.own[inside, None]  # (rows of the A cells, B): x.(b - a)
    sizes = [stop - start for start, stop in pairwise(starts)]
    most = torch.stack([part.amax(0) for part in ahead.split(sizes)])  # (A, B)
    most += _distances(mine, centres) * (prepared.points.reach * (1 + 1e-5)) + prepared.skip_error
    shape = (len(mine), len(cell_of))
    products = torch.mm(mine, values[span, :k].T, out=prepared.scratch.take("products", *shape))
    products += torch.index_select(most, 1, cell_of - others.start, out=prepared.scratch.take("most", *shape))
    meets = torch.ge(products, prepared.own[span], out=prepared.scratch.take("meets", *shape, dtype=torch.bool))
    return tuple(where(row) + task.first_place for row in meets)


def _folded(prepared: Prepared, start: int, stop: int) -> Tensor:
    """The rows at these places as the right side of a score, [x, -|x|^2/2], and some behind: (rows + 31, k + 1)."""
    points, end = prepared.points, min(stop + COLUMNS - 1, prepared.rows.count)
    folded = points.values.new_zeros(stop - start + COLUMNS - 1, points.values.shape[1])
    folded[: end - start] = points.values[start:end]
    folded[:, -1] = -torch.inf  # behind the last row of all, nothing scores
    folded[: end - start, -1] = -points.half_norms[start:end]
    return folded


def _above_threshold(prepared: Prepared, places: Tensor, inside: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pairs that the bound cannot reject, of rows at `places` and the first `size` of `inside`: (place, index)."""
    columns = -(-size // COLUMNS) * COLUMNS
    values, take = prepared.points.values, prepared.scratch.take
    left = torch.index_select(values, 0, places, out=take("left", len(places), values.shape[1]))
    right = inside[:columns].T
    best, scores = take("best", len(places)), take("scores", CHUNK_ROWS, columns)
    for start in range(0, len(places), CHUNK_ROWS):
        part = left[start : start + CHUNK_ROWS]
        torch.mm(part, right, out=scores[: len(part)])  # (rows, columns)
        # A maximum reads the scores while they are in the cache, and writes next to nothing; a mask of all pairs
        # costs as much as the product.
        torch.amax(scores[: len(part)], 1, out=best[start : start + CHUNK_ROWS])
    thresholds = prepared.thresholds[places]
    hit = where(best >= thresholds)
    again = left[hit] @ right[:, :size]  # one row in fifty or fewer: cheaper than to have kept the scores
    row, column = (again >= thresholds[hit, None]).nonzero(as_tuple=True)
    return places[hit[row]], column


def _sparse(prepared: Prepared, waiting: list[tuple[Tensor, Tensor]]) -> list[PairBlock]:
    if not waiting:
        return []
    y, x = torch.cat([y for y, _ in waiting]), torch.cat([x for _, x in waiting])
    later = y > x  # within a cell every pair is met twice, and every row meets itself
    order = prepared.cells.order
    i, j, similarity = confirmed(prepared.rows, order[y[later]], order[x[later]], prepared.minimum, prepared.scratch)
    other = cosines(prepared.other, i, j, prepared.scratch) if prepared.other is not None else None
    return [PairBlock(torch.minimum(i, j), torch.maximum(i, j), similarity, other)]


def _dense(prepared: Prepared, cell: int, places: Tensor) -> PairBlock:
    order = prepared.cells.order
    inside = torch.arange(prepared.cells.starts[cell], prepared.cells.starts[cell + 1], device=places.device)
    i, j = order[places], order[inside]
    similarity = products(prepared.rows, i, j)  # (places, cell)
    wanted = (similarity >= prepared.minimum) & (places[:, None] > inside)
    row, column = wanted.nonzero(as_tuple=True)
    other = products(prepared.other, i, j)[row, column] if prepared.other is not None else None
    i, j = i[row], j[column]
    return PairBlock(torch.minimum(i, j), torch.maximum(i, j), similarity[row, column], other)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # The default of cdist cancels: it may call two near points equal, and the bound must not.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
