"""All pairs of rows above a cosine, exactly: how the work is split and run.

The rows are projected to points of a few dimensions (bound.py), and the points are sorted into cells of neighbours
(cells.py). A task compares a group of cells with a span of rows on one core. Compiled code runs the tasks (compiled.py)
if there is a C compiler, else torch does (plain.py). GPUs have a join of their own (the package gpu).
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from blindpairs.cores import Cores
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin.bound import place_points
from blindpairs.selfjoin.c_interface import CELLS_PER_TASK
from blindpairs.selfjoin.cells import Engine, SortedRows, Task, partition
from blindpairs.selfjoin.compiled import CompiledEngine
from blindpairs.selfjoin.compiler import why_not_compiled
from blindpairs.selfjoin.device import CannotRun, Hardware
from blindpairs.selfjoin.plain import TorchEngine
from blindpairs.selfjoin.rows import PairBlock, UnitRows, Vectors, refuse_unfit
from blindpairs.selfjoin.tuning import FILL, JoinPlan, cheapest, sample_and_axes


@dataclass(frozen=True)
class Prepared:
    """A join that is ready to run: its rows sorted into cells, and the engine of its tasks."""

    join: SortedRows
    plan: JoinPlan
    engine: Engine


class Join(Protocol):
    """A search for the similar pairs of rows, exact as `similar_pairs` or approximate."""

    def __call__(
        self, rows: UnitRows, minimum: float, /, *, other: UnitRows | None = None, progress: Progress = silent
    ) -> Iterator[PairBlock]:
        """Pairs i < j of `rows` with cosine >= `minimum`, each once, with their cosine in `other` if that is given."""

    def describe(self) -> Mapping[str, Any]:
        """What is recorded of the join afterwards: at least `method`, and whether it is `exact`."""


def similar_pairs(
    vectors: Vectors | UnitRows,
    minimum: float,
    *,
    other: UnitRows | None = None,
    plan: JoinPlan | None = None,
    progress: Progress = silent,
    hardware: Hardware | None = None,
) -> Iterator[PairBlock]:
    """Every pair of rows of `vectors` (N, D) float16 or float32 with cosine >= `minimum`, each once, in blocks.

    `vectors` is a tensor, a NumPy array, or `UnitRows`. For example:

        for block in similar_pairs(vectors, 0.95):
            print(block.i, block.j, block.similarity)  # (n,) each: row numbers i < j, and float64 cosines

    Cosines are decided in float64 on the vectors as stored, and every engine computes the same bits (`cosine.py`).
    With `other`, vectors of the same N, each pair found also gets its cosine in these.
    `hardware` chooses the engine: its GPUs, else compiled code, else torch. The default is `Hardware()`, everything
    that this machine has. `plan` applies to the CPU and is chosen for these vectors if not given.
    If a GPU cannot run the join, the CPU does; `hardware` records which engine ran. With the same engine, blocks and
    their order do not depend on the number of threads. `progress(done, total)` counts tasks.
    Memory: the given vectors, 300 to 600 bytes a row, and tens of MB per thread; nothing of size N x N.
    Raises InputError for a row without direction and for `other` of another number of rows, ConfigError for a `minimum`
    outside of -1 to 1. Like every generator, it runs nothing and raises nothing before the first block is taken.
    """
    hardware = hardware or Hardware()
    rows = vectors if isinstance(vectors, UnitRows) else UnitRows(vectors, compiled=hardware.compiled)
    refuse_unfit(rows, minimum, other)
    if not hardware.compiled:
        rows, other = rows.without_compiled_code(), other and other.without_compiled_code()
    if rows.count < 2:
        return
    if hardware.gpus:
        try:
            yield from _on_gpus(rows, minimum, other, progress, hardware)
            return
        except CannotRun as error:  # never raised after the first pair, so no pair comes twice
            hardware.keep_to_the_cpu(str(error))
    with Cores(rows.device) as cores:
        prepared = prepare(rows, minimum, cores, plan=plan, other=other)
        hardware.uses(prepared.engine.name, rows.device.type)
        if rows.compiled and rows.code is None and (reason := why_not_compiled()):
            hardware.notice_once(f"{reason}: torch compares the pairs, which takes two to four times as long")
        tasks = deque(tasks_of(prepared))
        done, total = 0, len(tasks)
        progress(done, total)
        for blocks, finished in in_order(prepared.engine, tasks, cores):
            yield from blocks
            done += finished
            if finished:
                progress(done, total)


def _on_gpus(
    rows: UnitRows, minimum: float, other: UnitRows | None, progress: Progress, hardware: Hardware
) -> Iterator[PairBlock]:
    try:
        from blindpairs.selfjoin.gpu.join import similar_pairs_cuda  # late: it loads Triton
    except ImportError as error:
        raise CannotRun(f"Triton does not import ({error})") from error
    return similar_pairs_cuda(rows, minimum, other=other, progress=progress, hardware=hardware)


def prepare(
    rows: UnitRows, minimum: float, cores: Cores, *, plan: JoinPlan | None = None, other: UnitRows | None = None
) -> Prepared:
    """Find the axes, choose a plan if none is given, and sort the rows into cells."""
    sample, axes = sample_and_axes(rows, (plan or JoinPlan()).seed, cores)
    if plan is None:
        plan = cheapest(sample, axes, minimum, rows.code, cores)
    points = place_points(rows, axes[:, : plan.dimensions], minimum, rows.layout, cores)  # N points in k dimensions
    count = round(rows.count / (plan.cell_rows * FILL))
    cells = partition(points.values.float(), count, plan.cell_rows, plan.seed, cores)
    # The bound of cells.py holds for any centres, if they are the same in all its products. Compiled code multiplies
    # centres of the type of the points, so they are rounded to it here, before any product.
    cells = replace(cells, centres=cells.centres.to(rows.layout.dtype).float())
    # From here on points are in the order of the cells. Assigned to the same name, the old ones are freed before the
    # engine makes its own copies: 5,037 MiB instead of 5,689 at the peak for a million images, in float32.
    points = points.reordered(cells.order)
    join = SortedRows(rows, other, cells, points, minimum)
    return Prepared(join, plan, engine_of(join, plan, cores))


def engine_of(join: SortedRows, plan: JoinPlan, cores: Cores) -> Engine:
    """The engine of a join on the CPU: compiled code if it reads these rows and points, else torch."""
    code, other = join.rows.code, join.other
    if code is not None and code.layout.dtype == join.points.values.dtype and (other is None or other.code is not None):
        return CompiledEngine(code, join, plan, cores)
    return TorchEngine.of(join, plan, cores)


def tasks_of(prepared: Prepared) -> Iterator[Task]:
    """All tasks of a join, in an order that depends on the data and the plan alone.

    Each group of cells is compared with itself and all cells after it, so each pair of cells occurs once.
    """
    starts, cells = prepared.join.cells.starts, len(prepared.join.cells)
    for first in range(0, cells, CELLS_PER_TASK):
        other = first
        while other < cells:
            last = bisect_right(starts, starts[other] + prepared.plan.span_rows) - 1
            last = max(last, other + 1)  # at least one cell, even if it has more rows than a span
            yield Task(first, min(first + CELLS_PER_TASK, cells), other, last)
            other = last


def in_order(engine: Engine, tasks: deque[Task], cores: Cores) -> Iterator[tuple[list[PairBlock], bool]]:
    """(blocks, whether that finished their task) in the order of the tasks, of which a few run at a time.

    `tasks` is emptied.
    """
    running: deque[Future[tuple[list[PairBlock], Task | None]]] = deque()
    while tasks or running:
        while tasks and len(running) < cores.count + 2:  # two more, so that no core waits while blocks are consumed
            running.append(cores.start(partial(engine.run, tasks.popleft())))
        blocks, rest = running.popleft().result()
        yield blocks, rest is None
        if rest is not None:  # its blocks are full: the same task goes on in front of the others
            running.appendleft(cores.start(partial(engine.run, rest)))
