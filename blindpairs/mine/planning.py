"""What mining a store would take: nothing is mined, and only samples are compared."""

import resource
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from blindpairs.defaults import COLUMNS
from blindpairs.mine.files import read_store
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.search import LOCAL, Running, Search
from blindpairs.selfjoin import Hardware, JoinPlan, UnitRows, plan_join, row_bytes, similar_pairs
from blindpairs.selfjoin.bound import NORM_COLUMNS
from blindpairs.store import Store

SAMPLES = (4096, 16384, 65536)  # images
ENOUGH_SECONDS = 0.5  # after a sample this slow there is no larger one, which would take up to 16 times as long
THREAD_BYTES = 48 << 20  # of the join's buffers, for each thread


@dataclass(frozen=True)
class MiningPlan:
    """The exact join of the images that take part, on the engine that mining will use.

    `engine` is its name: amx, avx512-bf16 or float32 of compiled code, torch, or triton; `timed_on` is its device.
    `dimensions` (k) are the axes of the bound, `flops` those of the bound if nothing were skipped, and `whole_flops`
    those of comparing the whole vectors. Bytes: vectors in memory or mapped from disk, coordinates, buffers, and
    Python with its libraries. With a GPU, coordinates and buffers are those of the CPU, which may have to take over.
    `seconds` is an upper estimate of the join alone: the time of a sample times the ratio of the pairs.
    """

    images: int
    taking_part: int
    clip_min: float
    dino_max: float
    dimensions: int
    engine: str
    timed_on: str
    flops: int
    whole_flops: int
    vector_bytes: int
    mapped_bytes: int
    coordinate_bytes: int
    buffer_bytes: int
    library_bytes: int
    seconds: float

    @property
    def pairs(self) -> int:
        """The pairs of the images that take part."""
        return self.taking_part * (self.taking_part - 1) // 2

    @property
    def memory_bytes(self) -> int:
        """The memory that mining needs."""
        return self.vector_bytes + self.coordinate_bytes + self.buffer_bytes + self.library_bytes


def plan_mining(
    store: Store,
    options: MiningOptions | None = None,
    *,
    encoders: tuple[str, str] = COLUMNS,
    running: Running = LOCAL,
    hardware: Hardware | None = None,
) -> MiningPlan:
    """Read a store as mining would, choose k, and time the exact join on a sample of its images.

    `hardware` is what mining will use, by default everything that this machine has.
    """
    hardware = hardware or Hardware()
    library_bytes = _peak_bytes()
    images, vectors = read_store(store, encoders, running)
    search = Search.of(vectors, images, options or MiningOptions(), running)
    options = (options or MiningOptions()).resolved(search.random_sims)
    if not hardware.compiled:
        search = replace(search, clip=search.clip.without_compiled_code())
    rows, count = search.clip, len(search.ids)
    plan = plan_join(rows, options.clip_min)
    seconds = _seconds(search, options, plan, hardware)  # a GPU that fails leaves `hardware` with the CPU alone
    k, columns = _bound(rows, options.clip_min, plan, hardware)
    pairs = count * (count - 1) // 2
    mapped = sum(one.nbytes for one in search.arrays if isinstance(one, np.memmap))
    return MiningPlan(
        images=len(images),
        taking_part=count,
        clip_min=options.clip_min,
        dino_max=options.dino_max,
        dimensions=k,
        engine=hardware.engines() or (rows.code.kind if rows.code else "torch"),
        timed_on=hardware.describe(),
        flops=2 * columns * pairs,
        whole_flops=2 * rows.dimension * pairs,
        vector_bytes=sum(one.nbytes for one in search.arrays) - mapped,
        mapped_bytes=mapped,
        coordinate_bytes=count * row_bytes(plan, rows.layout),
        buffer_bytes=THREAD_BYTES * torch.get_num_threads(),
        library_bytes=library_bytes,
        seconds=seconds,
    )


def _bound(rows: UnitRows, minimum: float, plan: JoinPlan, hardware: Hardware) -> tuple[int, int]:
    """The axes of the bound, and the columns of the product that computes it."""
    if hardware.gpus:
        from blindpairs.selfjoin.gpu.tuning import GpuPlan, choose_columns  # late: it loads Triton

        columns = choose_columns(rows, minimum, GpuPlan())
        return min(columns - NORM_COLUMNS, rows.dimension), columns
    k = min(plan.dimensions, rows.dimension)
    return k, rows.layout.columns(k)


def _peak_bytes() -> int:
    """The peak memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _seconds(search: Search, options: MiningOptions, plan: JoinPlan, hardware: Hardware) -> float:
    """An upper estimate for the whole join: a larger one skips more, so its pairs cost no more than a sample's."""
    count = len(search.ids)
    _timed(search, options, plan, hardware, SAMPLES[0])  # the first run also loads libraries and compiles
    large, many = _timed(search, options, plan, hardware, SAMPLES[0])
    per_pair = large / max(1.0, _pairs(many))
    for size in SAMPLES[1:]:
        small, few = large, many
        if few == count or small > ENOUGH_SECONDS:
            break
        large, many = _timed(search, options, plan, hardware, size)
        per_pair = max(0.0, large - small) / (_pairs(many) - _pairs(few))  # without the start-up time
    return large + per_pair * (_pairs(count) - _pairs(many))


def _pairs(count: int) -> float:
    return count * (count - 1) / 2


def _timed(search: Search, options: MiningOptions, plan: JoinPlan, hardware: Hardware, size: int) -> tuple[float, int]:
    """The seconds of the join of a sample of the images, and the number of images in it."""
    clip, dino = (rows.part(size, options.seed) for rows in (search.clip, search.dino))
    started = time.perf_counter()
    for _ in similar_pairs(clip, options.clip_min, other=dino, plan=plan, hardware=hardware):
        pass
    return time.perf_counter() - started, clip.count
