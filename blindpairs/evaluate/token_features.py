"""What a readout sees of images: the patch tokens of an encoder's layers, small enough to keep.

Each patch keeps its coordinates on the principal axes of its layer, which know no label. Memory: 64 bytes a patch of
each image and layer, and the sample that the axes are taken from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.encoders import Encoder, Layer, Tokens
from blindpairs.errors import Undecodable
from blindpairs.evaluate.squares import in_batches, squares
from blindpairs.mine.patches import BATCH, LARGEST, SAMPLE_VALUES, principal_axes

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """Of one layer: `rows` maps image ids to the rows of both arrays."""

    rows: Mapping[str, int]
    pooled: Floats  # (n, D): the class token, or the mean of the patches where the tower has none
    patches: NDArray[np.float16]  # (n, N, AXES)


def token_features(
    encoder: Encoder, layers: Sequence[Layer], images: Iterable[tuple[str, bytes | Undecodable]]
) -> list[Features]:
    """The features of the images of each layer, from one forward pass; images that cannot be read have no row."""
    kept = [_Layer() for _ in layers]
    ids: list[str] = []
    readable = squares(encoder, images, lambda _key, _reason: None)
    for keys, inputs in (zip(*batch, strict=True) for batch in in_batches(readable, BATCH)):
        ids += keys
        batch = torch.from_numpy(np.stack(inputs)).to(encoder.device)  # (B, 3, S, S)
        for layer, tokens in zip(kept, encoder.tokens_of(batch, layers), strict=True):
            layer.add(tokens)
    rows = {key: row for row, key in enumerate(ids)}
    return [layer.features(rows) for layer in kept]


class _Layer:
    """The tokens of one layer, which become coordinates once enough are there to take the axes from."""

    def __init__(self) -> None:
        self._waiting: list[Tensor] = []  # (B, N, D) float16, on the CPU
        self._axes: tuple[Tensor, Tensor] | None = None
        self._pooled: list[Tensor] = []
        self._patches: list[Tensor] = []

    def add(self, tokens: Tokens) -> None:
        """The tokens of the next images."""
        pooled = tokens.patches.mean(dim=1) if tokens.class_token is None else tokens.class_token
        self._pooled.append(pooled.float().cpu())
        self._waiting.append(tokens.patches.clamp(-LARGEST, LARGEST).half().cpu())
        if self._axes is not None or sum(one.numel() for one in self._waiting) >= SAMPLE_VALUES:
            self._project()

    def features(self, rows: Mapping[str, int]) -> Features:
        """Of everything that was added."""
        if self._waiting:
            self._project()
        if not self._patches:
            return Features(rows, np.zeros((0, 1), np.float32), np.zeros((0, 1, 1), np.float16))
        return Features(rows, torch.cat(self._pooled).numpy(), torch.cat(self._patches).numpy())

    def _project(self) -> None:
        if self._axes is None:
            self._axes = principal_axes(torch.cat(self._waiting))
        mean, basis = self._axes
        for tokens in self._waiting:
            self._patches.append(((tokens.float() - mean) @ basis).clamp(-LARGEST, LARGEST).half())
        self._waiting = []
