"""The join on GPUs: what `join.similar_pairs` promises, with every pair compared by the kernels of `kernel.py`.

The rows are ordered along their first axis, so the partners of a block of rows form one range of places: whatever lies
farther off than `reach` on that axis alone is never visited. The tiles that remain are cut into items (one block of
rows, one strip of columns) and these into launches. Two lanes per GPU, each a thread with its own stream and buffers,
take the launches in turn: while the survivors of one are decided, the next one computes. A launch whose survivors
overflow its buffer is done again in smaller parts, so the buffer bounds memory and never the result.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import cycle

import torch
from torch import Tensor

from blindpairs.errors import ConfigError
from blindpairs.selfjoin.bound import principal_axes
from blindpairs.selfjoin.gpu_points import DevicePoints, DeviceRows, pack_points
from blindpairs.selfjoin.kernel import LAUNCH, expand, find
from blindpairs.selfjoin.points import NORM_COLUMNS
from blindpairs.selfjoin.rows import UnitRows, refuse_unfit
from blindpairs.selfjoin.task import PairBlock

SAMPLE_ROWS = 4096
GROUP_BLOCKS = 512  # row blocks that pass over a strip together: it is read once from memory and then from L2
WORTH_TUNING = 2.0e13  # pairs, some 10 s of work: to compile and time every shape takes about as long
# Expected cost in ps per pair of the product, and per pair that passed of expanding and deciding it.
PRODUCT_COST = {64: 0.3, 128: 0.5}
SURVIVOR_COST = 4000.0


@dataclass(frozen=True)
class Shape:
    """A tile of `rows` x `columns`, computed by `warps` warps with `stages` tiles of columns under way."""

    rows: int = 128
    columns: int = 128
    warps: int = 4
    stages: int = 3


SHAPES = (Shape(), Shape(256, 128, 8), Shape(128, 256, 8), Shape(128, 64, 4, 4))


@dataclass(frozen=True)
class GpuPlan:
    """The knobs of a join on GPUs: numbers that change its speed and memory, never its result.

    `columns` is K, the width of the product (4 of them hold the norms), and `shape` its tile: chosen where None.
    `strip` column tiles make an item, `launch_tiles` tiles a launch; `capacity` bounds the row pieces that a launch may
    report (8 bytes each), `block_pairs` the pairs decided at once (24 bytes each). `devices` empty: all GPUs there are.
    """

    columns: int | None = None
    shape: Shape | None = None
    strip: int = 64
    launch_tiles: int = 1 << 20
    capacity: int = 1 << 21
    block_pairs: int = 1 << 22
    devices: tuple[str, ...] = ()
    lanes: int = 2
    whole_share: float = 0.5  # of a device's free memory: vectors that take less are copied there
    seed: int = 0


def similar_pairs_cuda(
    rows: UnitRows,
    minimum: float,
    *,
    other: UnitRows | None = None,
    plan: GpuPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[PairBlock]:
    """Every pair of `rows` with cosine >= `minimum`, each once, in blocks in host memory: see `join.similar_pairs`.

    The blocks and their order depend on the data, the plan and the shape of tile alone. Device memory: 256 or 512 bytes
    a row, two buffers a lane, and the vectors where they fit. `progress(done, total)` counts tiles of the pair matrix.
    Raises ConfigError for a `minimum` that is no cosine, and where there is no GPU.
    """
    refuse_unfit(rows, minimum, other)
    if rows.count < 2:
        return
    plan = plan or GpuPlan()
    joins = prepare(rows, other, minimum, plan)
    spans = _spans(joins[0].points, joins[0].shape)
    done, total = 0, int((spans[:, 2] - spans[:, 1]).sum())
    lanes = [Lane(join) for _ in range(plan.lanes) for join in joins]
    if progress is not None:
        progress(done, total)
    try:
        for lane, tiles in _dealt(_launches(spans, plan), lanes):
            yield from lane.blocks()
            done += tiles
            if progress is not None:
                progress(done, total)
    finally:
        for lane in lanes:
            lane.end()


def _dealt(launches: Iterator[Tensor], lanes: list["Lane"]) -> Iterator[tuple["Lane", int]]:
    """Deal the launches to the lanes, a few ahead: whose turn it is to hand out, and the tiles that it did."""
    running: deque[tuple[Lane, int]] = deque()
    for launch, lane in zip(launches, cycle(lanes), strict=False):
        lane.take(launch)
        running.append((lane, int((launch[:, 2] - launch[:, 1]).sum())))
        if len(running) > 2 * len(lanes):
            yield running.popleft()
    yield from running


@dataclass(frozen=True)
class Join:
    """What the lanes of one device share, read only."""

    device: torch.device
    points: DevicePoints
    rows: DeviceRows
    other: DeviceRows | None
    shape: Shape
    minimum: float
    plan: GpuPlan

    def find(self, items: Tensor, segments: Tensor) -> None:
        """List in `segments` the row pieces of `items` (n, 3) in which something passed."""
        shape, points = self.shape, self.points
        stages = max(2, shape.stages * 64 // points.columns)  # at K = 128 a stage takes twice the shared memory
        with LAUNCH:
            find[(len(items),)](
                points.packed, items, segments, points.columns, shape.rows, shape.columns,
                num_warps=shape.warps, num_stages=stages,
            )  # fmt: skip

    def blocks(self, launch: Tensor) -> Iterator[PairBlock]:
        """The pairs of `launch` (n, 3), which is done in parts where it overflows."""
        capacity = max(self.plan.capacity, self.shape.rows)  # a single tile always fits
        segments = _codes(capacity, self.device)
        parts = [launch.to(self.device)]
        while parts:
            items = parts.pop()
            segments[0] = 0
            self.find(items, segments)
            count = int(segments[0])
            if count > capacity:
                parts += reversed(_split(items, 2 * -(-count // capacity)))
            elif count > 0:
                # Blocks of threads finish in any order; sorted, the result is the same every time.
                found = segments[2 : 2 + count].sort().values
                for some in found.split(max(1, self.plan.block_pairs // self.shape.columns)):
                    yield self._decided(some)

    def _decided(self, segments: Tensor) -> PairBlock:
        shape, points = self.shape, self.points
        pairs = _codes(len(segments) * shape.columns, self.device)
        with LAUNCH:
            expand[(len(segments),)](points.packed, segments, pairs, points.columns, shape.columns)
        codes = pairs[2 : 2 + int(pairs[0])].sort().values
        a, b = points.order[codes >> 32], points.order[codes & 0xFFFFFFFF]
        i, j = torch.minimum(a, b), torch.maximum(a, b)
        similarity = self.rows.cosines(i, j)
        wanted = similarity >= self.minimum
        i, j, similarity = i[wanted], j[wanted], similarity[wanted]
        other = self.other.cosines(i, j).cpu() if self.other is not None else None
        return PairBlock(i.cpu(), j.cpu(), similarity.cpu(), other)


class Lane:
    """A thread that does launches in turn on its own stream, and waits while nobody takes its blocks."""

    def __init__(self, join: Join) -> None:
        self._join = join
        self._launches: queue.Queue[Tensor | None] = queue.Queue()
        self._results: queue.Queue[PairBlock | BaseException | None] = queue.Queue(maxsize=4)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, launch: Tensor) -> None:
        """Give it one more launch to do."""
        self._launches.put(launch)

    def blocks(self) -> Iterator[PairBlock]:
        """The blocks of the first launch that was not yet asked for."""
        while (result := self._results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result

    def end(self) -> None:
        """Drop what is left and wait until the thread is gone."""
        self._ended.set()
        self._launches.put(None)
        while self._thread.is_alive():
            try:
                self._results.get(timeout=0.01)
            except queue.Empty:
                continue

    def _work(self) -> None:
        with _own_stream(self._join.device), torch.no_grad():
            while (launch := self._launches.get()) is not None:
                try:
                    for block in self._join.blocks(launch):
                        self._results.put(block)
                        if self._ended.is_set():
                            return
                    self._results.put(None)
                except BaseException as error:  # whatever it is, the caller's thread is to see it
                    self._results.put(error)


def _own_stream(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


def _codes(capacity: int, device: torch.device) -> Tensor:
    """An empty list of codes, see `kernel.py`."""
    codes = torch.empty(2 + capacity, dtype=torch.int64, device=device)
    codes[0], codes[1] = 0, capacity
    return codes


def _split(items: Tensor, parts: int) -> list[Tensor]:
    """`items` in that many parts or fewer, a single item in two; in order."""
    if len(items) > 1:
        return list(items.chunk(parts))
    row_block, first, end = items[0].tolist()
    middle = (first + end) // 2
    return [items.new_tensor([[row_block, first, middle]]), items.new_tensor([[row_block, middle, end]])]


def _spans(points: DevicePoints, shape: Shape) -> Tensor:
    """Of every block of rows (block, first tile, end tile) of the columns that can be within reach and behind it."""
    along = points.along
    starts = torch.arange(0, len(along), shape.rows)
    edge = along[(starts + shape.rows).clamp(max=len(along)) - 1] + points.reach
    ends = torch.searchsorted(along, edge, right=True)
    tiles = torch.stack([starts // shape.rows, starts // shape.columns, -(-ends // shape.columns)], 1)
    return tiles.int()


def _launches(spans: Tensor, plan: GpuPlan) -> Iterator[Tensor]:
    """Items (row block, first tile, end tile) int32 in the order that reuses L2, cut into launches (n, 3)."""
    for group in spans.split(GROUP_BLOCKS):
        strips = torch.arange(int(group[:, 1].min()) // plan.strip, -(-int(group[:, 2].max()) // plan.strip))
        left = (strips * plan.strip)[:, None]
        first = torch.maximum(group[:, 1], left)  # (strips, row blocks): neighbours in a launch share a strip
        end = torch.minimum(group[:, 2], left + plan.strip)
        items = torch.stack([group[:, 0].expand_as(first), first, end], 2)[first < end].int()
        yield from items.split(max(1, plan.launch_tiles // plan.strip))


def prepare(rows: UnitRows, other: UnitRows | None, minimum: float, plan: GpuPlan) -> list[Join]:
    """Project on the first device, and give every device what it needs."""
    devices = [torch.device(name) for name in plan.devices or _all_devices()]
    if not devices:
        raise ConfigError("no GPU is visible to torch: leave out the GPU plan to join on the CPU")
    resident = [_resident(rows, device, plan) for device in devices]
    sample = rows.sample(SAMPLE_ROWS, plan.seed).to(devices[0])
    axes = principal_axes(sample)
    columns = plan.columns or _cheapest_columns(sample, axes, minimum)
    points = pack_points(resident[0], axes[:, : columns - NORM_COLUMNS], minimum, columns)
    joins: list[Join] = []
    for device, unit_rows in zip(devices, resident, strict=True):
        others = _resident(other, device, plan) if other is not None else None
        shape = joins[0].shape if joins else plan.shape or SHAPES[0]
        joins.append(Join(device, points.on(device), unit_rows, others, shape, minimum, plan))
        if plan.shape is None and device == devices[0] and rows.count**2 / 2 > WORTH_TUNING:
            joins[0] = fastest(joins[0])
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the lanes' streams do not wait for this one
    return joins


def _all_devices() -> list[str]:
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def _resident(rows: UnitRows, device: torch.device, plan: GpuPlan) -> DeviceRows:
    size = rows.count * rows.dimension * rows.vectors.element_size()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else torch.inf
    return DeviceRows(rows, device, rows.device == device or size < plan.whole_share * free)


def _cheapest_columns(sample: Tensor, axes: Tensor, minimum: float) -> int:
    """The K of the lowest expected cost per pair: half of `sample` (n, D) is compared with the rest."""
    order = torch.randperm(len(sample), generator=torch.Generator().manual_seed(1)).to(sample.device)
    left, right = (sample.double() @ axes)[order].float().chunk(2)
    limit = (2 - 2 * minimum) ** 0.5

    def cost(columns: int) -> float:
        k = columns - NORM_COLUMNS
        passed = float((torch.cdist(left[:, :k], right[:, :k]) <= limit).float().mean())
        return PRODUCT_COST[columns] + SURVIVOR_COST * passed

    return min(PRODUCT_COST, key=cost) if axes.shape[1] > min(PRODUCT_COST) - NORM_COLUMNS else min(PRODUCT_COST)


def fastest(join: Join) -> Join:
    """`join` with the shape that does its first launch in the least time per tile area."""
    return min((replace(join, shape=shape) for shape in SHAPES), key=seconds_per_pair)


def seconds_per_pair(join: Join) -> float:
    """How long the product and its test take for a pair: one launch, after one that compiles and warms up."""
    launch = next(_launches(_spans(join.points, join.shape), join.plan)).to(join.device)
    segments = _codes(join.plan.capacity, join.device)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.cuda.device(join.device):
        join.find(launch, segments)
        begin.record()
        join.find(launch, segments)
        end.record()
        end.synchronize()
    tiles = int((launch[:, 2] - launch[:, 1]).sum())
    return float(begin.elapsed_time(end)) / 1000 / (tiles * join.shape.rows * join.shape.columns)
