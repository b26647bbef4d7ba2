"""The numbers that change the speed of a join on the CPU and never its result.

Alternatives that were measured on 50,000 to 1,000,000 vectors of tests/benchmarks/vectors.py and rejected:
* the norm of the residual as one more coordinate (|x - y|^2 >= |xk - yk|^2 + (|xr| - |yr|)^2): at k = 32 it rejects 6 %
  of the pairs that passed, and one more principal axis rejects more;
* cells by recursive halving along principal axes instead of k-means: with 400 cells of 50,000 rows, 44 % of the rows
  had to be compared instead of 39 %, and finding the cells took longer;
* one product for whole tiles of 1024 x 1024 without skipping rows: the product is twice as fast for each pair, but
  twice as many pairs are multiplied at 50,000 rows and three times as many at 1,000,000;
* each product spread over all cores by torch: on a machine with other work, every product waits for the slowest core;
* torch's bfloat16 product with a test of the sign bits by torch or numpy: with AMX 0.24 ns a pair and core at K = 64,
  against 0.09 ns if the test runs before the product leaves the cache (compiled.c);
* AVX512-BF16 on Intel: 1.1 ns a pair and core at K = 64, against 0.74 ns with float32;
* in compiled code, cells of 64 rows, other spans, and tests of 512 bits at a time: not faster.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import Layout, principal_axes
from blindpairs.selfjoin.c_interface import CompiledCode
from blindpairs.selfjoin.rows import UnitRows, Vectors

SAMPLE_ROWS = 4096
AXES_STEP = 2  # axes from every second row of the sample are as good, in two thirds of the time
COMPARED_ROWS = 1024  # a million pairs: enough to notice that one in 1e5 passes
FILL = 0.6  # mean rows of a cell as a share of the limit: cells of k-means differ in size, and few must be cut

# Expected costs on one core in ns: (a, b) of a score over K columns with its test, a + b K; and of deciding a pair that
# passed. Only the ratios matter, and rough ones are enough.
SCORE_COST = {"amx": (0.05, 0.0007), "avx512-bf16": (0.05, 0.008), "float32": (0.03, 0.015), "torch": (0.24, 0.03)}
CHECK_COST = {"amx": 1000.0, "avx512-bf16": 1000.0, "float32": 1000.0, "torch": 3000.0}
SIZES = {True: (192, 32768), False: (512, 8192)}  # cell_rows and span_rows, by whether the code is compiled
CHOICES = {2: (28, 60, 92, 124), 4: (12, 20, 28, 44, 60, 92, 124)}  # k by the size of a stored number


@dataclass(frozen=True)
class JoinPlan:
    """The numbers that change the speed of a join on the CPU, never its result and never its engine.

    `dimensions` is k, the coordinates of a point; the norms take four more columns. A cell has at most `cell_rows`
    rows, and a task compares 32 cells with a span of at most `span_rows` rows. A block has about `block_pairs` pairs at
    most (16 bytes a pair, 32 with `other`, for each thread). `seed` draws the sample and the first centres of cells.
    """

    dimensions: int = 28
    cell_rows: int = 192
    span_rows: int = 32768
    block_pairs: int = 1 << 18
    seed: int = 0


def row_bytes(plan: JoinPlan, layout: Layout) -> int:
    """The bytes that a join on the CPU holds for each row beside its vector.

    These are its point, the point as the left and as the right side of a score, its place and its cell. The right sides
    take a tenth more, because each cell begins a new panel (compiled.c).
    """
    columns = layout.columns(plan.dimensions)
    return layout.dtype.itemsize * (plan.dimensions + columns + columns * 11 // 10) + 48


def plan_join(vectors: Vectors | UnitRows, minimum: float) -> JoinPlan:
    """The plan of the lowest expected cost for the pairs of cosine >= `minimum` of `vectors` (N, D).

    It is estimated on a sample of 4,096 rows, for the engine of these rows: compiled code or torch (`UnitRows.code`).
    Raises what `UnitRows` raises.
    """
    rows = vectors if isinstance(vectors, UnitRows) else UnitRows(vectors)
    if rows.count < 2:
        return JoinPlan()
    with Cores(rows.device) as cores:
        sample, axes = sample_and_axes(rows, JoinPlan().seed, cores)
        return cheapest(sample, axes, minimum, rows.code, cores)


def sample_and_axes(rows: UnitRows, seed: int, cores: Cores) -> tuple[Tensor, Tensor]:
    """A sample of the rows (n, D), and the axes along which it varies most (D, k); both float32."""
    sample = rows.sample(SAMPLE_ROWS, seed)
    axes = cores.start(lambda: principal_axes(sample[::AXES_STEP])).result().float()
    return sample, axes


def cheapest(sample: Tensor, axes: Tensor, minimum: float, code: CompiledCode | None, cores: Cores) -> JoinPlan:
    """The plan with the k of the lowest expected cost per pair: half of `sample` (n, D) is compared with the rest."""
    kind, layout = (code.kind, code.layout) if code is not None else ("torch", Layout())
    points = cores.start(lambda: shuffled(sample @ axes)).result()  # (n, axes)
    half = min(len(points) // 2, COMPARED_ROWS)
    left, right = points[:half], points[half : 2 * half]

    def cost(k: int) -> float:
        fixed, per_column = SCORE_COST[kind]
        return fixed + per_column * layout.columns(k) + CHECK_COST[kind] * share_passing(left, right, k, minimum)

    choices = sorted({min(k, axes.shape[1]) for k in CHOICES[layout.dtype.itemsize]})
    costs = [future.result() for future in [cores.start(partial(cost, k)) for k in choices]]
    cell_rows, span_rows = SIZES[code is not None]
    return JoinPlan(dimensions=choices[costs.index(min(costs))], cell_rows=cell_rows, span_rows=span_rows)


def shuffled(points: Tensor) -> Tensor:
    """The rows of `points` in a random order, the same for each number of rows."""
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    return points[order.to(points.device)]


def share_passing(left: Tensor, right: Tensor, k: int, minimum: float) -> float:
    """The share of the pairs of `left` and `right`, (n, axes) each, that the bound on the first k axes lets pass."""
    # The distance of unit vectors whose cosine is `minimum`: an estimate needs no allowance for rounding.
    limit = math.sqrt(max(0.0, 2 - 2 * minimum))
    return float((torch.cdist(left[:, :k], right[:, :k]) <= limit).float().mean())
