"""What mining a store would take, told before it is begun: nothing is mined, and only a sample is compared."""

import resource
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch

from blindpairs.mine.files import read_store
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.running import LOCAL, Running
from blindpairs.mine.search import Search
from blindpairs.selfjoin import JoinPlan, plan_join, row_bytes, similar_pairs
from blindpairs.store import Store

SAMPLES = (4096, 16384, 65536)  # images
ENOUGH_SECONDS = 0.5  # a sample that takes as long is the last: the next would take up to 16 times as long
THREAD_BYTES = 48 << 20  # of the join's buffers; see JoinPlan


@dataclass(frozen=True)
class MiningPlan:
    """The exact join of the images that take part, `dimensions` (k) being the axes of its bound.

    `product` is what multiplies on this machine: compiled for amx, dot or float32, or torch.
    `flops` are those of the bound if nothing were skipped, `whole_flops` those of comparing the vectors themselves.
    Bytes: vectors in memory or mapped from disk, coordinates, buffers, and what the process held before: Python and its
    libraries. `seconds` are those of the join alone, from above, for this machine: what a sample took, times the ratio
    of the pairs.
    """

    images: int
    taking_part: int
    clip_min: float
    dino_max: float
    dimensions: int
    product: str
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
        """How many pairs there are."""
        return self.taking_part * (self.taking_part - 1) // 2

    @property
    def memory_bytes(self) -> int:
        """What has to be in memory."""
        return self.vector_bytes + self.coordinate_bytes + self.buffer_bytes + self.library_bytes


def plan_mining(
    store: Store,
    options: MiningOptions | None = None,
    *,
    encoders: tuple[str, str] = ("clip", "dino"),
    running: Running = LOCAL,
) -> MiningPlan:
    """Read a store as mining would, choose k, and time the join on a sample of its images."""
    library_bytes = _peak_bytes()
    images, vectors = read_store(store, encoders, running)
    search = Search.of(vectors, images, options or MiningOptions(), running)
    options = (options or MiningOptions()).resolved(search.random_sims)
    plan = plan_join(search.clip, options.clip_min)
    count, k = len(search.ids), min(plan.dimensions, search.clip.dimension)
    pairs = count * (count - 1) // 2
    mapped = sum(one.nbytes for one in search.arrays if isinstance(one, np.memmap))
    return MiningPlan(
        images=len(images),
        taking_part=count,
        clip_min=options.clip_min,
        dino_max=options.dino_max,
        dimensions=k,
        product=code.kind if (code := plan.code(search.clip.device)) else "torch",
        flops=2 * plan.layout(search.clip.device).columns(k) * pairs,
        whole_flops=2 * search.clip.dimension * pairs,
        vector_bytes=sum(one.nbytes for one in search.arrays) - mapped,
        mapped_bytes=mapped,
        coordinate_bytes=count * row_bytes(plan, search.clip.device),
        buffer_bytes=THREAD_BYTES * torch.get_num_threads(),
        library_bytes=library_bytes,
        seconds=_seconds(search, options, plan),
    )


def _peak_bytes() -> int:
    """The most that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _seconds(search: Search, options: MiningOptions, plan: JoinPlan) -> float:
    """The time of the whole join, from above: a larger one skips more, so its pairs cost no more than a sample's."""
    count = len(search.ids)
    _timed(search, options, plan, SAMPLES[0])  # the first of all also loads what it needs
    large, many = _timed(search, options, plan, SAMPLES[0])
    per_pair = large / max(1.0, _pairs(many))
    for size in SAMPLES[1:]:
        small, few = large, many
        if few == count or small > ENOUGH_SECONDS:
            break
        large, many = _timed(search, options, plan, size)
        per_pair = max(0.0, large - small) / (_pairs(many) - _pairs(few))  # without what beginning takes
    return large + per_pair * (_pairs(count) - _pairs(many))


def _pairs(count: int) -> float:
    return count * (count - 1) / 2


def _timed(search: Search, options: MiningOptions, plan: JoinPlan, size: int) -> tuple[float, int]:
    """Seconds of the join of some of the images, and of how many."""
    clip, dino = (rows.part(size, options.seed) for rows in (search.clip, search.dino))
    started = time.perf_counter()
    for _ in similar_pairs(clip, options.clip_min, other=dino, plan=plan):
        pass
    return time.perf_counter() - started, clip.count
