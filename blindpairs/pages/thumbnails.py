"""Images as small `data:` addresses, so that a page is one file."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

THUMBNAIL_SIDE = 320  # longest side, in pixels: the page never shows an image larger
THUMBNAIL_BYTES = 13_500  # at most for one photograph, so that 300 pairs of them stay under 12 MB
CONTROL_SIDE = 160  # for an image that only a control shows, so that 300 of these add less than 4 MB
CONTROL_BYTES = 4_500
SMALL_SIDE = 128  # an image up to this size is shown enlarged by an integer factor, and stored without loss


@dataclass(frozen=True)
class Thumbnail:
    """One image for a page: `width` and `height` are its size on the page, in CSS pixels.

    A `small` image is stored at its own size and shown enlarged by an integer factor: show it with
    `image-rendering: pixelated`.
    """

    source: str  # a data: address, for `src`
    width: int
    height: int
    small: bool


def make_thumbnail(pixels: np.ndarray, side: int = THUMBNAIL_SIDE, most_bytes: int = THUMBNAIL_BYTES) -> Thumbnail:
    """(H, W, 3) uint8 -> WebP of at most `side`; never enlarged, and with lower quality if it is detailed."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    small = max(pixels.shape[:2]) <= SMALL_SIDE
    for quality in (80, 60, 40, 20):
        stored = io.BytesIO()
        # method=4 is the default. It is given so that the bytes do not change with a new default.
        image.save(stored, "WEBP", lossless=small, quality=quality, method=4)
        if small or stored.tell() <= most_bytes:
            break
    # CSS enlarges a small image, without interpolation; the file keeps the image's own size.
    step = max(1, side // max(image.size)) if small else 1
    source = "data:image/webp;base64," + base64.b64encode(stored.getvalue()).decode("ascii")
    return Thumbnail(source, image.width * step, image.height * step, small)
