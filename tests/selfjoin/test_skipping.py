"""What may be skipped, attacked where the test of `cells.py` is an equality: only its allowances keep the row."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from test_join import ENGINES, code_of
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin import JoinPlan, UnitRows
from blindpairs.selfjoin.bound import Layout, Points
from blindpairs.selfjoin.c_interface import CompiledCode
from blindpairs.selfjoin.cells import Cells, SortedRows, Task
from blindpairs.selfjoin.compiled import CompiledEngine
from blindpairs.selfjoin.plain import TorchEngine

CELLS = 32  # a group, each cell of one row
HALF = CELLS // 2
PLAN = JoinPlan(cell_rows=1, span_rows=CELLS, block_pairs=CELLS**2)


@dataclass(frozen=True)
class Edge:
    """Rows at a distance of `radius` from the origin, centres at that of `centre`, two centres as far `apart`."""

    radius: float = 1.0
    centre: float = 1.0
    apart: float = 1.0


CANCELLING = Edge(apart=3e-4)  # the distance of two centres is lost in rounding
FAR_OUT = Edge(1e4, 30.0)  # that of two rows nearly is
EDGES = [*(Edge(apart=apart) for apart in (1.0, 1e-2, 3e-3, 1e-3, 1e-4, 0.0)), CANCELLING, FAR_OUT]


def on_the_edge(k: int, edge: Edge, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (32, k) and centres: row i + 16 lies 1 from row i, in the direction in which its centre lies apart.

    So y.(b - a) - x.(b - a) = |y - x| |b - a|, and all |y - x| are equal but for the last bits.
    """
    generator = torch.Generator().manual_seed(seed)
    x, direction, a = torch.nn.functional.normalize(torch.randn(3, HALF, k, generator=generator).double(), dim=2)
    x, a = edge.radius * x, edge.centre * a
    return torch.cat([x, x + direction]).float(), torch.cat([a, a + edge.apart * direction]).float()


def lost(code: CompiledCode | None, k: int, edge: Edge) -> int:
    """How many rows that lie within reach of a cell's row are skipped, in some trials."""
    return sum(lost_of(code, *on_the_edge(k, edge, seed)) for seed in range(6))


def lost_of(code: CompiledCode | None, points: Tensor, centres: Tensor) -> int:
    layout = code.layout if code else Layout()
    values, centres = points.to(layout.dtype), centres.to(layout.dtype).float()
    exact = values.double()
    apart = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")
    reach = float(apart[torch.arange(HALF), torch.arange(HALF) + HALF].max())
    every = torch.arange(CELLS)
    join = SortedRows(
        UnitRows(torch.eye(CELLS)),
        None,
        Cells(every, [*range(CELLS + 1)], centres, every),
        Points(values, exact.square().sum(1) / 2, layout.columns(points.shape[1]), reach, 0.0),
        -1.0,
    )
    listed = places(code, join)
    return sum(len(set((apart[cell] <= reach).nonzero()[:, 0].tolist()) - listed[cell]) for cell in range(CELLS))


def places(code: CompiledCode | None, join: SortedRows) -> list[set[int]]:
    """The places that reach each cell, as an engine lists them."""
    task = Task(0, CELLS, 0, CELLS)
    with Cores(torch.device("cpu")) as cores:
        if code is None:
            return [set(found.tolist()) for found in TorchEngine.of(join, PLAN, cores)._reachable(task)]
        compiled = CompiledEngine(code, join, PLAN, cores)
        compiled.run(task)
        return [set(compiled._thread_buffers().places(cell, CELLS).tolist()) for cell in range(CELLS)]


@pytest.mark.parametrize("engine", ENGINES)
def test_row_on_the_edge_of_reach_is_never_skipped(engine: str) -> None:
    code = code_of(engine)
    assert {(k, edge): lost(code, k, edge) for k in (4, 28, 124) for edge in EDGES} == dict.fromkeys(
        itertools.product((4, 28, 124), EDGES), 0
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("allowance", "edge"), [("skip_error", FAR_OUT), ("square_error", CANCELLING)])
def test_edge_is_so_sharp_that_each_allowance_is_needed(
    engine: str, allowance: str, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = code_of(engine)
    if code is not None and code.layout.dtype == torch.bfloat16:
        pytest.skip("rounding the points to bfloat16 takes them off the edge")
    if code is None and allowance == "square_error":
        pytest.skip("torch adds up squares of differences, which do not cancel")
    monkeypatch.setattr(f"blindpairs.selfjoin.{'plain' if code is None else 'compiled'}.{allowance}", lambda *_: 0.0)
    assert lost(code, 28, edge) > 0
