"""Images as small `data:` addresses, so that a page is one file."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

THUMBNAIL_SIDE = 320  # longest side, in pixels: what the page shows at most, so a larger one would only weigh
THUMBNAIL_BYTES = 13_500  # what one photograph may take, so that 300 pairs of them stay under 12 MB
SMALL_SIDE = 128  # up to here an image is shown enlarged by whole steps, and stored without loss


@dataclass(frozen=True)
class Thumbnail:
    """One image for a page: `width` and `height` are its size on the page, in CSS pixels.

    A `small` image is stored at its own size and shown enlarged by a whole factor: show it with
    `image-rendering: pixelated`.
    """

    source: str  # a data: address, for `src`
    width: int
    height: int
    small: bool


def make_thumbnail(pixels: np.ndarray) -> Thumbnail:
    """(H, W, 3) uint8 -> WebP of at most THUMBNAIL_SIDE; never larger than the image is, coarser where it is busy."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    small = max(pixels.shape[:2]) <= SMALL_SIDE
    for quality in (80, 60, 40, 20):
        stored = io.BytesIO()
        # method=4 is WebP's own default, named because the bytes must not move with it.
        image.save(stored, "WEBP", lossless=small, quality=quality, method=4)
        if small or stored.tell() <= THUMBNAIL_BYTES:
            break
    # The enlargement is the page's, by CSS with hard pixels; the file keeps the image's own size.
    step = max(1, THUMBNAIL_SIDE // max(image.size)) if small else 1
    source = "data:image/webp;base64," + base64.b64encode(stored.getvalue()).decode("ascii")
    return Thumbnail(source, image.width * step, image.height * step, small)
