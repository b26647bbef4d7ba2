"""What frozen towers make of images, kept on disk: for sweeps, in which the same images are seen again and again.

    features.json                what was kept: the towers, their layers, the pixels; and the shape of each tower's tokens
    images-00000.json            the images of block 0, in order: name, size, time, image_id; written last
    images-00000-clip.npy        (images, N, D) float16 of one tower, mapped

Promises: a feature belongs to the bytes of an image (two names of the same bytes share one), to the towers with their
layer and normalisation, and to the rules from file to pixels; a file that has changed since is an error, and its
features are made again by the next `build`; a killed build goes on where it was; a block without its list is not there.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blindpairs.access import listed, present, remove
from blindpairs.errors import ConfigError, InputError, Undecodable
from blindpairs.images.decode import image_id
from blindpairs.mof.pixels import PixelRules, image_bytes, square_of
from blindpairs.progress import Progress, silent
from blindpairs.workspace import prepare_folder, read_json, stamp, write_json, written_atomically

BLOCK = 1024  # images of a block
BATCH = 64  # images that the towers see at once
Encode = Callable[[Tensor], tuple[Tensor, ...]]  # (B, 3, S, S) -> (B, N, D) for each tower


@dataclass(frozen=True)
class Towers:
    """Frozen towers to keep features of. `describe` says all that these depend on: weights, layers, normalisation."""

    names: tuple[str, ...]
    encode: Encode
    describe: Mapping[str, object]


@dataclass(frozen=True)
class _Place:
    """Where the features of an image are, and the file from which they were made."""

    block: int
    row: int
    size: int
    mtime_ns: int


class FeatureCache:
    """Features by the name of the image below the folder of images."""

    def __init__(self, folder: Path, images: Path, rules: PixelRules, towers: Mapping[str, object]) -> None:
        """ConfigError where the folder holds features of other towers or other pixels. `towers`: Towers.describe."""
        self.folder, self.images, self.rules = folder, images, rules
        self.kept = {"towers": dict(towers), "pixels": rules.describe()}
        self._names: tuple[str, ...] = ()
        self.shapes: tuple[tuple[int, int], ...] = ()  # (N, D) of each tower
        self._places: dict[str, _Place] = {}
        self._by_id: dict[str, _Place] = {}
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, name: str) -> tuple[Tensor, ...]:
        """(N, D) float16 for each tower. InputError where the image is not kept, or its file has changed."""
        place = self._places.get(name)
        if place is None or not self._is_of(name, place):
            why = "has changed since its features were kept" if place else "has no features"
            raise InputError(f"{self.images / name} {why}: run the same command again, which makes them")
        blocks = (_mapped(str(self._block(place.block, tower))) for tower in self._names)
        return tuple(torch.from_numpy(np.array(block[place.row])) for block in blocks)

    def build(self, names: Sequence[str], towers: Towers, progress: Progress = silent) -> None:
        """Keep the features of all these images; those that are kept already stay. Raises InputError for a bad image."""
        if dict(towers.describe) != self.kept["towers"]:
            raise ConfigError(f"the features in {self.folder} are to be of other towers")
        prepare_folder(self.folder)
        missing = [name for name in dict.fromkeys(names) if not self._has(name)]
        done, total = len(set(names)) - len(missing), len(set(names))
        progress(done, total, 0)
        for start in range(0, len(missing), BLOCK):
            some = missing[start : start + BLOCK]
            self._keep_block(some, towers, lambda more, before=done: progress(before + more, total, 0))
            done += len(some)
        self._open()
