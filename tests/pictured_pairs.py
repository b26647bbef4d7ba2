"""Small images and benchmarks for the tests of benchmarks."""

import io

import numpy as np
from PIL import Image

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.images import image_id
from blindpairs.mine import pair_id


def picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (120, 100)) -> bytes:
    """An encoded image whose content depends on the seed alone."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


def pair_of(first: int, other: int, **changes: object) -> tuple[BenchmarkPair, dict[str, bytes]]:
    """A complete pair of two pictures by their seeds, and the pictures by id."""
    data = [picture(first), picture(other)]
    a, b = (image_id(each) for each in data)
    values = {
        "uri_a": f"/corpus/{first}.jpg",
        "uri_b": f"/corpus/{other}.jpg",
        "question": Question("Is the door open or closed?", ("Open", "Closed"), (0, 1)),
        "second": Question("Is the door closed or open?", ("Closed", "Open"), (1, 0)),
        "patterns": ("State and Condition",),
        "statement_a": "a door that is open",
        "statement_b": "a door that is closed",
        "clip_sim": 0.97,
        "dino_sim": 0.5,
        "annotators": ("ada",),
        "source": "person:ada",
        "license": "CC-BY-4.0",
        **changes,
    }
    return BenchmarkPair(pair_id(a, b), a, b, **values), {a: data[0], b: data[1]}  # type: ignore[arg-type]


def benchmark_of(count: int, name: str = "doors", **changes: object) -> Benchmark:
    """A benchmark of `count` pairs of different pictures; `changes` are fields of every pair."""
    made = [pair_of(2 * number, 2 * number + 1, **changes) for number in range(count)]
    images = {key: data for _, one in made for key, data in one.items()}
    patterns = ("State and Condition", "Color and Appearance")
    return Benchmark(name, tuple(pair for pair, _ in made), HeldImages(images), patterns)
