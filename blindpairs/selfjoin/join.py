"""All pairs of rows above a cosine, exactly: how the work is laid out and run.

The rows become points (points.py), the points are sorted into cells of neighbours (cells.py), and groups of cells
against spans of rows are tasks, each done by one core: by compiled code where there is a C compiler (compiled.py), else
by torch (plain.py).
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin.bound import principal_axes
from blindpairs.selfjoin.cells import partition
from blindpairs.selfjoin.compiled import CompiledEngine
from blindpairs.selfjoin.device import CannotRun, Hardware
from blindpairs.selfjoin.plain import PlainEngine
from blindpairs.selfjoin.plan import AXES_STEP, FILL, SAMPLE_ROWS, JoinPlan, cheapest
from blindpairs.selfjoin.points import place_points
from blindpairs.selfjoin.rows import UnitRows, refuse_unfit
from blindpairs.selfjoin.task import CELLS_PER_TASK, Engine, PairBlock, SortedRows, Task


@dataclass(frozen=True)
class Prepared:
    """A join that is ready to run: its rows sorted into cells, and what does its tasks."""

    join: SortedRows
    plan: JoinPlan
    engine: Engine


def similar_pairs(
    vectors: Tensor | UnitRows,
    minimum: float,
    *,
    other: UnitRows | None = None,
    plan: JoinPlan | None = None,
    progress: Progress = silent,
    hardware: Hardware | None = None,
) -> Iterator[PairBlock]:
    """Every pair of rows of `vectors` (N, D) float16 or float32 with cosine >= `minimum`, each once, in blocks.

    Decided in float64 on the vectors as stored, with the same bits by every engine (`cosine.py`). Memory: the given
    vectors, some 300 to 600 bytes a row, and some tens of MB per thread, however many pairs there are; nothing of size
    N x N. With `other`, vectors of the same N, each pair found is also given its cosine there.
    The blocks and their order do not depend on the number of threads. `progress(done, total)` counts tasks.
    The GPUs of `hardware` do it (`gpu.py`) where there are some that can, unless a plan asks for this path; without
    `hardware`, those are all of this machine.
    Raises InputError for a row without direction and for `other` of another number of rows, ConfigError for a `minimum`
    that is no cosine.
    """
    rows = vectors if isinstance(vectors, UnitRows) else UnitRows(vectors)
    refuse_unfit(rows, minimum, other)
    if rows.count < 2:
        return
    hardware = hardware or Hardware()
    if plan is None and hardware.gpus:
        try:
            yield from _on_gpus(rows, minimum, other, progress, hardware)
            return
        except CannotRun as error:  # never after the first pair
            hardware.keep_to_the_cpu(str(error))
    hardware.uses(rows.device.type)
    with Cores(rows.device) as cores:
        prepared = prepare(rows, minimum, cores, plan=plan, other=other)
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
    """Rotate, choose a plan where none is given, and sort the rows into cells."""
    sample = rows.sample(SAMPLE_ROWS, seed=plan.seed if plan else 0)
    axes = cores.start(lambda: principal_axes(sample[::AXES_STEP])).result().float()
    if plan is None:
        plan = cheapest(sample, axes, minimum, JoinPlan(), cores)
    layout = plan.layout(rows.device)
    points = place_points(rows, axes[:, : plan.dimensions], minimum, layout, cores)
    count = round(rows.count / (plan.cell_rows * FILL))
    cells = partition(points.values.float(), count, plan.cell_rows, plan.seed, cores)
    cells = replace(cells, centres=cells.centres.to(layout.dtype).float())  # any centres do: these are points, too
    points = points.reordered(cells.order)  # those in the old order are gone before the engine makes its own
    join = SortedRows(rows, other, cells, points, minimum)
    return Prepared(join, plan, engine_of(join, plan, cores))


def engine_of(join: SortedRows, plan: JoinPlan, cores: Cores) -> Engine:
    """What does the tasks of a join on this machine: compiled code if it takes such points, else torch."""
    code = plan.code(join.rows.device)
    takes = [code is not None and code.layout.dtype == join.points.values.dtype, join.rows.dense]
    if code is not None and all([*takes, join.other is None or join.other.dense]):
        return CompiledEngine(code, join, plan, cores)
    return PlainEngine.of(join, plan, cores)


def tasks_of(prepared: Prepared) -> Iterator[Task]:
    """All the work of a join, in an order that depends on the data and the plan alone."""
    starts, cells = prepared.join.cells.starts, len(prepared.join.cells)
    for first in range(0, cells, CELLS_PER_TASK):
        other = first
        while other < cells:
            last = bisect_right(starts, starts[other] + prepared.plan.span_rows) - 1
            last = max(last, other + 1)  # a cell of more rows than a span is one by itself
            yield Task(first, min(first + CELLS_PER_TASK, cells), other, last)
            other = last


def in_order(engine: Engine, tasks: deque[Task], cores: Cores) -> Iterator[tuple[list[PairBlock], bool]]:
    """The results of the tasks in their order, a few being under way; False with those of an unfinished task."""
    running: deque[Future[tuple[list[PairBlock], Task | None]]] = deque()
    while tasks or running:
        while tasks and len(running) < cores.count + 2:
            running.append(cores.start(partial(engine.run, tasks.popleft())))
        blocks, rest = running.popleft().result()
        yield blocks, rest is None
        if rest is not None:
            running.appendleft(cores.start(partial(engine.run, rest)))
