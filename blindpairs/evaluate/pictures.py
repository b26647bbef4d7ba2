"""Images of a benchmark as models get them: the stored bytes, unless another program could see something else in them.

Servers differ in what they make of EXIF orientation, transparency, CMYK, 16 bits and animations. So the bytes are kept
only where a plain reader sees exactly the pixels that blindpairs sees; everything else is sent as PNG, without loss.
"""

import io
import warnings

import numpy as np
from PIL import Image

from blindpairs.images.decode import decode
from blindpairs.images.header import HEAD_BYTES, sniff
from blindpairs.images.samples import Pixels
from blindpairs.vlm import Picture

SENT = ("jpeg", "png", "webp", "gif")  # what OpenAI-compatible servers name as the formats that they take


def upright_picture(data: bytes) -> Picture:
    """The picture in an image file. Raises Undecodable for a file that is none."""
    decoded = decode(data)
    kind = sniff(data[:HEAD_BYTES])
    if kind in SENT and "frames>1" not in decoded.flags and _seen_plainly(data, kind, decoded.pixels):
        return Picture(data, f"image/{kind}")
    stored = io.BytesIO()
    Image.fromarray(decoded.pixels).save(stored, "PNG")
    return Picture(stored.getvalue(), "image/png")


def _seen_plainly(data: bytes, kind: str, pixels: Pixels) -> bool:
    """Whether a reader that ignores orientation and converts to RGB without care sees the same pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
                if image.mode not in ("RGB", "L", "P", "1") or "transparency" in image.info:
                    return False  # what stands for transparency is each reader's choice
                return np.array_equal(np.asarray(image.convert("RGB")), pixels)
    except Exception:  # Pillow raises many kinds of them; our own decoder has read it
        return False
