"""Patch tokens without a model: an encoder whose tokens are plain arithmetic, and a source of fields made by hand."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from store_files import write_store
from torch import Tensor

from blindpairs.encoders import Layer, Tokens
from blindpairs.images.decode import image_id
from blindpairs.images.preprocess import Preprocess
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.maps import WHOLE
from blindpairs.progress import Progress, silent
from blindpairs.store import Store

SIZE, PATCH = 16, 4
GRID = (SIZE // PATCH, SIZE // PATCH)


class PlainEncoder:
    """Tokens that are fixed random projections of the pixels of their patch, times `scale`; four blocks."""

    def __init__(self, width: int = 24, scale: float = 1.0, fails_after: int | None = None) -> None:
        self.device = torch.device("cpu")
        self.preprocess = Preprocess(SIZE, "shortest", SIZE, "bicubic", "round", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.transformer = SimpleNamespace(depth=4, width=width, grid=lambda *_: GRID, blocks=range(4), spec="plain")
        self.batches: list[int] = []
        self._scale, self._fails_after = scale, fails_after
        generator = torch.Generator().manual_seed(0)
        self._weights = torch.randn(5, 3 * PATCH * PATCH, width, generator=generator)

    def tokens_of(self, batch: Tensor, layers: Sequence[Layer]) -> list[Tokens]:
        """(B, 3, S, S) -> the tokens of each layer."""
        if len(self.batches) == self._fails_after:
            raise RuntimeError("out of memory")
        self.batches.append(len(batch))
        parts = batch.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # (B, 3, rows, columns, p, p)
        flat = parts.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2).float() / 255
        return [Tokens(flat @ self._weights[layer.index] * self._scale, GRID, None) for layer in layers]


def pictures(folder: Path, count: int, sizes: Sequence[tuple[int, int]] = ((SIZE, SIZE),)) -> list[Path]:
    """PNG files of noise, whose sizes (height, width) take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(count)
    paths = []
    for number in range(count):
        paths.append(folder / f"{number:04d}.png")
        noise = random.integers(0, 256, (*sizes[number % len(sizes)], 3), dtype=np.uint8)
        Image.fromarray(noise).save(paths[-1], compress_level=0)
    return paths


def store_of(folder: Path, files: Sequence[Path]) -> Store:
    """A store of image files in that order, with vectors that mean nothing."""
    return write_store(folder, {"dino": np.full((len(files), 4), 0.5, np.float16)}, parts=1, files=files)


def ids_of(files: Sequence[Path]) -> list[str]:
    """The ids under which a store knows these files."""
    return [image_id(file.read_bytes()) for file in files]


def fields_of(values: NDArray[np.floating[Any]], ids: Sequence[str], grid: tuple[int, int]) -> PatchFields:
    """Fields (M, L, N, C) of images with these ids."""
    return PatchFields(
        np.asarray(values, np.float16),
        grid,
        dict(zip(ids, range(len(ids)), strict=True)),
        [WHOLE] * len(ids),
        {},
    )


@dataclass
class ArraySource:
    """A `PatchSource` that gives rows of an array, but cannot read the images in `unread`."""

    whole: PatchFields
    unread: Collection[str] = ()
    asked: list[list[str]] = field(default_factory=list)

    def fields(self, image_ids: Collection[str], progress: Progress = silent) -> PatchFields:
        """See `PatchSource`."""
        self.asked.append(list(image_ids))
        known = [one for one in image_ids if one not in self.unread]
        values = self.whole.values[[self.whole.rows[one] for one in known]]
        unread = {"missing": len(image_ids) - len(known)} if len(known) < len(image_ids) else {}
        return PatchFields(
            values, self.whole.grid, dict(zip(known, range(len(known)), strict=True)), [WHOLE] * len(known), unread
        )
