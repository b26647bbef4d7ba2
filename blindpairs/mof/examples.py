"""Rows of an instruction file as training examples: ids, labels, and the image as pixels or as cached features.

Promises: an example is made when it is asked for, in any process; text-only rows simply have no image; an image that
cannot be used is an error that names the row and the file (`checking` names all of them before training starts).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import read_item
from blindpairs.mof.features import FeatureCache
from blindpairs.mof.indexing import InstructionIndex
from blindpairs.mof.pixels import Pictures, PixelRules, item_of, shown, square_of
from blindpairs.mof.templates import TurnTokenizer

# input_ids (L,), labels (L,), and pixel_values (3, S, S) or features, one (N, D) for each tower; neither for text only
Example = dict[str, Any]


@dataclass(frozen=True)
class Sight:
    """Where images are and what becomes of them. `places` is the number of tokens an image has in the text."""

    pictures: Pictures
    rules: PixelRules
    places: int
    features: FeatureCache | None = None  # instead of pixels

    def image(self, name: str) -> Example:
        """The part of an example that holds its image. Raises Undecodable."""
        if self.features is not None:
            return {"features": self.features[name]}
        square = square_of(read_item(item_of(self.pictures, name)), self.rules)
        return {"pixel_values": self.rules.normalised(torch.from_numpy(square))}


class Examples(Dataset[Example]):
    """A data set of examples. `lengths` holds the number of ids of each, without opening an image."""

    def __init__(self, rows: InstructionIndex, tokens: TurnTokenizer, sight: Sight, max_length: int = 2048) -> None:
        """Longer examples are cut to `max_length` ids, after the image has been put in, as LLaVA does."""
        self.rows, self.tokens, self.sight, self.max_length = rows, tokens, sight, max_length
        self.has_image = rows.has_image
        self.lengths = np.minimum(rows.tokens + sight.places * rows.has_image, max_length).astype(np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Example:
        """Raises InputError where the image cannot be used, or is cut off by `max_length`."""
        ids, labels = self.tokens.spread(self.rows.encoded(number), self.sight.places)
        name, image = self.rows.image(number)
        example = {
            "input_ids": torch.from_numpy(ids[: self.max_length]),
            "labels": torch.from_numpy(labels[: self.max_length]),
        }
        if image is None:
            return example
        if self.tokens.image_id in ids[self.max_length :]:
            raise InputError(
                f"row {name!r}: its image needs {self.sight.places} places and lies beyond the first "
                f"{self.max_length} ids: allow longer examples, or leave the row out"
            )
        try:
            return example | self.sight.image(image)
        except Undecodable as failure:
            raise InputError(
                f"row {name!r}: its image {shown(self.sight.pictures, image)} cannot be used "
                f"({failure.code}: {failure.message}): mend it, and run the same command again"
            ) from failure

    def dummy(self) -> Example:
        """The image part of an example that has no image: a grey picture, or features of ones (they can be normed)."""
        if self.sight.features is not None:
            return {"features": tuple(torch.ones(shape, dtype=torch.float16) for shape in self.sight.features.shapes)}
        size = self.sight.rules.size
        return {"pixel_values": torch.zeros(3, size, size)}
