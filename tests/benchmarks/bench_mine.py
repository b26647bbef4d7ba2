"""`blindpairs mine` as a user runs it, from a store on disk to pairs.parquet: time, memory, and whether it is right.

    python tests/benchmarks/bench_mine.py --count 1000000 --work /tmp/million

The store holds vectors of vectors.py, (N, 768) in place of CLIP's and (N, 1024) in place of DINOv2's, drawn apart from
each other; it is written once and used again. The pairs found are compared with those that 256 random images have
among all, in float64. Peak memory is the process's own, as the system counts it, mapped files included.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from vectors import Likeness, make_vectors

sys.path.insert(0, str(Path(__file__).parents[1]))
from store_files import write_store

from blindpairs.store import Store

ROWS_A_PART = 10_000
CHECKED_ROWS = 256


def store_of(count: int, work: Path) -> Store:
    """The store, written unless it is there."""
    folder = work / "embeddings"
    if not (folder / "manifest.json").exists():
        columns = {
            "clip": make_vectors(count).numpy(),
            "dino": make_vectors(count, Likeness(dimension=1024, seed=1)).numpy(),
        }
        write_store(folder, columns, parts=max(1, count // ROWS_A_PART))
    return Store.open(folder)


def mined(work: Path, *options: str) -> dict[str, Any]:
    """Run the command; its report, wall and processor seconds, and peak memory in MiB."""
    command = [sys.executable, "-m", "blindpairs", "mine", "--work", str(work), "--no-gallery", "--json", *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, output
    seconds = time.perf_counter() - started
    processor = usage.ru_utime + usage.ru_stime
    return {**json.loads(output), "seconds": seconds, "cpu_seconds": processor, "peak_mib": usage.ru_maxrss / 1024}


def unit(vectors: np.ndarray[Any, Any]) -> torch.Tensor:
    """Rows divided by their length as everywhere, in float64."""
    rows = torch.from_numpy(vectors).float()
    scaled: torch.Tensor = rows / torch.linalg.vector_norm(rows.double(), dim=1).float()[:, None]
    return scaled.double()


def wrong_pairs(store: Store, work: Path, clip_min: float, dino_max: float) -> tuple[int, int]:
    """Of the pairs that some images should be in: how many there are, and how many are missing or too many."""
    clip, dino = store.column("clip"), store.column("dino")
    chosen = np.sort(np.random.default_rng(1).choice(len(clip), CHECKED_ROWS, replace=False))
    wanted = set()
    for start in range(0, len(clip), ROWS_A_PART):
        part = slice(start, start + ROWS_A_PART)
        alike = unit(clip[chosen]) @ unit(clip[part]).T >= clip_min
        for row, column in alike.nonzero().tolist():
            i, j = int(chosen[row]), start + column
            if i != j and float(unit(dino[i : i + 1])[0] @ unit(dino[j : j + 1])[0]) <= dino_max:
                wanted.add((min(i, j), max(i, j)))
    table = pq.read_table(work / "pairs" / "pairs.parquet", columns=["image_id_a", "image_id_b"])
    found = {(int(a, 16), int(b, 16)) for a, b in zip(*(column.to_pylist() for column in table.columns), strict=True)}
    ours = {pair for pair in found if np.isin(pair, chosen).any()}
    return len(wanted), len(wanted ^ ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument(
        "--work", type=Path, help="where to keep the store (4 KB an image); without it, nothing is kept"
    )
    parser.add_argument("--memory", help="as for `blindpairs mine`")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        report(arguments, (arguments.work or Path(aside)) / f"{arguments.count}")


def report(arguments: argparse.Namespace, work: Path) -> None:
    """Print the figures of mining as many vectors as asked for, the store being in `work`."""
    store = store_of(arguments.count, work)
    memory = ["--memory", arguments.memory] if arguments.memory else []
    result = mined(work, "--top", "0", "--max-per-image", "1000000", *memory)
    wanted, wrong = wrong_pairs(store, work, result["clip_min"], result["dino_max"])
    figures = {"count": arguments.count, "kept": result["counts"]["kept"], "blind": result["counts"]["blind"]}
    figures |= {name: result[name] for name in ("seconds", "cpu_seconds", "peak_mib")}
    figures |= {"checked_pairs": wanted, "wrong_pairs": wrong}
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    sys.stdout.write(
        f"{arguments.count:,} images, 768 + 1024 float16 from disk: {figures['blind']:,} blind pairs in "
        f"{figures['seconds']:.1f} s ({figures['cpu_seconds']:.1f} s of processor), {figures['peak_mib']:,.0f} MiB at "
        f"most; of {wanted} pairs of {CHECKED_ROWS} images {wrong} are wrong\n"
    )


if __name__ == "__main__":
    main()
