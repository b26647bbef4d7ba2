"""From the images of a benchmark to the inputs of an encoder: decoded one by one, never all held."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import Undecodable
from blindpairs.images import Limits
from blindpairs.images.decode import decode_pixels

if TYPE_CHECKING:
    from blindpairs.encoders import Encoder

Square = NDArray[np.uint8]  # (3, S, S)
T = TypeVar("T")


def squares(
    encoder: "Encoder", images: Iterable[tuple[str, bytes | Undecodable]], failed: Callable[[str, str], None]
) -> Iterator[tuple[str, Square]]:
    """(image id, the encoder's input) of each image that can be read; `failed` gets id and reason of the others."""
    for key, data in images:
        try:
            if isinstance(data, Undecodable):
                raise data
            yield key, encoder.preprocess.apply(decode_pixels(data, Limits())[0])
        except Undecodable as error:
            failed(key, error.message)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items in their order, the last one shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
