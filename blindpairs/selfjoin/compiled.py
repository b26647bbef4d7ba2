"""The tasks of a join in compiled code: the arrays that compiled.c reads, and the results that it writes.

The C code runs a whole task without the interpreter's lock, so every core runs one.
"""

import threading
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import Points, product_error
from blindpairs.selfjoin.c_interface import (
    CELLS_PER_TASK,
    PANEL,
    RESULTS,
    CompiledCode,
    PointsStruct,
    ResultStruct,
    RowsStruct,
    TaskStruct,
)
from blindpairs.selfjoin.cells import (
    SortedRows,
    Task,
    dense_pairs,
    own_centre_products,
    skip_error,
    square_error,
)
from blindpairs.selfjoin.rows import PairBlock, rough_minimum
from blindpairs.selfjoin.tuning import JoinPlan

PACKED_AT_ONCE = 1 << 16  # right sides
DENSE_SHARE = 0.1  # if a larger share of pairs passes, one product over all D columns is faster than deciding each


class CompiledEngine:
    """What all tasks share, read only, and the buffers of each thread."""

    def __init__(self, code: CompiledCode, join: SortedRows, plan: JoinPlan, cores: Cores) -> None:
        self._code, self._join, self._plan, self.name = code, join, plan, code.kind
        self._buffers = threading.local()
        # The struct holds addresses only: `_kept` keeps the tensors alive.
        self._points, self._kept = _points_struct(join, cores)
        self._rows = join.rows.struct()
        self._other = join.other.struct() if join.other is not None else RowsStruct()

    def run(self, task: Task) -> tuple[list[PairBlock], Task | None]:
        """See `cells.Engine`."""
        buffers = self._thread_buffers()
        # In C, cells of a group are numbered from 0 to 31.
        arguments = TaskStruct(
            group=task.first_cell // CELLS_PER_TASK,
            first_cell=task.first_cell % CELLS_PER_TASK,
            first_other=task.first_other,
            last_other=task.last_other,
            capacity=self._plan.block_pairs,
            rough=rough_minimum(self._join.rows, self._join.minimum),
            minimum=self._join.minimum,
            dense_share=DENSE_SHARE,
        )
        done = self._code.library.run(
            self._points, self._rows, self._other, arguments, buffers.scratch.data_ptr(), buffers.struct
        )
        block = buffers.block(self._join.other is not None)
        blocks, cell = [block] if len(block) else [], arguments.group * CELLS_PER_TASK + done
        if done == CELLS_PER_TASK:
            return blocks, None
        if len(block) == 0:  # the buffers were empty, so the cell alone has too many pairs
            starts = self._join.cells.starts
            places = buffers.places(done, starts[task.last_other] - starts[task.first_other])
            blocks += dense_pairs(self._join, cell, places)
            cell += 1
        return blocks, replace(task, first_cell=cell) if cell < task.last_cell else None

    def _thread_buffers(self) -> "_Buffers":
        if not hasattr(self._buffers, "own"):
            self._buffers.own = _Buffers(self._plan, self._code.library.scratch_bytes(), self._join.rows.count)
        own: _Buffers = self._buffers.own
        return own


class _Buffers:
    """The memory that the tasks of one thread write to."""

    def __init__(self, plan: JoinPlan, scratch_bytes: int, count: int) -> None:
        self.slack = torch.empty(CELLS_PER_TASK, CELLS_PER_TASK)
        # The longest span: a single cell may have more rows than `span_rows`.
        span = min(max(plan.span_rows, plan.cell_rows), count)
        self.lists = torch.empty(CELLS_PER_TASK * span, dtype=torch.int32)
        self.list_sizes = torch.zeros(CELLS_PER_TASK, dtype=torch.int64)
        self.found = torch.zeros(1, dtype=torch.int64)
        self.i, self.j = torch.empty(2, plan.block_pairs, dtype=torch.int64)
        self.similarity, self.other = torch.empty(2, plan.block_pairs, dtype=torch.float64)
        self.scratch = torch.empty(scratch_bytes, dtype=torch.uint8)
        self.struct = ResultStruct(*(getattr(self, name).data_ptr() for name in RESULTS))

    def block(self, with_other: bool) -> PairBlock:
        """A copy of the pairs found."""
        part = slice(int(self.found[0]))
        other = self.other[part].clone() if with_other else None
        return PairBlock(self.i[part].clone(), self.j[part].clone(), self.similarity[part].clone(), other)

    def places(self, cell: int, span: int) -> Tensor:
        """The places that reach a cell of the group, (n,) int64; `span` is the length of the task's span."""
        return self.lists[cell * span : cell * span + int(self.list_sizes[cell])].long()


def _points_struct(join: SortedRows, cores: Cores) -> tuple[PointsStruct, tuple[Any, ...]]:
    """The struct of the points, and the tensors whose addresses it holds."""
    cells, points = join.cells, join.points
    k, dtype = points.columns, points.values.dtype
    groups = -(-len(cells) // CELLS_PER_TASK)
    # The last group is padded with empty cells. Then (groups * 32 + 1,) each:
    starts = torch.tensor([*cells.starts, *[cells.starts[-1]] * (groups * CELLS_PER_TASK - len(cells))])
    first_panel = torch.nn.functional.pad(((starts.diff() + PANEL - 1) // PANEL).cumsum(0), (1, 0))
    # (N,) the column of each place: its cell begins at a multiple of PANEL, so columns run ahead of places.
    columns = torch.arange(len(cells.order)) + (PANEL * first_panel[:-1] - starts[:-1])[cells.cell_of]
    # (columns,) the reverse; a column without a place gets the number N, whose right side never passes.
    places = torch.full((PANEL * int(first_panel[-1]),), len(cells.order))
    places[columns] = torch.arange(len(cells.order))
    own_products = torch.full((len(places),), torch.inf)  # inf: a column without a place reaches no cell
    own_products[columns] = own_centre_products(points, cells, cores)
    # A group more than there is: C reads 32 centres at a time, beginning at any cell.
    centres = torch.zeros(groups * CELLS_PER_TASK + CELLS_PER_TASK, k, dtype=dtype)
    centres[: len(cells), : cells.centres.shape[1]] = cells.centres.to(dtype)
    half_squares = centres.double().square().sum(1) / 2
    error = product_error(k, dtype)
    tensors = (  # in the order of the fields of PointsStruct
        points.left(0),
        _right_panels(points, places),
        centres,
        _panels(centres),
        half_squares.float(),
        own_products,
        starts,
        first_panel,
        cells.order,
    )
    struct = PointsStruct(
        *(tensor.data_ptr() for tensor in tensors),
        k,
        points.reach,
        skip_error(points, cells, error),
        square_error(half_squares, error),
    )
    return struct, tensors


def _right_panels(points: Points, places: Tensor) -> Tensor:
    """The right sides of the points at `places` (n,), in panels: (n * K,) numbers in the shape (n, K)."""
    panels = points.values.new_empty(len(places), points.columns)
    # A part at a time: all at once would take a third more memory for the whole join.
    for part, index in zip(panels.split(PACKED_AT_ONCE), places.split(PACKED_AT_ONCE), strict=True):
        part.view(-1).copy_(_panels(points.right(index)).view(-1))
    return panels


def _panels(sides: Tensor) -> Tensor:
    """Right sides (n, K), n a multiple of 16, as panels (n / 16, K / p, 16, p): p = 2 columns together if bfloat16."""
    together = 4 // sides.element_size()  # the bf16 instructions multiply 32 bits at a time
    count, k = sides.shape
    panels: Tensor = sides.view(count // PANEL, PANEL, k // together, together).transpose(1, 2).contiguous()
    return panels
