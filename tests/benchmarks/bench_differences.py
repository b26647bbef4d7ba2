"""What `mine --differences` adds: reading patch tokens beside the bare forward passes, comparing pairs, and memory.

    python tests/benchmarks/bench_differences.py
    python tests/benchmarks/bench_differences.py --photos FOLDER --json

Three things take turns in one process, on the same images: the bare forward passes, which are whole, as `embed` runs
them (`encode` of batches that are ready, each on one core); forward passes that are cut where reading cuts them
(`tokens_of` of the same batches); and reading (`StorePatches.fields`: decoding, forward passes, principal axes, the
file of fields). Reading stops at the last block that is compared, half of the way: so the ratio of its rate to the bare
one, whose WANTED is the promise, can exceed 1, and the ratio to the cut passes says what all else takes. The figures
are the median and the best of the rounds, and a 95 % interval of the mean by bootstrap. What is done once a run,
however many images there are, has its own line: loading the encoder (in none of the rates), and the principal axes (a
part of reading). The demo's encoder is tiny, so that anything beside it weighs much; a ViT-B/14 of random weights
stands for real ones. Without --photos it reads generated JPEG files.

Comparing runs on made-up fields of a ViT-B/14 at 224 pixels, in fresh processes. Memory is how much the private memory
of such a process grows at most; the fields themselves are a mapped file and not in it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from demo_stores import demo_store
from photographs import save_photos

from blindpairs.cores import Cores
from blindpairs.encoders import Encoder, choose_device, load_encoder
from blindpairs.errors import Undecodable
from blindpairs.mine.differences import differences
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.maps import WHOLE
from blindpairs.mine.patches import (
    AXES,
    BATCH,
    SAMPLE_VALUES,
    StorePatches,
    _principal_axes,
    blocks_to_compare,
)
from blindpairs.mine.reproducible import in_turn
from blindpairs.statistics import bootstrap_interval
from blindpairs.store import Store, pixels_of
from blindpairs.workspace import demo_folder

WANTED = 0.9
SCENES, PHOTOS = 2976, 128  # whole batches, and an even number of them
COMPARED = (1_000, 10_000)  # pairs, of as many images
BASE_14 = {"hidden_size": 768, "num_attention_heads": 12, "patch_size": 14}
GRID, BLOCKS = (16, 16), 3  # of a ViT-B/14 at 224 pixels
MAPS = 300  # as many as pairs are kept by default

Figures = dict[str, Any]


def ready_batches(store: Store, image_ids: list[str], encoder: Encoder) -> list[torch.Tensor]:
    """The batches of (BATCH, 3, H, W) uint8 that reading these images gives to the encoder."""
    squares = [
        encoder.preprocess.apply(pixels)
        for _, pixels in pixels_of(store, image_ids)
        if not isinstance(pixels, Undecodable)
    ]
    return list(torch.from_numpy(np.stack(squares[: len(squares) // BATCH * BATCH])).split(BATCH))


def timed(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def on_every_core(encoder: Encoder, work: Callable[[torch.Tensor], object], batches: list[torch.Tensor]) -> None:
    """`work` on each batch, as `embed` runs forward passes: on a CPU each batch has one core."""
    with Cores(encoder.device) as cores:
        for _ in in_turn(cores, lambda batch: work(batch.to(encoder.device)), batches):
            pass
    if encoder.device.type == "cuda":
        torch.cuda.synchronize()


def axes_seconds(encoder: Encoder, batches: list[torch.Tensor]) -> float:
    """The principal axes of as large a sample as reading these batches takes, on all cores."""
    layers = blocks_to_compare(encoder.transformer.depth)
    read = encoder.tokens_of(batches[0].to(encoder.device), layers)
    tokens = torch.stack([one.patches for one in read], 1).half().cpu()
    most = max(BATCH, SAMPLE_VALUES // tokens[0, 0].numel()) // BATCH
    sample = [([f"{number}-{row}" for row in range(BATCH)], tokens) for number in range(min(most, len(batches)))]
    with Cores(encoder.device) as cores:
        return timed(lambda: list(in_turn(cores, partial(_principal_axes, sample), range(len(layers)))))


def compare_reading(store: Store, spec: str, count: int, rounds: int) -> Figures:
    """Seconds per 1,000 images of all three, in turn, and the ratios of the rates."""
    loaded: list[Encoder] = []
    loading = timed(lambda: loaded.append(load_encoder("dino", spec, device=choose_device("auto"))))
    encoder = loaded[0]
    known = sorted(set(store.metadata(["image_id"])["image_id"].to_pylist()))
    image_ids = known[: min(count, len(known)) // BATCH * BATCH]
    batches = ready_batches(store, image_ids, encoder)
    layers = blocks_to_compare(encoder.transformer.depth)
    with tempfile.TemporaryDirectory() as aside:
        patches = StorePatches(store, encoder, Path(aside))
        turns: dict[str, Callable[[], object]] = {
            "bare": lambda: on_every_core(encoder, encoder.encode, batches),
            "cut": lambda: on_every_core(encoder, lambda batch: encoder.tokens_of(batch, layers), batches),
            "reading": lambda: patches.fields(image_ids),
        }
        on_every_core(encoder, encoder.encode, batches[:2])  # the first pass pays for allocations
        taken: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(rounds):
            for name in list(turns)[:: 1 if number % 2 else -1]:  # what slows down does not favour any
                taken[name].append(timed(turns[name]))
    images = BATCH * len(batches)
    to_bare, to_cut = (np.array(taken[name]) / np.array(taken["reading"]) for name in ("bare", "cut"))
    return {
        "images": images,
        **{f"{name}_seconds_per_1000": float(np.median(some)) * 1000 / images for name, some in taken.items()},
        "ratio": float(np.median(to_bare)),
        "best": float(to_bare.max()),
        "interval": [round(bound, 3) for bound in bootstrap_interval(to_bare, resamples=10_000)],
        "ratios": [round(ratio, 3) for ratio in to_bare.tolist()],
        "ratio_to_cut": float(np.median(to_cut)),
        "best_to_cut": float(to_cut.max()),
        "loading_seconds": loading,
        "axes_seconds": axes_seconds(encoder, batches),
    }


def made_up_fields(count: int, folder: Path) -> PatchFields:
    """Fields of `count` images, in a file that is mapped as those of a store are."""
    path, shape = folder / "fields", (count, BLOCKS, GRID[0] * GRID[1], AXES)
    values = np.memmap(path, np.float16, "w+", shape=shape)
    random = np.random.default_rng(0)
    for row in range(count):
        values[row] = random.standard_normal(shape[1:], np.float32)
    values.flush()
    ids = [f"{row:032x}" for row in range(count)]
    mapped = np.memmap(path, np.float16, "r", shape=shape)
    return PatchFields(mapped, GRID, {key: row for row, key in enumerate(ids)}, [WHOLE] * len(ids), {})


class PrivateMemory:
    """The growth of this process's private memory at its highest, in MiB, while the block runs."""

    def __enter__(self) -> "PrivateMemory":
        self._before = self._most = self._now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.growth = (self._most - self._before) / 1024

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self._most = max(self._most, self._now())

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))  # kB


def comparison(count: int) -> Figures:
    """Compare `count` random pairs of as many images in this process, and draw the maps of the first."""
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as aside:
        fields = made_up_fields(count, Path(aside))
        ids = sorted(fields.rows)
        first, step = random.integers(count, size=count), random.integers(1, count, size=count)
        pairs = [(min(a, b), max(a, b)) for a, b in zip(first, (first + step) % count, strict=True)]
        named = [(ids[a], ids[b]) for a, b in pairs]
        with PrivateMemory() as memory:
            started = time.perf_counter()
            found = differences(fields, named, random.uniform(0, 0.6, count), named[: min(count // 2, 2048)])
            seconds = time.perf_counter() - started
            found.comparison.maps(np.arange(min(MAPS, count)))
            maps_seconds = time.perf_counter() - started - seconds
    return {
        "pairs": count,
        "seconds_per_1000": seconds * 1000 / count,
        "maps_seconds": maps_seconds,
        "peak_mib": memory.growth,
    }


def in_fresh_process(count: int) -> Figures:
    """`comparison` where nothing has been allocated before."""
    command = [sys.executable, __file__, "--compare", str(count)]
    figures: Figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def reading_figures(photos: Path | None, rounds: int) -> dict[str, Figures]:
    """Reading with the demo's encoder and with a ViT-B/14."""
    from hub_folders import save_dinov2

    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        scenes = demo_store(demo_folder() / "scenes.parquet", folder / "scenes")
        demo = compare_reading(scenes, "demo:dino", SCENES, 2 * rounds)
        (folder / "base").mkdir()
        base = f"hf:{save_dinov2(folder / 'base', layers=12, shape=BASE_14)}"
        store = demo_store(photos or save_photos(folder / "jpeg", PHOTOS), folder / "photos")
        return {
            "demo encoder, scenes of 64 pixels": demo,
            f"ViT-B/14, {'photographs' if photos else 'generated JPEG files'}": compare_reading(
                store, base, PHOTOS, rounds
            ),
        }


def show(reading: dict[str, Figures], compared: list[Figures]) -> None:
    """Print the figures for people."""
    for name, one in reading.items():
        low, high = one["interval"]
        sys.stdout.write(
            f"{name}: {one['reading_seconds_per_1000']:.2f} s per 1,000 images ({one['images']:,} were read), "
            f"{one['bare_seconds_per_1000']:.2f} s of bare forward passes\n"
            f"  {one['ratio']:.3f} of the bare rate, {one['best']:.3f} at best (95 % interval of the mean {low:.3f} to "
            f"{high:.3f}), {'as wanted' if one['ratio'] >= WANTED else f'less than {WANTED}'}\n"
            f"  {one['ratio_to_cut']:.3f} of the rate of forward passes that are cut at the same block "
            f"({one['cut_seconds_per_1000']:.2f} s per 1,000 images), {one['best_to_cut']:.3f} at best\n"
            f"  once a run: {one['loading_seconds']:.2f} s to load the encoder, {one['axes_seconds']:.2f} s of axes\n"
        )
    for one in compared:
        sys.stdout.write(
            f"comparing {one['pairs']:,} pairs: {one['seconds_per_1000']:.2f} s per 1,000 pairs, {MAPS} maps in "
            f"{one['maps_seconds']:.2f} s, {one['peak_mib']:,.0f} MiB at most\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photographs; without it JPEG files are generated")
    parser.add_argument("--rounds", type=int, default=3, help="with the ViT-B/14; twice as many with the demo's")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--compare", type=int, help=argparse.SUPPRESS)  # what the fresh processes do
    arguments = parser.parse_args()
    if arguments.compare:
        sys.stdout.write(json.dumps(comparison(arguments.compare)) + "\n")
        return
    reading = reading_figures(arguments.photos, arguments.rounds)
    compared = [in_fresh_process(count) for count in COMPARED]
    if arguments.json:
        sys.stdout.write(json.dumps({"reading": reading, "comparing": compared}) + "\n")
    else:
        show(reading, compared)


if __name__ == "__main__":
    main()
