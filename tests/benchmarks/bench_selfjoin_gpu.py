"""The GPU's join at the size of ImageNet-1k and at ten million rows: time, share of the card's own peak, and rivals.

    python tests/benchmarks/bench_selfjoin_gpu.py [--json] [--rows N ...] [--dimension D ...] [--minimum COSINE]

Timed is all from vectors on the device to verified pairs in host memory. Every run is checked: for some rows all their
cosines are computed in float64, and the pairs found must be exactly those. Where there is no GPU it says so and ends.
"""

import argparse
import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from blindpairs.errors import ConfigError
from blindpairs.selfjoin import Hardware, UnitRows
from blindpairs.selfjoin.device import CannotRun

IMAGENET_ROWS = 1_281_167
SUITE = ((IMAGENET_ROWS, 768), (IMAGENET_ROWS, 1024), (10_000_000, 768))
CHECKED_ROWS = 256
RIVAL_ROWS = 16_384  # queries that a rival is timed on; its time for all rows follows from it
SLACK = 1e-12

Figures = dict[str, Any]


def vectors_like_embeddings(count: int, dimension: int, device: torch.device) -> Tensor:
    """(count, D) float16: 1000 classes in a cone, variance 1/i along axis i, and 1 % near duplicates of other rows.

    A near duplicate has a cosine spread evenly from 0.88 to 1 with its source.
    """
    draw = torch.Generator(device).manual_seed(0)
    spread = (1 / torch.arange(1, dimension + 1, device=device)).div(sum(1 / i for i in range(1, dimension + 1))).sqrt()
    cone = torch.nn.functional.normalize(torch.randn(dimension, generator=draw, device=device), dim=0) * 0.5**0.5
    centres = torch.randn(1000, dimension, generator=draw, device=device) * spread / 2
    rows = torch.empty(count, dimension, dtype=torch.float16, device=device)
    for part in rows.split(1 << 16):
        label = torch.randint(1000, (len(part),), generator=draw, device=device)
        noise = torch.randn(len(part), dimension, generator=draw, device=device) * spread / 2
        part.copy_(torch.nn.functional.normalize(cone + centres[label] + noise, dim=1))
    source, target = torch.randint(count, (2, count // 100), generator=draw, device=device)
    kept = rows[source].float()
    away = torch.randn(kept.shape, generator=draw, device=device)
    away = torch.nn.functional.normalize(away - (away * kept).sum(1, keepdim=True) * kept, dim=1)
    cosine = 0.88 + 0.12 * torch.rand(len(kept), 1, generator=draw, device=device)
    rows[target] = (cosine * kept + (1 - cosine**2).sqrt() * away).half()
    return rows


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median time of `work` on the device, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times)[repeats // 2]


def peak_tflops(device: torch.device) -> float:
    """What torch's own bf16 product reaches on random numbers, in TFLOP/s."""
    side = 8192
    left, right = torch.randn(2, side, side, device=device).bfloat16()
    return 2 * side**3 / seconds(lambda: left @ right, 10) / 1e12


def described(device: torch.device) -> Figures:
    """The card and the software, without which no figure says anything."""
    import triton

    card: Any = torch.cuda.get_device_properties(device)
    return {
        "device": card.name,
        "compute capability": f"{card.major}.{card.minor}",
        "device memory, GiB": card.total_memory / 2**30,
        "multiprocessors": card.multi_processor_count,
        "torch": torch.__version__,
        "Triton": triton.__version__,
    }


def joined(vectors: Tensor, minimum: float) -> tuple[float, Tensor]:
    """Seconds of a whole join of `vectors` (N, D), and its pairs (2, n)."""
    from blindpairs.selfjoin.gpu.join import similar_pairs_cuda

    torch.cuda.synchronize()
    started = time.perf_counter()
    blocks = list(similar_pairs_cuda(UnitRows(vectors), minimum))
    took = time.perf_counter() - started
    return took, torch.cat([torch.stack([block.i, block.j]) for block in blocks], 1)


def wrong_pairs(vectors: Tensor, minimum: float, pairs: Tensor) -> int:
    """How many pairs of some rows are missing or too many, against all their cosines in float64."""
    rows = UnitRows(vectors)
    chosen = torch.randperm(rows.count, generator=torch.Generator().manual_seed(2))[:CHECKED_ROWS]
    chosen = torch.cat([chosen, pairs[0, :: max(1, pairs.shape[1] // CHECKED_ROWS)]]).unique().to(rows.device)
    queries = rows.take(chosen).double()
    must, may = set[tuple[int, int]](), set[tuple[int, int]]()
    for start in range(0, rows.count, 1 << 15):
        cosines = queries @ rows.block(start, min(start + (1 << 15), rows.count)).double().T
        for wanted, least in ((must, minimum + SLACK), (may, minimum - SLACK)):
            query, column = (cosines >= least).nonzero(as_tuple=True)
            ends = torch.stack([chosen[query], column + start]).sort(0).values
            wanted.update((i, j) for i, j in ends.T.tolist() if i < j)
    of_these = torch.isin(pairs, chosen.cpu()).any(0)
    found = {(i, j) for i, j in pairs[:, of_these].T.tolist()}
    return len(must - found) + len(found - may)


def picoseconds_by_shape(vectors: Tensor, minimum: float) -> dict[str, float]:
    """The product and its test alone, ps per pair, for every K and shape of tile."""
    from blindpairs.selfjoin.gpu import tuning
    from blindpairs.selfjoin.gpu.join import prepare

    found = {}
    for columns, shape in itertools.product(tuning.PRODUCT_COST, tuning.SHAPES):
        plan = tuning.GpuPlan(columns=columns, shape=shape, devices=(str(vectors.device),))
        try:
            (join,) = prepare(UnitRows(vectors), None, minimum, plan, Hardware("cuda"))
        except CannotRun:  # no room for this shape on this card
            continue
        name = f"K {columns}, {shape.rows} x {shape.columns}, {shape.warps} warps, {shape.stages} stages"
        found[name] = tuning.seconds_per_pair(join.points, shape, plan) * 1e12
    return found


def plain_torch(vectors: Tensor, minimum: float) -> float:
    """Seconds that float16 products over all D columns and a threshold take for half the matrix, nothing verified."""
    queries = vectors[:RIVAL_ROWS]

    def search() -> None:
        for block in vectors.split(1 << 16):
            (queries @ block.T >= minimum).nonzero()

    return seconds(search, 3) * len(vectors) / RIVAL_ROWS / 2


def faiss_flat(vectors: Tensor) -> float | None:
    """Seconds of FAISS's exact search for the 32 nearest of every row on this GPU, where it has none by threshold."""
    if importlib.util.find_spec("faiss") is None:
        return None
    import faiss

    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return None
    options = faiss.GpuIndexFlatConfig()
    options.useFloat16 = True
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), vectors.shape[1], options)
    for block in vectors.split(1 << 16):
        index.add(block.float().cpu().numpy())
    queries = vectors[:RIVAL_ROWS].float().cpu().numpy()
    return seconds(lambda: index.search(queries, 32), 1) * len(vectors) / RIVAL_ROWS


def measured(count: int, dimension: int, minimum: float, peak: float) -> Figures:
    """All figures of one size; the join is run twice, for the first one compiles."""
    from blindpairs.selfjoin.gpu.join import prepare
    from blindpairs.selfjoin.gpu.tuning import GpuPlan

    device = torch.device("cuda:0")
    vectors = vectors_like_embeddings(count, dimension, device)
    first, _ = joined(vectors, minimum)
    torch.cuda.reset_peak_memory_stats()
    took, pairs = joined(vectors, minimum)
    memory = torch.cuda.max_memory_allocated() / 2**30
    plan, hardware = GpuPlan(devices=("cuda:0",)), Hardware("cuda")
    columns = prepare(UnitRows(vectors), None, minimum, plan, hardware)[0].points.columns
    compared = count * (count - 1) / 2
    limit = 2 * columns / peak  # ps per pair, were every pair compared at the measured peak
    return {
        "rows": count,
        "dimension": dimension,
        "minimum": minimum,
        "K": columns,
        "pairs": pairs.shape[1],
        "wrong pairs": wrong_pairs(vectors, minimum, pairs),
        "seconds": took,
        "seconds, first run": first,
        "ps per pair at the limit": limit,
        "ps per pair": took / compared * 1e12,
        "share of the limit (the measured bf16 peak)": limit / (took / compared * 1e12),
        "peak memory of the join, GiB": memory,
        "product alone, ps per pair": picoseconds_by_shape(vectors, minimum),
        "plain torch over all columns, seconds": plain_torch(vectors, minimum),
        "FAISS GpuIndexFlatIP, 32 nearest, seconds": faiss_flat(vectors),
    }


def lines(figures: Figures, indent: str = "") -> Iterator[str]:
    """One line per figure."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from lines(value, indent + "    ")
        else:
            yield f"{indent}{name:<{68 - len(indent)}}{f'{value:.4g}' if isinstance(value, float) else value}"


def main() -> None:
    options = argparse.ArgumentParser(description="Measure the GPU's join.")
    options.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options.add_argument("--rows", type=int, action="append", help="instead of the suite; may be repeated")
    options.add_argument("--dimension", type=int, action="append", help="with --rows; 768 if not given")
    options.add_argument("--minimum", type=float, default=0.95)
    given = options.parse_args()
    try:
        Hardware("cuda")
    except ConfigError as error:
        sys.stdout.write(f"no GPU, nothing measured: {error}\n")
        return
    peak = peak_tflops(torch.device("cuda:0"))
    result: Figures = described(torch.device("cuda:0")) | {"measured bf16 TFLOP/s": peak}
    sizes = list(itertools.product(given.rows, given.dimension or [768])) if given.rows else SUITE
    for rows, dimension in sizes:
        result[f"{rows} x {dimension}"] = measured(rows, dimension, given.minimum, peak)
        torch.cuda.empty_cache()
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if given.json else "\n".join(lines(result)) + "\n")


if __name__ == "__main__":
    main()
