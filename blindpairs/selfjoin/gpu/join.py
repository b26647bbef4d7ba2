"""The join on GPUs: what `join.similar_pairs` promises, with the kernels of `kernels.py`.

The rows are ordered along their first axis, so the partners of a block of rows form one range of places: whatever lies
farther off than `reach` on that axis alone is never visited. The tiles that remain are cut into items (one block of
rows, one strip of columns) and these into launches. Two workers per GPU, each a thread with its own stream and buffers,
take the launches in turn: while the survivors of one are decided, the next one computes. A launch whose survivors
overflow its buffer is done again in smaller parts, so the buffer bounds memory and never the result.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from subprocess import SubprocessError
from typing import Any

import torch
from torch import Tensor
from triton.errors import TritonError

from blindpairs.progress import Progress, silent
from blindpairs.selfjoin.bound import principal_axes
from blindpairs.selfjoin.device import CannotRun, Hardware
from blindpairs.selfjoin.gpu.memory import HostTiles, Steps, unless_out_of_memory
from blindpairs.selfjoin.gpu.points import DevicePoints, DeviceRows, pack_points
from blindpairs.selfjoin.gpu.streams import StreamWorker
from blindpairs.selfjoin.gpu.tiles import Shape, Tiles, empty_list, fits, is_right
from blindpairs.selfjoin.points import NORM_COLUMNS
from blindpairs.selfjoin.rows import PairBlock, UnitRows, refuse_unfit

SAMPLE_ROWS = 4096
GROUP_BLOCKS = 512  # row blocks that pass over a strip together: it is read once from memory and then from L2
WORTH_TUNING = 2.0e13  # pairs, some 10 s of work: to compile and time every shape takes about as long
# Expected cost in ps per pair of the product, and per pair that passed of expanding and deciding it.
PRODUCT_COST = {64: 0.3, 128: 0.5}
SURVIVOR_COST = 4000.0
# Errors of drivers, compilers and launches, which depend on the machine. Anything else is a bug of ours.
FAILURES = (RuntimeError, OSError, ImportError, SubprocessError, TritonError)


SHAPES = (Shape(), Shape(256, 128, 8), Shape(128, 256, 8), Shape(128, 64, 4, 4))


@dataclass(frozen=True)
class GpuPlan:
    """The numbers that change the speed and memory of a join on GPUs, never its result.

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
    streams: int = 2  # for each device
    whole_share: float = 0.5  # of a device's free memory: vectors that take less are copied there
    seed: int = 0


def similar_pairs_cuda(
    rows: UnitRows,
    minimum: float,
    *,
    other: UnitRows | None = None,
    plan: GpuPlan | None = None,
    progress: Progress = silent,
    hardware: Hardware | None = None,
) -> Iterator[PairBlock]:
    """Every pair of `rows` with cosine >= `minimum`, each once, in blocks in host memory: see `join.similar_pairs`.

    The blocks and their order depend on the data, the plan and the shape of tile alone, as long as memory suffices.
    Device memory: 256 or 512 bytes a row, two buffers a stream, and the vectors if they fit. If it runs out, steps
    become smaller, and the CPU does those that do not fit at all, which `hardware` records.
    `progress(done, total)` counts tiles of the pair matrix. Raises ConfigError for a `minimum` that is no cosine
    and where there is no GPU, CannotRun where none does what it should.
    """
    refuse_unfit(rows, minimum, other)
    if rows.count < 2:
        return
    plan = plan or GpuPlan()
    hardware = hardware or Hardware("cpu" if plan.devices else "cuda")
    joins = ready(rows, other, minimum, plan, hardware)
    hardware.uses("triton", *(str(join.device) for join in joins))
    spans = _spans(joins[0].points, joins[0].shape)
    done, total = 0, int((spans[:, 2] - spans[:, 1]).sum())
    with ExitStack() as stack:
        workers: list[StreamWorker] = []
        for join in joins * plan.streams:
            workers.append(StreamWorker(join.device, join.blocks))
            stack.callback(workers[-1].close)
        progress(done, total)
        for worker, tiles in _dealt(_launches(spans, plan), workers):
            yield from worker.blocks()
            done += tiles
            progress(done, total)


def _dealt(launches: Iterator[Tensor], workers: list[StreamWorker]) -> Iterator[tuple[StreamWorker, int]]:
    """Submit the launches to the workers in turn, a few ahead: (the worker with the next blocks, its tiles)."""
    running: deque[tuple[StreamWorker, int]] = deque()
    for launch, worker in zip(launches, cycle(workers), strict=False):
        worker.submit(launch)
        running.append((worker, int((launch[:, 2] - launch[:, 1]).sum())))
        if len(running) > 2 * len(workers):
            yield running.popleft()
    yield from running


@dataclass(frozen=True)
class DeviceJoin:
    """What the workers of one device share; only `steps` changes."""

    points: DevicePoints
    rows: DeviceRows
    other: DeviceRows | None
    tiles: Tiles
    minimum: float
    hardware: Hardware
    steps: Steps = field(compare=False)
    host: HostTiles = field(compare=False)

    @property
    def device(self) -> torch.device:
        """The device of the points."""
        return self.points.packed.device

    @property
    def shape(self) -> Shape:
        """The shape of its tiles."""
        return self.tiles.shape

    def blocks(self, launch: Tensor) -> Iterator[PairBlock]:
        """The pairs of `launch` (n, 3), which is done in parts where it overflows a buffer or the memory."""
        parts = [launch]
        while parts:
            items, capacity = parts.pop(), self.steps.capacity
            if self.steps.exhausted:
                yield from self._on_host(items)
                continue
            found = unless_out_of_memory(partial(self.tiles.pieces, items, capacity))
            if found is None:
                self.steps.smaller(capacity, self.steps.segments)
                parts.append(items)
            elif found[0] > capacity:
                parts += reversed(_split(items, 2 * -(-found[0] // capacity)))
            else:
                yield from self._decided(found[1])

    def _decided(self, segments: Tensor) -> Iterator[PairBlock]:
        left = [segments] if len(segments) else []
        while left:
            size = self.steps.segments
            some, *rest = left.pop().split(size)
            left += [torch.cat(rest)] if rest else []
            block = None if self.steps.exhausted else unless_out_of_memory(partial(self._block, some))
            if block is not None:
                yield block
            elif self.steps.exhausted:
                yield from self._on_host_segments(some)
            else:
                self.steps.smaller(self.steps.capacity, len(some))
                left.append(some)

    def _block(self, segments: Tensor) -> PairBlock:
        codes = self.tiles.expanded(segments)
        a, b = self.points.order[codes >> 32], self.points.order[codes & 0xFFFFFFFF]
        i, j = torch.minimum(a, b), torch.maximum(a, b)
        similarity = self.rows.cosines(i, j)
        wanted = similarity >= self.minimum
        i, j, similarity = i[wanted], j[wanted], similarity[wanted]
        other = self.other.cosines(i, j).cpu() if self.other is not None else None
        return PairBlock(i.cpu(), j.cpu(), similarity.cpu(), other)

    def _on_host(self, items: Tensor) -> Iterator[PairBlock]:
        self.hardware.uses("torch", "cpu")
        rows, columns = self.shape.rows, self.shape.columns
        for block, first, end in items.tolist():
            yield from self.host.pairs(block * rows, rows, first * columns, (end - first) * columns)

    def _on_host_segments(self, segments: Tensor) -> Iterator[PairBlock]:
        self.hardware.uses("torch", "cpu")
        for code in segments.tolist():
            yield from self.host.pairs(code >> 32, 1, code & 0xFFFFFFFF, self.shape.columns)


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


def ready(
    rows: UnitRows, other: UnitRows | None, minimum: float, plan: GpuPlan, hardware: Hardware
) -> list[DeviceJoin]:
    """`prepare`, with the vectors left on the host where they do not fit beside the rest; CannotRun says why not."""
    try:
        joins = unless_out_of_memory(lambda: prepare(rows, other, minimum, plan, hardware))
        if joins is None and plan.whole_share > 0:
            hardware.notice("the GPU ran out of memory with the vectors in it: they stay where they are")
            less = replace(plan, whole_share=0.0)
            joins = unless_out_of_memory(lambda: prepare(rows, other, minimum, less, hardware))
    except FAILURES as error:
        raise CannotRun(f"the GPU's kernels do not run ({_said(error)})") from error
    if joins is None:
        raise CannotRun("the GPU has too little memory for a join of these vectors")
    return joins


def prepare(
    rows: UnitRows, other: UnitRows | None, minimum: float, plan: GpuPlan, hardware: Hardware
) -> list[DeviceJoin]:
    """Project on the first device, and give every device what it needs."""
    devices = [torch.device(name) for name in plan.devices or hardware.gpus]
    resident = [_resident(rows, device, plan) for device in devices]
    sample = rows.sample(SAMPLE_ROWS, plan.seed).to(devices[0])
    axes = principal_axes(sample)
    columns = plan.columns or _cheapest_columns(sample, axes, minimum)
    worth_tuning = rows.count**2 / 2 > WORTH_TUNING
    shapes = proven([plan.shape] if plan.shape else SHAPES, devices, columns, enough=len(SHAPES) if worth_tuning else 1)
    points = pack_points(resident[0], axes[:, : columns - NORM_COLUMNS], minimum, columns)
    joins: list[DeviceJoin] = []
    for device, unit_rows in zip(devices, resident, strict=True):
        others = _resident(other, device, plan) if other is not None else None
        there = points.on(device)
        if device == devices[0] and len(shapes) > 1:
            shapes = [min(shapes, key=lambda shape: seconds_per_pair(points, shape, plan))]
        shape = shapes[0]
        steps = Steps(str(device), plan.capacity, plan.block_pairs // shape.columns, shape.rows, hardware.notice)
        host = HostTiles(there, unit_rows, others, minimum)
        joins.append(DeviceJoin(there, unit_rows, others, Tiles(there.packed, shape), minimum, hardware, steps, host))
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the workers' streams do not wait for this one
    return joins


def why_not_trusted(name: str) -> str:
    """What is wrong with the kernels on this device, found by a small join; empty if nothing is."""
    try:
        proven(SHAPES, [torch.device(name)], min(PRODUCT_COST), enough=1)
    except CannotRun as error:
        return str(error)
    except FAILURES as error:
        return f"the GPU's kernels do not run ({_said(error)})"
    return ""


def proven(shapes: Sequence[Shape], devices: Sequence[torch.device], columns: int, *, enough: int) -> list[Shape]:
    """The first of `shapes`, at most `enough`, that every device has room for, once it computes what it should."""
    found: list[Shape] = []
    for shape in shapes:
        if len(found) < enough and all(_has_room(device, columns, shape) for device in devices):
            wrong = [device for device in devices if not _right_on(device, columns, shape)]
            if wrong:
                raise CannotRun(f"{wrong[0]} finds other pairs than it should in a small join")
            found.append(shape)
    if not found:
        raise CannotRun("no shape of tile has room in the shared memory of the GPU")
    return found


def _has_room(device: torch.device, columns: int, shape: Shape) -> bool:
    if device.type == "cuda":
        card: Any = torch.cuda.get_device_properties(device)
        # A torch that does not know the limit leaves it to Triton, which does.
        limit = getattr(card, "shared_memory_per_block_optin", 1 << 30)
        if shape.shared_bytes(columns, card.major) > limit:
            return False
    with _current(device):
        return fits(device, columns, shape)


def _right_on(device: torch.device, columns: int, shape: Shape) -> bool:
    with _current(device):
        return is_right(device, columns, shape)


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, whatever the tensors lie on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _said(error: BaseException) -> str:
    """The first line of an error, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _resident(rows: UnitRows, device: torch.device, plan: GpuPlan) -> DeviceRows:
    size = rows.count * rows.dimension * rows.vectors.element_size()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else torch.inf
    return DeviceRows(rows, device, rows.device == device or size < plan.whole_share * free)


def choose_columns(rows: UnitRows, minimum: float, plan: GpuPlan) -> int:
    """K of the product that a join of `rows` would use, chosen on a sample where the rows lie."""
    sample = rows.sample(SAMPLE_ROWS, plan.seed)
    return plan.columns or _cheapest_columns(sample, principal_axes(sample), minimum)


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


def seconds_per_pair(points: DevicePoints, shape: Shape, plan: GpuPlan) -> float:
    """How long the product and its test take for a pair: one launch, after one that compiles and warms up."""
    device = points.packed.device
    launch = next(_launches(_spans(points, shape), plan)).to(device)
    tiles, segments = Tiles(points.packed, shape), empty_list(plan.capacity, device)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.cuda.device(device):
        tiles.find(launch, segments)
        begin.record()
        tiles.find(launch, segments)
        end.record()
        end.synchronize()
    count = int((launch[:, 2] - launch[:, 1]).sum())
    return float(begin.elapsed_time(end)) / 1000 / (count * shape.rows * shape.columns)
