"""The self-join beside FAISS and a plain tiled product: same pairs, time, memory. Run this file; --help says the rest.

    python tests/benchmarks/bench_selfjoin.py --count 10000 50000
    python tests/benchmarks/bench_selfjoin.py --count 1000000 --json

All methods run in one process, after each other, on the same vectors; compare the ratios, not the seconds, of machines
that do other things too. Memory is the growth of a fresh process's peak over what it held with its imports and the
vectors. Above --reference-limit the exact references are left out, and our pairs are checked on 256 rows against all.
Besides vectors.py's the CLIP vectors of the demo are joined: few, in few dimensions, and with many pairs.

**The limit.** A join that skipped nothing would multiply every pair over the K columns of its bound; the rate of that
is set against what torch's best product of large matrices reaches in the same run, in the same number format. More
than 100 % is what skipping saves.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vectors import Likeness, make_vectors

from blindpairs.selfjoin import Hardware, UnitRows, pair_cosines, plan_join, similar_pairs
from blindpairs.store import Store

BAND = 1e-6  # float32 products of two libraries differ by less; such pairs are decided in float64 by both sides here
TILE = 4096

PANORAMA_LEVELS = 64  # with 8, or without the turn, it is no faster than the flat index

Found = tuple[Tensor, Tensor]


class Search:
    """The seconds of the part of a method that is no preparation."""

    def __init__(self) -> None:
        self.wall, self.processor = 0.0, 0.0

    def begin(self) -> None:
        self.wall, self.processor = -time.perf_counter(), -time.process_time()

    def end(self) -> None:
        self.wall += time.perf_counter()
        self.processor += time.process_time()


SEARCH = Search()  # of the last one that told it apart


def ours(vectors: Tensor | UnitRows, minimum: float) -> Found:
    blocks = list(similar_pairs(vectors, minimum, hardware=Hardware("cpu")))
    none = torch.empty(0, dtype=torch.int64)
    return torch.cat([none, *(block.i for block in blocks)]), torch.cat([none, *(block.j for block in blocks)])


def ours_without_compiler(vectors: Tensor, minimum: float) -> Found:
    return ours(UnitRows(vectors, compiled=False), minimum)


def faiss_range_search(vectors: Tensor, minimum: float) -> Found:
    import faiss

    unit = torch.nn.functional.normalize(vectors.float(), dim=1).numpy()
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    limits, _, neighbours = index.range_search(unit, minimum - BAND)
    i = torch.repeat_interleave(torch.from_numpy(np.diff(limits.astype(np.int64))))
    j = torch.from_numpy(neighbours)
    return i[i < j], j[i < j]


def faiss_panorama(vectors: Tensor, minimum: float) -> Found:
    """FAISS's exact index that leaves off a product early: on vectors turned so that their first numbers tell the most.

    The turn (uncentred principal axes of all of them) and adding to the index are the preparation.
    """
    import faiss

    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    covariance = torch.zeros(unit.shape[1], unit.shape[1], dtype=torch.float64)
    for block in unit.split(TILE):
        covariance += (block.T @ block).double()
    turned = (unit @ torch.linalg.eigh(covariance).eigenvectors.flip(1).float()).contiguous().numpy()
    index = faiss.IndexFlatIPPanorama(turned.shape[1], min(PANORAMA_LEVELS, turned.shape[1]))
    index.add(turned)
    SEARCH.begin()
    limits, _, neighbours = index.range_search(turned, minimum - BAND)
    SEARCH.end()
    i = torch.repeat_interleave(torch.from_numpy(np.diff(limits.astype(np.int64))))
    j = torch.from_numpy(neighbours)
    return i[i < j], j[i < j]


def torch_tiles(vectors: Tensor, minimum: float) -> Found:
    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    found = []
    for start in range(0, len(unit), TILE):
        for other in range(start, len(unit), TILE):
            tile = unit[start : start + TILE] @ unit[other : other + TILE].T
            row, column = (tile >= minimum - BAND).nonzero(as_tuple=True)
            found.append((row + start, column + other))
    i, j = torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])
    return i[i < j], j[i < j]


def faiss_ivf(vectors: Tensor, minimum: float) -> Found:
    """Training, the search for enough probes and its measured recall of 0.99 included: what its user has to do."""
    from blindpairs.index import ApproximateJoin

    blocks = list(ApproximateJoin("ivf")(UnitRows(vectors), minimum))
    return torch.cat([block.i for block in blocks]), torch.cat([block.j for block in blocks])


METHODS: dict[str, Callable[[Tensor, float], Found]] = {
    "blindpairs": ours,
    "no compiler": ours_without_compiler,
    "faiss-ivf": faiss_ivf,
    "faiss": faiss_range_search,
    "panorama": faiss_panorama,
    "torch": torch_tiles,
}
APPROXIMATE = "faiss-ivf"
GENERATED = "generated"


def decided(rows: UnitRows, minimum: float, found: Found) -> set[tuple[int, int]]:
    """The pairs of a method, those within the band re-decided in float64."""
    cosines = pair_cosines(rows, *found)
    enough = cosines >= minimum
    return set(zip(found[0][enough].tolist(), found[1][enough].tolist(), strict=True))


def agrees_on_some_rows(vectors: Tensor, minimum: float, found: Found) -> bool:
    """Whether the pairs of 256 rows with all others are those of a float64 product."""
    rows = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(1))[:256]
    unit = UnitRows(vectors)
    few, wanted = unit.take(rows).double(), set()
    for start in range(0, len(vectors), TILE):
        products = few @ unit.block(start, start + TILE).double().T
        row, column = (products >= minimum - BAND).nonzero(as_tuple=True)
        i, j = torch.minimum(rows[row], column + start), torch.maximum(rows[row], column + start)
        wanted |= decided(unit, minimum, (i[i < j], j[i < j]))
    chosen = torch.isin(found[0], rows) | torch.isin(found[1], rows)
    return wanted == set(zip(found[0][chosen].tolist(), found[1][chosen].tolist(), strict=True))


def product_rate(dtype: torch.dtype, side: int = 4096, repeats: int = 5) -> float:
    """GFLOP/s of torch's product of two large square matrices on all cores: the best of some."""
    left, out = torch.randn(side, side).to(dtype), torch.empty(side, side, dtype=dtype)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(left, left.T, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def timed(method: str, vectors: Tensor, minimum: float) -> tuple[float, float, Found]:
    """Wall and processor seconds, and what was found."""
    wall, processor = time.perf_counter(), time.process_time()
    found = METHODS[method](vectors, minimum)
    return time.perf_counter() - wall, time.process_time() - processor, found


def megabytes_above_loading(method: str, file: Path, minimum: float) -> float:
    """The growth of the peak memory of a fresh process that has its imports and the vectors."""
    command = [sys.executable, __file__, "--child", method, str(file), "--minimum", str(minimum)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(method: str, file: str, minimum: float) -> str:
    if method in ("faiss", "panorama"):
        import faiss  # noqa: F401
    vectors = torch.from_numpy(np.load(file))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = status_kilobytes("VmRSS")
    METHODS[method](vectors, minimum)
    return str((status_kilobytes("VmHWM") - before) / 1024)


def status_kilobytes(name: str) -> int:
    """A line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def demo_vectors() -> Tensor:
    """What `blindpairs embed` makes of the demo's scenes with the demo's CLIP, (N, D) float16."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "blindpairs", "embed", "--work", work]
        subprocess.run(command, capture_output=True, check=True)
        return torch.from_numpy(Store.open(Path(work) / "embeddings").column("clip"))


def corpora(arguments: argparse.Namespace) -> Iterator[tuple[str, Tensor]]:
    """What is joined, one after the other."""
    for count in arguments.count:
        yield GENERATED, make_vectors(count, Likeness(class_share=arguments.class_share))
    if arguments.demo:
        yield "demo", demo_vectors()


def compare(name: str, vectors: Tensor, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures for one set of vectors."""
    count = len(vectors)
    minimum, pairs = arguments.minimum, count * (count - 1) / 2
    limits = {"faiss-ivf": arguments.approximate_limit, "blindpairs": count, "no compiler": arguments.approximate_limit}
    methods = [name for name in METHODS if count <= limits.get(name, arguments.reference_limit)]
    plan = plan_join(vectors, minimum)
    layout = UnitRows(vectors).layout
    columns = layout.columns(plan.dimensions)
    rows: dict[str, Any] = {}
    found: dict[str, Found] = {}
    ours(vectors[:2000], minimum)  # what a first call loads is nobody's time
    for method in methods:
        wall, processor, found[method] = timed(method, vectors, minimum)
        rows[method] = {"seconds": wall, "cpu_seconds": processor, "ns_per_pair": wall / pairs * 1e9}
        if method == "panorama":
            rows[method] |= {"search_seconds": SEARCH.wall, "search_cpu_seconds": SEARCH.processor}
    sets = {method: decided(UnitRows(vectors), minimum, found[method]) for method in methods}
    exact = [pairs for method, pairs in sets.items() if method != APPROXIMATE]
    if len(exact) > 1:
        same = all(one == exact[0] for one in exact)
    else:
        same = agrees_on_some_rows(vectors, minimum, found["blindpairs"])
    if APPROXIMATE in sets:
        rows[APPROXIMATE]["recall"] = len(sets[APPROXIMATE] & exact[0]) / max(1, len(exact[0]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        np.save(file, vectors.numpy())
        for method in methods if arguments.memory else []:
            rows[method]["megabytes"] = megabytes_above_loading(method, file, minimum)
    rate = product_rate(layout.dtype)
    achieved = 2 * columns * pairs / rows["blindpairs"]["seconds"] / 1e9
    for row in rows.values():
        row["times_ours"] = row["seconds"] / rows["blindpairs"]["seconds"]
    return {
        "vectors": name,
        "count": count,
        "dimension": vectors.shape[1],
        "minimum": minimum,
        "class_share": arguments.class_share,
        "found": len(found["blindpairs"][0]),
        "same_pairs": same,
        "columns": columns,
        "product": str(layout.dtype).removeprefix("torch."),
        "gflops_if_nothing_were_skipped": achieved,
        "product_gflops": rate,
        "methods": rows,
    }


def shown(result: dict[str, Any]) -> str:
    """One size as a small table."""
    lines = [
        f"{result['vectors']}: {result['count']:,} x {result['dimension']} float16, "
        f"cosine >= {result['minimum']}: {result['found']:,} pairs, "
        f"{'the same by all' if result['same_pairs'] else 'NOT THE SAME'}",
        f"{'':12}{'seconds':>9}{'cpu s':>9}{'ns/pair':>9}{'MB more':>9}{'x ours':>8}",
    ]
    for name, row in result["methods"].items():
        numbers = f"{row['seconds']:9.2f}{row['cpu_seconds']:9.2f}{row['ns_per_pair']:9.3f}"
        more = f"  recall {row['recall']:.4f}" if "recall" in row else ""
        if "search_seconds" in row:
            more += f"  of which search {row['search_seconds']:.2f} s, {row['search_cpu_seconds']:.2f} cpu s"
        lines.append(f"{name:12}{numbers}{row.get('megabytes', float('nan')):9.0f}{row['times_ours']:8.1f}{more}")
    achieved, rate = result["gflops_if_nothing_were_skipped"], result["product_gflops"]
    lines.append(
        f"{achieved:,.0f} GFLOP/s over {result['columns']} columns, were every pair multiplied: "
        f"{achieved / rate:.0%} of torch's {result['product']} product in this run ({rate:,.0f} GFLOP/s)"
    )
    return "\n".join(lines) + "\n\n"


def growth(results: list[dict[str, Any]]) -> dict[str, float]:
    """The exponent e of seconds ~ count ** e, fitted for every method that was timed at two sizes or more."""
    exponents = {}
    for method in METHODS:
        same = [row for row in results if row["vectors"] == GENERATED and method in row["methods"]]
        points = [(row["count"], row["methods"][method]["seconds"]) for row in same]
        if len({count for count, _ in points}) > 1:
            counts, seconds = np.log(np.array(points)).T
            exponents[method] = round(float(np.polyfit(counts, seconds, 1)[0]), 2)
    return exponents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--minimum", type=float, default=0.95)
    parser.add_argument("--class-share", type=float, default=0.5, help="of the variance; 0: one cloud, no classes")
    parser.add_argument("--reference-limit", type=int, default=100_000)
    parser.add_argument("--approximate-limit", type=int, default=300_000)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the fresh processes")
    parser.add_argument("--no-demo", dest="demo", action="store_false", help="leave the demo's vectors out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        method, file = arguments.child
        sys.stdout.write(child(method, file, arguments.minimum))
        return
    results = []
    for name, vectors in corpora(arguments):
        results.append(compare(name, vectors, arguments))
        if not arguments.json:
            sys.stdout.write(shown(results[-1]))
    exponents = growth(results)
    if arguments.json:
        sys.stdout.write(json.dumps({"sizes": results, "growth_exponents": exponents}, indent=2) + "\n")
    elif exponents:
        fitted = ", ".join(f"{method} {exponent:g}" for method, exponent in exponents.items())
        sys.stdout.write(f"seconds grow as count to the power of: {fitted}\n")


if __name__ == "__main__":
    main()
