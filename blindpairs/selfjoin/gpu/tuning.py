"""The numbers that change the speed and memory of a join on GPUs and never its result, and how they are chosen.

The width K of the product is chosen by expected cost on a sample, the shape of the tile by timing it on the card.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from blindpairs.selfjoin.bound import NORM_COLUMNS, principal_axes
from blindpairs.selfjoin.gpu.launches import launches, spans, tile_count
from blindpairs.selfjoin.gpu.points import DevicePoints
from blindpairs.selfjoin.gpu.tiles import Shape, Tiles, empty_list
from blindpairs.selfjoin.rows import UnitRows
from blindpairs.selfjoin.tuning import SAMPLE_ROWS, share_passing, shuffled

SHAPES = (Shape(), Shape(256, 128, 8), Shape(128, 256, 8), Shape(128, 64, 4, 4))
TIMED_PAIRS = 2.0e13  # some 10 s of work: compiling and timing every shape takes about as long
# Expected costs in ps: of the product for each pair, by K, and of deciding a pair whose score passed.
PRODUCT_COST = {64: 0.3, 128: 0.5}
PASSED_COST = 4000.0


@dataclass(frozen=True)
class GpuPlan:
    """The numbers that change the speed and memory of a join on GPUs, never its result.

    `columns` is K, the width of the product (4 of them hold the norms), and `shape` its tile: chosen where None.
    `strip` column tiles make an item, `launch_tiles` tiles a launch; `capacity` bounds the row segments that a launch
    may report (8 bytes each), `block_pairs` the pairs decided at once (24 bytes each). With no `devices`, all GPUs are
    used.
    """

    columns: int | None = None
    shape: Shape | None = None
    strip: int = 64
    launch_tiles: int = 1 << 20
    capacity: int = 1 << 21
    block_pairs: int = 1 << 22
    devices: tuple[str, ...] = ()
    streams: int = 2  # for each device
    resident_share: float = 0.5  # vectors that take less than this share of a device's free memory are copied there
    seed: int = 0


def choose_columns(rows: UnitRows, minimum: float, plan: GpuPlan) -> int:
    """K of the product that a join of `rows` would use, chosen on a sample on the device of the rows."""
    sample = rows.sample(SAMPLE_ROWS, plan.seed)
    return plan.columns or cheapest_columns(sample, principal_axes(sample), minimum)


def cheapest_columns(sample: Tensor, axes: Tensor, minimum: float) -> int:
    """The K of the lowest expected cost per pair: half of `sample` (n, D) is compared with the rest."""
    left, right = shuffled(sample.double() @ axes).float().chunk(2)  # (n / 2, k) each

    def cost(columns: int) -> float:
        passing = share_passing(left, right, columns - NORM_COLUMNS, minimum)
        return PRODUCT_COST[columns] + PASSED_COST * passing

    narrowest = min(PRODUCT_COST)
    # A wider product is of no use where the vectors have no more axes than the narrowest one holds.
    return min(PRODUCT_COST, key=cost) if axes.shape[1] > narrowest - NORM_COLUMNS else narrowest


def seconds_per_pair(points: DevicePoints, shape: Shape, plan: GpuPlan) -> float:
    """How long the product and its test take for a pair: one launch, after one that compiles and warms up."""
    device = points.packed.device
    launch = next(launches(spans(points, shape), plan.strip, plan.launch_tiles)).to(device)
    tiles, segments = Tiles(points.packed, shape), empty_list(plan.capacity, device)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.cuda.device(device):
        tiles.launch_find(launch, segments)
        begin.record()
        tiles.launch_find(launch, segments)
        end.record()
        end.synchronize()
    milliseconds = float(begin.elapsed_time(end))
    return milliseconds / 1000 / (tile_count(launch) * shape.rows * shape.columns)
