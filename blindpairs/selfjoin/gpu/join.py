"""The join on GPUs: what `join.similar_pairs` promises, with the kernels of `kernels.py`.

The pair matrix is cut into launches (`launches.py`). Each GPU has two workers, threads with a CUDA stream and buffers
of their own, that take the launches in turn: while one decides the pairs that passed its launch, the other computes the
next. A launch that reports more row segments than its buffer holds is done again in smaller parts, so the size of the
buffer limits memory and never the result.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from blindpairs.progress import Progress, silent
from blindpairs.selfjoin.bound import NORM_COLUMNS, principal_axes
from blindpairs.selfjoin.device import CannotRun, Hardware
from blindpairs.selfjoin.gpu.launches import launches, spans, split, tile_count
from blindpairs.selfjoin.gpu.memory import HostTiles, Steps, unless_out_of_memory
from blindpairs.selfjoin.gpu.points import DevicePoints, DeviceRows, pack_points
from blindpairs.selfjoin.gpu.selftest import FAILURES, kernels_do_not_run, tested_shapes
from blindpairs.selfjoin.gpu.streams import StreamWorker
from blindpairs.selfjoin.gpu.tiles import Shape, Tiles
from blindpairs.selfjoin.gpu.tuning import (
    SHAPES,
    TIMED_PAIRS,
    GpuPlan,
    cheapest_columns,
    seconds_per_pair,
)
from blindpairs.selfjoin.rows import PairBlock, UnitRows, refuse_unfit
from blindpairs.selfjoin.tuning import SAMPLE_ROWS


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
    and if there is no GPU, CannotRun if the GPUs there are cannot run the kernels or have too little memory.
    """
    refuse_unfit(rows, minimum, other)
    if rows.count < 2:
        return
    plan = plan or GpuPlan()
    hardware = hardware or Hardware("cpu" if plan.devices else "cuda")
    joins = prepare_within_memory(rows, other, minimum, plan, hardware)
    hardware.uses("triton", *(str(join.device) for join in joins))
    all_spans = spans(joins[0].points, joins[0].shape)  # (row blocks, 3): the shape is the same on every device
    done, total = 0, tile_count(all_spans)
    with ExitStack() as stack:
        workers: list[StreamWorker] = []
        for join in joins * plan.streams:
            workers.append(StreamWorker(join.device, join.blocks))
            stack.callback(workers[-1].close)  # at once: if the next thread cannot start, this one still ends
        progress(done, total)
        for worker, tiles in _submitted(launches(all_spans, plan.strip, plan.launch_tiles), workers):
            yield from worker.blocks()
            done += tiles
            progress(done, total)


def _submitted(cut: Iterator[Tensor], workers: list[StreamWorker]) -> Iterator[tuple[StreamWorker, int]]:
    """Submit the launches to the workers in turn, a few ahead: (the worker with the next blocks, its tiles)."""
    running: deque[tuple[StreamWorker, int]] = deque()
    for launch, worker in zip(cut, cycle(workers), strict=False):
        worker.submit(launch)
        running.append((worker, tile_count(launch)))
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
        parts = [launch]  # a stack, the next part last
        while parts:
            items, capacity = parts.pop(), self.steps.capacity
            if self.steps.exhausted:
                yield from self._on_host(items)
                continue
            found = unless_out_of_memory(partial(self.tiles.find_segments, items, capacity))
            if found is None:
                self.steps.shrink(capacity, self.steps.segments)
                parts.append(items)
                continue
            count, segments = found
            if count > capacity:  # twice as many parts as would do if the segments were spread evenly
                parts += reversed(split(items, 2 * -(-count // capacity)))
            else:
                yield from self._decided(segments)

    def _decided(self, segments: Tensor) -> Iterator[PairBlock]:
        """The pairs of the row segments (n,) int64 codes, as many at a time as fit into memory."""
        rest = segments
        while len(rest):
            batch = rest[: self.steps.segments]
            block = None if self.steps.exhausted else unless_out_of_memory(partial(self._block, batch))
            if block is not None:
                yield block
            elif self.steps.exhausted:
                yield from self._segments_on_host(batch)
            else:
                self.steps.shrink(self.steps.capacity, len(batch))
                continue  # the same segments again, fewer of them
            rest = rest[len(batch) :]

    def _block(self, segments: Tensor) -> PairBlock:
        codes = self.tiles.expand_segments(segments)  # (pairs,) int64: two places in each
        a, b = self.points.order[codes >> 32], self.points.order[codes & 0xFFFFFFFF]  # places -> row numbers
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

    def _segments_on_host(self, segments: Tensor) -> Iterator[PairBlock]:
        self.hardware.uses("torch", "cpu")
        for code in segments.tolist():
            yield from self.host.pairs(code >> 32, 1, code & 0xFFFFFFFF, self.shape.columns)


def prepare_within_memory(
    rows: UnitRows, other: UnitRows | None, minimum: float, plan: GpuPlan, hardware: Hardware
) -> list[DeviceJoin]:
    """`prepare`, with the vectors left on the host if they do not fit beside the rest. Raises CannotRun with why."""
    try:
        joins = unless_out_of_memory(lambda: prepare(rows, other, minimum, plan, hardware))
        if joins is None and plan.resident_share > 0:
            hardware.notice("the GPU ran out of memory with the vectors in it: they stay where they are")
            on_host = replace(plan, resident_share=0.0)
            joins = unless_out_of_memory(lambda: prepare(rows, other, minimum, on_host, hardware))
    except FAILURES as error:
        raise CannotRun(kernels_do_not_run(error)) from error
    if joins is None:
        raise CannotRun("the GPU has too little memory for a join of these vectors")
    return joins


def prepare(
    rows: UnitRows, other: UnitRows | None, minimum: float, plan: GpuPlan, hardware: Hardware
) -> list[DeviceJoin]:
    """Project the rows on the first device, and copy to every device what it needs."""
    devices = [torch.device(name) for name in plan.devices or hardware.gpus]
    device_rows = [_on_device(rows, device, plan) for device in devices]
    sample = rows.sample(SAMPLE_ROWS, plan.seed).to(devices[0])
    axes = principal_axes(sample)  # (D, up to 124)
    columns = plan.columns or cheapest_columns(sample, axes, minimum)
    # Timing is worth its time for many pairs only; else the first shape that works is taken.
    enough = len(SHAPES) if rows.count**2 / 2 > TIMED_PAIRS else 1
    shapes = tested_shapes([plan.shape] if plan.shape else SHAPES, devices, columns, enough=enough)
    points = pack_points(device_rows[0], axes[:, : columns - NORM_COLUMNS], minimum, columns)
    joins: list[DeviceJoin] = []
    for device, unit_rows in zip(devices, device_rows, strict=True):
        others = _on_device(other, device, plan) if other is not None else None
        on_device = points.on(device)
        if device == devices[0] and len(shapes) > 1:  # timed on one device, and the same shape on all
            shapes = [min(shapes, key=lambda shape: seconds_per_pair(points, shape, plan))]
        shape = shapes[0]
        # One tile reports at most as many segments as it has rows: with room for those, splitting a launch ends.
        steps = Steps(str(device), plan.capacity, plan.block_pairs // shape.columns, shape.rows, hardware.notice)
        host = HostTiles(on_device, unit_rows, others, minimum)
        joins.append(
            DeviceJoin(on_device, unit_rows, others, Tiles(on_device.packed, shape), minimum, hardware, steps, host)
        )
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the workers' streams do not wait for this one
    return joins


def _on_device(rows: UnitRows, device: torch.device, plan: GpuPlan) -> DeviceRows:
    size = rows.count * rows.dimension * rows.vectors.element_size()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else torch.inf
    return DeviceRows(rows, device, rows.device == device or size < plan.resident_share * free)
