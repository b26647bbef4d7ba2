"""How a join is carried out: numbers that change its speed and never its result.

Tried on 50,000 to 1,000,000 vectors of tests/benchmarks/vectors.py, and left out:
* the residual norms as one coordinate more (|x - y|^2 >= |xk - yk|^2 + (|xr| - |yr|)^2): at k = 32 it rejects 6 % of
  the survivors, and one more principal axis rejects more;
* cells by recursive halving along principal axes instead of k-means: with 400 cells of 50,000 rows, 44 % of the rows
  had to be compared instead of 39 %, and finding the cells took longer;
* one product for whole tiles of 1024 x 1024 without skipping: the product is twice as efficient, and twice as many
  pairs are multiplied at 50,000 rows, three times as many at 1,000,000;
* products spread over all cores by torch: on a machine with other work each waits for the slower core.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import principal_axes
from blindpairs.selfjoin.rows import UnitRows

SAMPLE_ROWS = 4096
COMPARED_ROWS = 1536  # 2.4 million pairs: enough to see one survivor in 1e5

# Costs on one core, in ns: of a product over k + 1 columns with its row maximum, per pair that is not skipped; and of a
# pair that passed it, whose two rows must be gathered and multiplied. Only the ratio matters, and not much: k = 23 and
# k = 47 differ by 20 %. About half of the pairs are skipped, but none of those that pass.
PRODUCT_COST = (0.24, 0.03)
CHECK_COST = 2 * 1500.0
CHOICES = (15, 23, 31, 47, 63, 95, 127)


@dataclass(frozen=True)
class JoinPlan:
    """The knobs of a join.

    `dimensions` is k, the coordinates of the first bound (one column more is spent on the norms, so that k + 1 being a
    multiple of eight suits the vector units); `cell_rows` how many neighbours are compared at once with
    `span_rows` other rows; `block_pairs` about how many pairs are held before they are handed out.
    """

    dimensions: int = 31
    cell_rows: int = 512
    span_rows: int = 8192
    block_pairs: int = 1 << 18
    seed: int = 0


def plan_join(vectors: Tensor | UnitRows, minimum: float, *, seed: int = 0) -> JoinPlan:
    """The plan with the cheapest k for pairs of cosine >= `minimum` among `vectors` (N, D), judged on a sample."""
    rows = vectors if isinstance(vectors, UnitRows) else UnitRows(vectors)
    if rows.count < 2:
        return JoinPlan(seed=seed)
    with Cores(rows.device) as cores:
        sample = rows.sample(SAMPLE_ROWS, seed)
        axes = cores.start(lambda: principal_axes(sample)).result()
        return JoinPlan(dimensions=cheapest_dimensions(sample, axes, minimum, cores), seed=seed)


def cheapest_dimensions(sample: Tensor, axes: Tensor, minimum: float, cores: Cores) -> int:
    """The k of the lowest expected cost per pair: half of `sample` (n, D) is compared with the rest over k axes."""
    most = axes.shape[1]
    order = torch.randperm(len(sample), generator=torch.Generator().manual_seed(1)).to(sample.device)
    points = cores.start(lambda: (sample @ axes.float())[order]).result()
    half = min(len(points) // 2, COMPARED_ROWS)
    left, right = points[:half], points[half : 2 * half]
    limit = math.sqrt(max(0.0, 2 - 2 * minimum))

    def cost(k: int) -> float:
        passed = float((torch.cdist(left[:, :k], right[:, :k]) <= limit).float().mean())
        return PRODUCT_COST[0] + PRODUCT_COST[1] * (k + 1) + CHECK_COST * passed

    choices = sorted({min(k, most) for k in CHOICES})
    costs = [future.result() for future in [cores.start(partial(cost, k)) for k in choices]]
    return choices[costs.index(min(costs))]
