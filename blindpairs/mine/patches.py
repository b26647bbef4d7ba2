"""The patch tokens of images, small enough to keep: what `mine --differences` compares.

A ViT-L/14 gives 256 x 1,024 numbers an image and block. They are read a batch at a time, and each token keeps its
coordinates on the few principal axes of its block. These fields lie in a file that is mapped into memory, so a million
images take no more memory than a thousand.

Promises: each image's tokens are the same bits whatever stands beside it, in which order the images come, how many
there are, and on how many cores (every forward pass has the same shape and one core); an image that cannot be read is
counted by its reason and left out. Forward passes stop at the last block that is compared, half of the way, and
another thread decodes ahead: reading takes less time than whole forward passes (tests/benchmarks/bench_differences.py).
"""

import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.encoders import Encoder, Layer, choose_device, load_encoder
from blindpairs.encoders.tokens import no_patches
from blindpairs.errors import ConfigError, Undecodable
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.maps import Box
from blindpairs.mine.reproducible import in_turn
from blindpairs.progress import Progress, silent
from blindpairs.store import Store, pixels_of
from blindpairs.store.memory import map_rows

AXES = 32  # coordinates of a token: nine tenths of the variance of the encoders that were tried
BATCH = 32  # images of a forward pass, always: another shape would round differently
SAMPLE_VALUES = 1 << 24  # numbers of the sample's tokens in one block, for the axes
DECODED_AHEAD = 2  # batches

# B image ids, and (BATCH, ...) of which the first B count: the same shape through all products.
Squares = tuple[list[str], NDArray[np.uint8]]  # (BATCH, 3, S, S)
TokenBatch = tuple[list[str], Tensor]  # (BATCH, L, N, D) float16
FieldBatch = tuple[list[str], NDArray[np.float16]]  # (BATCH, L, N, AXES)
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
        with Cores(self._encoder.device) as cores:
            for ids, tokens in in_turn(cores, reader.encode, reader.squares(sample)):
                batches.append((ids, tokens.cpu()))
                sampled += len(ids)
                progress(sampled, len(wanted), sum(reader.unread.values()))
            axes = _Axes(in_turn(cores, partial(_principal_axes, batches), range(len(self._layers))), reader.device)
            read = in_turn(cores, axes.fields, _emptied(batches))
            rest = in_turn(cores, lambda some: axes.fields(reader.encode(some)), reader.squares(wanted[len(sample) :]))
            for ids, fields in chain(read, rest):
                rows.update(zip(ids, range(len(rows), len(rows) + len(ids)), strict=True))
                yield fields[: len(ids)]
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
    return StorePatches(store, column_encoder(store, column, device), folder)


def column_encoder(store: Store, column: str, device: str = "auto") -> Encoder:
    """The encoder that embedded a column of a store, with the same weights; raises as `open_patches` does."""
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
    return encoder


class _Reader:
    """Images -> their tokens, in batches of one shape; decoding runs one thread ahead."""

    def __init__(self, store: Store, encoder: Encoder, layers: Sequence[Layer]) -> None:
        self._store, self._encoder, self._layers = store, encoder, layers
        self.device = encoder.device
        self.boxes: dict[str, Box] = {}
        self.unread: Counter[str] = Counter()

    def squares(self, image_ids: Collection[str]) -> Iterator[Squares]:
        """The images that can be read, up to BATCH at a time."""
        return _ahead(self._batches(image_ids))

    def encode(self, batch: Squares) -> TokenBatch:
        """The tokens of these images, on the encoder's device."""
        ids, squares = batch
        read = self._encoder.tokens_of(torch.from_numpy(squares).to(self.device), self._layers)
        return ids, torch.stack([tokens.patches.clamp(-LARGEST, LARGEST).half() for tokens in read], 1)

    def _batches(self, image_ids: Collection[str]) -> Iterator[Squares]:
        shape = (BATCH, 3, self._encoder.preprocess.size, self._encoder.preprocess.size)
        ids: list[str] = []
        squares = np.empty(shape, np.uint8)
        for image_id, square in self._squares(image_ids):
            squares[len(ids)] = square
            ids.append(image_id)
            if len(ids) == BATCH:
                yield ids, squares
                ids, squares = [], np.empty(shape, np.uint8)
        if ids:
            squares[len(ids) :] = squares[len(ids) - 1]  # filled up, so that these are computed as any others
            yield ids, squares

    def _squares(self, image_ids: Collection[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        preprocess = self._encoder.preprocess
        for image_id, pixels in pixels_of(self._store, image_ids):
            if isinstance(pixels, Undecodable):
                self.unread[pixels.code] += 1
                continue
            self.boxes[image_id] = preprocess.seen(*pixels.shape[:2])
            yield image_id, preprocess.apply(pixels)


class _Axes:
    """The principal axes of each block, on the encoder's device; tokens -> fields."""

    def __init__(self, blocks: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> None:
        """The (mean, basis) of each block: the basis is (D, AXES), and the mean (N, D), for each place of the grid.

        What a place has in all images is no difference.
        """
        self._blocks = [(mean.to(device), basis.to(device)) for mean, basis in blocks]
        self._device = device

    def fields(self, batch: TokenBatch) -> FieldBatch:
        """(BATCH, L, N, D) -> (BATCH, L, N, AXES)."""
        ids, tokens = batch
        blocks = zip(tokens.to(self._device).float().unbind(1), self._blocks, strict=True)
        projected = torch.stack([(block - mean) @ basis for block, (mean, basis) in blocks], 1)
        return ids, projected.clamp(-LARGEST, LARGEST).half().cpu().numpy()


def _principal_axes(batches: Sequence[TokenBatch], layer: int) -> tuple[Tensor, Tensor]:
    """See `principal_axes`; of the tokens of a block."""
    found = {key: tokens[row, layer] for ids, tokens in batches for row, key in enumerate(ids)}
    if not found:
        return torch.zeros(1), torch.zeros(1, AXES)
    # In the order of the ids, because sums depend on it: images are read as they lie on disk.
    return principal_axes(torch.stack([found[key] for key in sorted(found)]))


def principal_axes(sample: Tensor) -> tuple[Tensor, Tensor]:
    """(n, N, D) -> the mean of each place, (N, D), and the axes of the largest variance around it, (D, AXES).

    The axes are orthonormal, and 0 beyond D where the encoder is narrower than AXES.
    """
    width = sample.shape[2]
    sums = torch.zeros(sample.shape[1:], dtype=torch.float64)
    for some in sample.split(BATCH):
        sums += some.double().sum(0)
    mean = (sums / len(sample)).float()
    covariance = torch.zeros(width, width, dtype=torch.float64)
    for some in sample.split(BATCH):
        centred = (some.float() - mean).flatten(0, 1)
        covariance += (centred.T @ centred).double()
    _, vectors = torch.linalg.eigh(covariance)
    basis = torch.zeros(width, AXES)
    basis[:, : min(width, AXES)] = vectors.flip(1)[:, :AXES].float()
    return mean, basis


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
