"""The patch tokens of images, small enough to keep: what `mine --differences` compares.

A ViT-L/14 gives 256 x 1,024 numbers an image and block. They are read a batch at a time, and each token keeps its
coordinates on the few principal axes of its block. These fields lie in a file that is mapped into memory, so a million
images take no more memory than a thousand.

Promises: each image's tokens are the same bits whatever stands beside it, in which order the images come, and how many
there are (every forward pass has the same shape); an image that cannot be read is counted by its reason and left out.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.encoders import Encoder, Layer, choose_device, load_encoder
from blindpairs.encoders.tokens import no_patches
from blindpairs.errors import ConfigError, Undecodable
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.maps import Box
from blindpairs.progress import Progress, silent
from blindpairs.store import Store, pixels_of
from blindpairs.store.memory import map_rows

AXES = 32  # coordinates of a token: nine tenths of the variance of the encoders that were tried
BATCH = 32  # images of a forward pass, always: another shape would round differently
SAMPLE_VALUES = 1 << 24  # numbers of the sample's tokens in one block, for the axes
DECODED_AHEAD = 2 * BATCH

# B image ids, and their tokens (BATCH, L, N, D), of which the first B count: the same shape through all products.
TokenBatch = tuple[list[str], NDArray[np.float16]]
LARGEST = 6e4  # some models have a few channels in the thousands: beyond float16 they are all the same to a comparison


class StorePatches:
    """The patches of a store's images as `encoder` sees them. Fields are mapped from a file in `folder`.

    ConfigError for an encoder without patch tokens.
    """

    def __init__(self, store: Store, encoder: Encoder, folder: Path) -> None:
        self._store, self._encoder, self._folder = store, encoder, folder
        transformer, self._size = encoder.transformer, encoder.preprocess.size
        if not transformer.depth:  # a convolutional or a windowed network; others raise the same themselves
            raise no_patches(encoder.spec)
        self._layers, self._grid = blocks_to_compare(transformer.depth), transformer.grid(self._size, self._size)

    def fields(self, image_ids: Collection[str], progress: Progress = silent) -> PatchFields:
        """See `PatchSource`. InputError for a damaged store and for a folder without room."""
        wanted = sorted(set(image_ids))
        rows: dict[str, int] = {}
        reader = _Reader(self._store, self._encoder, self._layers)
        values = map_rows(
            self._projected(wanted, reader, rows, progress),
            (len(wanted), *self._shape),
            self._folder,
            "patch tokens",
            "leave out --differences",
        )
        boxes = [reader.boxes[key] for key in rows]
        return PatchFields(values, self._grid, rows, boxes, dict(sorted(reader.unread.items())))

    def _projected(
        self, wanted: Sequence[str], reader: "_Reader", rows: dict[str, int], progress: Progress
    ) -> Iterator[NDArray[np.float16]]:
        """The fields (B, L, N, AXES) of the images as they are read; their rows are put in `rows`."""
        # The ids are hashes, so the first in their order are a random sample, and the same in any corpus order.
        size = self._encoder.transformer.width * self._grid[0] * self._grid[1]
        sample = wanted[: max(BATCH, SAMPLE_VALUES // size)]
        batches: list[TokenBatch] = []  # kept until the axes are known: no image is read twice
        sampled = 0
        for batch in reader.tokens(sample):
            batches.append(batch)
            sampled += len(batch[0])
            progress(sampled, len(wanted), sum(reader.unread.values()))
        axes = [_principal_axes(_in_order(batches, layer)) for layer in range(len(self._layers))]
        for ids, read in chain(_emptied(batches), reader.tokens(wanted[len(sample) :])):
            rows.update(zip(ids, range(len(rows), len(rows) + len(ids)), strict=True))
            yield _project(read, axes)[: len(ids)]
            progress(max(sampled, len(rows)), len(wanted), sum(reader.unread.values()))
        progress(len(rows), len(wanted), sum(reader.unread.values()))

    @property
    def _shape(self) -> tuple[int, int, int]:
        """The shape of an image's field."""
        return len(self._layers), self._grid[0] * self._grid[1], AXES

    def batch_seconds(self) -> float:
        """The seconds of one forward pass of BATCH images."""
        batch = torch.zeros(BATCH, 3, self._size, self._size, dtype=torch.uint8, device=self._encoder.device)
        for _ in range(2):  # the first also loads libraries
            started = time.perf_counter()
            for tokens in self._encoder.tokens_of(batch, self._layers):
                tokens.patches.cpu()  # waits for a GPU
        return time.perf_counter() - started

    def image_bytes(self) -> int:
        """The bytes of an image's field on disk."""
        return 2 * math.prod(self._shape)


def blocks_to_compare(depth: int) -> list[Layer]:
    """The patches as they enter the first block, after a quarter and after half of the blocks, before the norm.

    Early blocks know the appearance of a patch; later ones say more and more of its surroundings. The whole image, as
    the last block has it, is in the class token, whose cosine is known already.
    """
    return [Layer(index, norm=False) for index in sorted({0, max(1, depth // 4), max(1, depth // 2)})]


def open_patches(store: Store, column: str, folder: Path, device: str = "auto") -> StorePatches:
    """The patches of a store's images as the encoder of `column` sees them, the one that embedded the store.

    Raises ConfigError where that encoder is not known, is another one now, or has no patch tokens, and AssetMissing
    where its weights are missing. `device` is `auto`, or one that torch knows.
    """
    description = store.manifest["encoders"][column]
    spec = str(description.get("spec", ""))
    if "weights_hash" not in description:
        raise ConfigError(
            f"the vectors of {column!r} were imported ({spec}), so no encoder for patch tokens is "
            "known: `blindpairs embed` the images to compare patches"
        )
    encoder = load_encoder(column, spec, device=choose_device(device))
    if encoder.weights_hash != description["weights_hash"]:
        raise ConfigError(f"{spec} has other weights now than when it embedded the store: embed again, or restore them")
    return StorePatches(store, encoder, folder)


class _Reader:
    """Images -> their tokens, in batches of one shape; decoding runs one thread ahead."""

    def __init__(self, store: Store, encoder: Encoder, layers: Sequence[Layer]) -> None:
        self._store, self._encoder, self._layers = store, encoder, layers
        self.boxes: dict[str, Box] = {}
        self.unread: Counter[str] = Counter()

    def tokens(self, image_ids: Collection[str]) -> Iterator[TokenBatch]:
        """The tokens of the images that can be read, up to BATCH at a time."""
        batch: list[tuple[str, NDArray[np.uint8]]] = []
        for one in _ahead(self._squares(image_ids)):
            batch.append(one)
            if len(batch) == BATCH:
                yield self._encode(batch)
                batch = []
        if batch:
            yield self._encode(batch)

    def _squares(self, image_ids: Collection[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        preprocess = self._encoder.preprocess
        for image_id, pixels in pixels_of(self._store, image_ids):
            if isinstance(pixels, Undecodable):
                self.unread[pixels.code] += 1
                continue
            self.boxes[image_id] = preprocess.seen(*pixels.shape[:2])
            yield image_id, preprocess.apply(pixels)

    def _encode(self, batch: list[tuple[str, NDArray[np.uint8]]]) -> TokenBatch:
        squares = np.stack([square for _, square in batch])
        # The last batch is filled up, so that its images are computed as those of any other.
        filled = np.concatenate([squares, np.repeat(squares[-1:], BATCH - len(squares), axis=0)])
        read = self._encoder.tokens_of(torch.from_numpy(filled).to(self._encoder.device), self._layers)
        stacked = torch.stack([tokens.patches for tokens in read], 1).clamp(-LARGEST, LARGEST)  # (BATCH, L, N, D)
        return [image_id for image_id, _ in batch], stacked.half().cpu().numpy()


@dataclass(frozen=True)
class _Axes:
    mean: Tensor  # (N, D): what a place has in all images is no difference
    basis: Tensor  # (D, AXES)


def _in_order(batches: Sequence[TokenBatch], layer: int) -> list[NDArray[np.float16]]:
    """The tokens (N, D) of one layer of all images, in the order of their ids: images are read as they lie on disk."""
    tokens = {key: read[row, layer] for ids, read in batches for row, key in enumerate(ids)}
    return [tokens[key] for key in sorted(tokens)]


def _principal_axes(sample: Sequence[NDArray[np.float16]]) -> _Axes:
    """The axes of the largest variance of the tokens (N, D) of images, around the mean of each place."""
    if not sample:
        return _Axes(torch.zeros(1), torch.zeros(1, AXES))
    width = sample[0].shape[-1]
    batches = [sample[start : start + BATCH] for start in range(0, len(sample), BATCH)]
    sums = torch.zeros(sample[0].shape, dtype=torch.float64)  # (N, D)
    for batch in batches:
        sums += torch.from_numpy(np.stack(batch)).double().sum(0)
    mean = (sums / len(sample)).float()
    covariance = torch.zeros(width, width, dtype=torch.float64)
    for batch in batches:
        centred = (torch.from_numpy(np.stack(batch)).float() - mean).flatten(0, 1)
        covariance += (centred.T @ centred).double()
    _, vectors = torch.linalg.eigh(covariance)
    basis = torch.zeros(width, AXES)  # an encoder narrower than AXES leaves the last coordinates 0
    basis[:, : min(width, AXES)] = vectors.flip(1)[:, :AXES].float()
    return _Axes(mean, basis)


def _project(tokens: NDArray[np.float16], axes: Sequence[_Axes]) -> NDArray[np.float16]:
    """(B, L, N, D) -> (B, L, N, AXES)."""
    read = torch.from_numpy(tokens).float().unbind(1)
    projected = torch.stack([(one - each.mean) @ each.basis for one, each in zip(read, axes, strict=True)], 1)
    return projected.clamp(-LARGEST, LARGEST).half().numpy()


def _emptied(batches: list[TokenBatch]) -> Iterator[TokenBatch]:
    """The batches, each of which is freed once it has been used."""
    batches.reverse()
    while batches:
        yield batches.pop()


def _ahead(items: Iterable[Any]) -> Iterator[Any]:
    """The same items, made by a thread that is at most DECODED_AHEAD of them ahead."""
    iterator, end = iter(items), object()
    thread = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[Any]] = deque(thread.submit(next, iterator, end) for _ in range(DECODED_AHEAD))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, iterator, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)  # where the reading fails, what is not yet decoded is not needed
