"""From decoded pixels to the input square of an encoder, as the library of that encoder makes it.

Promises: the result differs from the library's own pipeline only by the rounding of its resampler (a few levels of
255); the crop starts at exactly the pixel where that library starts it (open_clip and timm round half a pixel,
transformers floors it, and a shift of one pixel changes values by up to 212 levels); memory is bounded by the source
and the square, for any aspect ratio. Mean and std are only recorded here: the encoder applies them on its device, so
that workers send bytes, a quarter of the size of floats.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from blindpairs.errors import ConfigError

Interpolation = Literal["bicubic", "bilinear"]
Geometry = tuple[int, str, int, str, str]  # see Preprocess.geometry

# Beyond this aspect ratio only the part of the image that the crop keeps is resampled: 5000 x 1 pixels would otherwise
# become 1,120,000 x 224.
LONGEST_WHOLE_RESIZE = 16


@dataclass(frozen=True)
class Preprocess:
    """How one encoder gets its images. Vectors that were made with another value in any field cannot be compared.

    Resampling is always antialiased, as in all three libraries. `short_side` is the length of the short side before the
    crop (`resize="shortest"`), or of both sides (`"squash"`, which does not keep the aspect ratio).
    """

    size: int
    resize: Literal["shortest", "squash"]
    short_side: int
    interpolation: Interpolation
    crop_rounding: Literal["round", "floor"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """ConfigError if the crop would need padding: no published encoder does that."""
        if not 0 < self.size <= self.short_side:
            raise ConfigError(
                f"the preprocessing resizes to {self.short_side} and crops {self.size}; the crop must be the smaller"
            )

    @property
    def geometry(self) -> Geometry:
        """A key of all that `apply` depends on: encoders with equal keys share one result."""
        return (self.size, self.resize, self.short_side, self.interpolation, self.crop_rounding)

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB bytes -> (3, size, size) bytes, for any H, W >= 1."""
        height, width = pixels.shape[:2]
        resized = self._resized(height, width)
        top, left = (self._crop_start(side) for side in resized)
        if resized != (height, width):
            if max(resized) > LONGEST_WHOLE_RESIZE * self.short_side:
                pixels = _resize_window(pixels, resized, (top, left), self)
                top = left = 0
            else:
                pixels = _resize_whole(pixels, resized, self.interpolation)
        square = pixels[top : top + self.size, left : left + self.size]
        return np.ascontiguousarray(square.transpose(2, 0, 1))

    def seen(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Which part of an image of that size is in the square: left, top, right, bottom, as shares of its sides."""
        resized = self._resized(height, width)
        top, left = (self._crop_start(side) / side for side in resized)
        bottom, right = ((self._crop_start(side) + self.size) / side for side in resized)
        return (left, top, right, bottom)

    def describe(self) -> dict[str, object]:
        """Every rule between file and encoder, ready for JSON. The store records it, and refuses another."""
        rules: dict[str, object] = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        return rules | {"antialias": True, "exif": "applied once, at decode", "alpha": "composited on white"}

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width before the crop; all three libraries truncate the long side."""
        if self.resize == "squash":
            return (self.short_side, self.short_side)
        if height <= width:
            return (self.short_side, int(self.short_side * width / height))
        return (int(self.short_side * height / width), self.short_side)

    def _crop_start(self, side: int) -> int:
        spare = side - self.size
        return round(spare / 2) if self.crop_rounding == "round" else spare // 2


def _resize_whole(
    pixels: npt.NDArray[np.uint8], resized: tuple[int, int], interpolation: Interpolation
) -> npt.NDArray[np.uint8]:
    """Torch's uint8 resampler: two to three times as fast as Pillow's, within a few levels of it.

    It is what torchvision's resize calls; importing torchvision would cost every worker seconds for nothing more.
    """
    import torch

    # A view that torch takes for channels-last: no copy unless the decoder handed over read-only or flipped memory.
    image = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)[None]  # (1, 3, H, W)
    image = torch.nn.functional.interpolate(
        image, size=resized, mode=interpolation, align_corners=False, antialias=True
    )
    whole: npt.NDArray[np.uint8] = image[0].permute(1, 2, 0).numpy()
    return whole


def _resize_window(
    pixels: npt.NDArray[np.uint8], resized: tuple[int, int], start: tuple[int, int], rules: Preprocess
) -> npt.NDArray[np.uint8]:
    """Resize to `resized`, but compute only the square at `start`: (size, size, 3).

    Pillow resamples from a fractional box and still reads the pixels around it, so this equals resizing the whole.
    """
    from PIL import Image

    spans: list[slice] = []
    edges: list[tuple[float, float]] = []
    for side, new, first in zip(pixels.shape[:2], resized, start, strict=True):
        scale = side / new
        low, high = first * scale, (first + rules.size) * scale
        reach = 2 * max(scale, 1.0) + 1  # bicubic reads 2 pixels either way, on the coarser of the two grids
        spans.append(slice(max(0, int(low - reach)), min(side, int(high + reach) + 1)))
        # Pillow holds a box in float32: kept small by cutting the source first.
        edges.append((low - spans[-1].start, min(high, side) - spans[-1].start))
    (top, bottom), (left, right) = edges
    resample = Image.Resampling.BICUBIC if rules.interpolation == "bicubic" else Image.Resampling.BILINEAR
    source = Image.fromarray(np.ascontiguousarray(pixels[spans[0], spans[1]]))
    return np.asarray(source.resize((rules.size, rules.size), resample, box=(left, top, right, bottom)))
