"""From the name of a row's image to the pixels that the towers see, or to one failure code.

Promises: files are read and decoded by the code of `images/`, so that an image that embedding refuses is refused here
for the same reason; the result is that of the image processor which the checkpoint carries, up to the rounding of the
resampler; padding to a square is LLaVA's.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blindpairs.errors import ConfigError
from blindpairs.images.by_uri import file_item
from blindpairs.images.decode import Limits, decode_pixels
from blindpairs.images.item import Item
from blindpairs.images.preprocess import Interpolation, Preprocess
from blindpairs.mof.shards import Shards

INTERPOLATIONS: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which processors store


@dataclass(frozen=True)
class PixelRules:
    """How pixels become the input of the towers. `pad` pads to a square before anything else, as LLaVA-1.5 does."""

    preprocess: Preprocess
    pad: bool = False

    @classmethod
    def of(cls, image_processor: Any) -> "PixelRules":
        """The rules of a transformers image processor of CLIP's kind. ConfigError for one that does something else."""
        side, crop = dict(image_processor.size), dict(image_processor.crop_size or {})
        short, whole = side.get("shortest_edge"), side.get("height")
        interpolation = INTERPOLATIONS.get(int(image_processor.resample))
        square = crop.get("height") if image_processor.do_center_crop else whole or short
        if interpolation is None or not square or (short is None and whole != side.get("width")):
            raise ConfigError(
                f"the image processor resizes to {side}, crops {crop}: LLaVA's resize and crop to a square"
            )
        return cls(
            Preprocess(
                size=int(square),
                resize="shortest" if short else "squash",
                short_side=int(short or whole or square),
                interpolation=interpolation,
                crop_rounding="floor",  # as transformers crops
                mean=tuple(image_processor.image_mean),
                std=tuple(image_processor.image_std),
            ),
            pad=bool(getattr(image_processor, "do_pad", False)),
        )

    @property
    def size(self) -> int:
        """The side of the square."""
        return self.preprocess.size

    def describe(self) -> dict[str, object]:
        """Every rule between file and tower, ready for JSON."""
        return asdict(self)

    def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) bytes -> (3, S, S) bytes."""
        if self.pad:
            colour = tuple(int(255 * mean) for mean in self.preprocess.mean)  # LLaVA truncates, too
            pixels = padded_to_square(pixels, colour)
        return self.preprocess.apply(pixels)

    def normalised(self, squares: Tensor) -> Tensor:
        """(..., 3, S, S) bytes -> the same shape in float32, by mean and standard deviation."""
        mean, std = (  # (3, 1, 1) each
            torch.tensor(of, dtype=torch.float32).view(3, 1, 1) for of in (self.preprocess.mean, self.preprocess.std)
        )
        return (squares.float() / 255 - mean) / std


def padded_to_square(pixels: npt.NDArray[np.uint8], colour: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) -> (M, M, 3) with M the longer side: the image in the middle, rounded to the top and the left."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    if height == width:
        return pixels
    square = np.empty((side, side, 3), np.uint8)
    square[:] = colour  # (3,) over (M, M, 3)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


Pictures = Path | Shards  # a folder, or archives


def item_of(pictures: Pictures, name: str) -> Item:
    """Where the image of a row is."""
    return file_item(str(pictures / name)) if isinstance(pictures, Path) else pictures.item(name)


def place_of(pictures: Pictures, name: str) -> str:
    """Where the bytes of an image lie, unlike those of any other folder or archive, in which it may have this name."""
    if isinstance(pictures, Path):
        return str((pictures / name).absolute())
    item = pictures.item(name)
    return f"{Path(item.container).absolute()}#{item.offset}+{item.size}"


def shown(pictures: Pictures, name: str) -> str:
    """The image of a row in a message."""
    return str(pictures / name) if isinstance(pictures, Path) else pictures.shown(name)


def square_of(data: bytes, rules: PixelRules) -> npt.NDArray[np.uint8]:
    """(3, S, S) bytes of one image file. Raises what `decode_pixels` raises."""
    pixels, _ = decode_pixels(data, Limits())
    return rules.square(pixels)
