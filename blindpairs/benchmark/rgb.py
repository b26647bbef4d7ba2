"""Images that every reader decodes to the same pixels: upright, in RGB, one frame; untouched where they are so.

For tools that open images as they are stored, without turning or converting them. A photograph stays a JPEG, which is
encoded again only if it is turned; everything else that must change becomes a PNG, which loses nothing.
"""

import io

from PIL import Image

from blindpairs.benchmark.folders import as_jpeg
from blindpairs.images.decode import decode
from blindpairs.images.header import HEAD_BYTES, sniff

ORIENTATION = 0x0112  # the EXIF tag


def as_rgb(data: bytes) -> bytes:
    """The bytes of an image, or those of its upright RGB copy. Undecodable for what is no image."""
    if sniff(data[:HEAD_BYTES]) == "jpeg":
        return as_jpeg(data)
    if _is_plain(data):
        return data
    out = io.BytesIO()
    Image.fromarray(decode(data).pixels).save(out, "PNG")
    return out.getvalue()


def _is_plain(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return (
                image.format in ("PNG", "WEBP")
                and image.mode == "RGB"
                and "transparency" not in image.info
                and getattr(image, "n_frames", 1) == 1
                and image.getexif().get(ORIENTATION, 1) == 1
            )
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False  # decode() says what is wrong with it
