"""Runs of the embedding loop on a cheap encoder, in a process that tests can kill, starve or lock out."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blindpairs.embed import EmbedOptions, EmbedReport, embed
from blindpairs.images import open_corpus
from blindpairs.images.preprocess import Preprocess

SIZE = 16


class ToyEncoder:
    """A fixed random projection of the pixels: fast, deterministic, and different for every image."""

    def __init__(self, spec: str, size: int = SIZE, dimension: int = 8) -> None:
        self.dimension = dimension
        self.device = torch.device("cpu")
        self.preprocess = Preprocess(size, "shortest", size, "bicubic", "round", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.spec = spec
        self.batches: list[int] = []
        seed = torch.Generator().manual_seed(sum(spec.encode()))
        self._weight = torch.randn(3 * size * size, dimension, generator=seed)

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> (B, D) unit; an all-black image has no direction and gives NaN."""
        self.batches.append(len(batch))
        vectors = batch.flatten(1).float() @ self._weight
        unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
        return unit

    def describe(self) -> dict[str, object]:
        """What the vectors depend on."""
        return {"spec": self.spec, "dimension": self.dimension, "preprocess": self.preprocess.describe()}


def toy(name: str, spec: str) -> ToyEncoder:
    """A loader for `embed`."""
    return ToyEncoder(spec)


def make_photos(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Small PNG files of noise, in name order."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        paths.append(folder / f"image-{number:04d}.png")
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(paths[-1], compress_level=0)
    return paths


def run(
    photos: Path,
    folder: Path,
    encoders: Mapping[str, str] | None = None,
    options: EmbedOptions = EmbedOptions(part_rows=16, batch=8, workers=1),
) -> EmbedReport:
    """Embed a folder with toy encoders into small parts."""
    encoders = encoders or {"clip": "toy:a", "dino": "toy:b"}
    return embed(open_corpus([str(photos)]), folder, encoders, toy, options)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes, the lock aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
