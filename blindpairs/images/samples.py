"""What the samples of an opened image mean: which value is black, how many bits they have, which colour is transparent.

Promises: the result, (H, W, 3) bytes, is the picture that the file describes, on white where it is transparent, or the
file is refused as `unsupported_mode`; it is never the negative, never clipped, and never read in a wrong layout. Pillow
opens more kinds of TIFF than it reads correctly: each refusal below is a kind that it read wrongly without an error.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, Image, ImageFile, ImagePalette, PngImagePlugin, PpmImagePlugin, TiffImagePlugin

from blindpairs.errors import Undecodable

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), contiguous

# TIFF 6.0: tags, and the values of PHOTOMETRIC and COMPRESSION that are checked below.
BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, PLANAR, COLOUR_MAP = 258, 259, 262, 266, 284, 320
SAMPLES, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 277, 332, 338, 339, 530
WHITE_IS_ZERO, RGB, SEPARATED, YCBCR = 0, 2, 5, 6
UNCOMPRESSED, FAX, OLD_JPEG = 1, (2, 3, 4), 6


def check_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """Raise Undecodable, before it is loaded, for a TIFF whose samples Pillow would read wrongly."""
    tags = image.tag_v2
    kind, packing = tags.get(PHOTOMETRIC), tags.get(COMPRESSION, UNCOMPRESSED)
    bits = tags.get(BITS, (1,))
    if kind is None and packing not in (*FAX, OLD_JPEG):  # those define black and white themselves
        raise _unsupported("the TIFF does not say whether 0 is black or white")
    if set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        raise _unsupported("signed, floating or undefined samples have no agreed black and white")
    if kind == SEPARATED and tags.get(INK_SET, 1) != 1:
        raise _unsupported("its inks are not cyan, magenta, yellow and black")
    if tags.get(PLANAR, 1) == 2:
        # Pillow derives the layout of one plane from the first letter of the layout of all: right in few cases only.
        unusual = max(bits) != 8 or tags.get(FILL_ORDER, 1) != 1 or kind == WHITE_IS_ZERO
        layered = kind in (RGB, SEPARATED, YCBCR) or tags.get(SAMPLES, 1) == 1
        if not layered or (unusual and packing == UNCOMPRESSED) or len(tags.get(EXTRA_SAMPLES, ())) > 1:
            raise _unsupported("its planes are stored apart, in a way that is not read")
    if kind == YCBCR and packing == UNCOMPRESSED and tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1):
        raise _unsupported("uncompressed YCbCr with fewer samples of colour than of light")
    # Colours are 16-bit by the standard. Some writers put 8-bit values there, which would be read as black.
    if image.mode in ("P", "PA") and max(tags[COLOUR_MAP]) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(tags[COLOUR_MAP]))


def to_rgb(image: ImageFile.ImageFile, data: bytes, block: int = 1) -> Pixels:
    """The pixels of a loaded image of any of Pillow's modes, (H, W, 3); `data` is the content of its file.

    Each pixel is the mean of `block` rows and columns, fewer at the right and lower edge.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and isinstance(image, PpmImagePlugin.PpmImageFile)):
        return _scaled_grey(image, block)
    if image.mode in ("I", "F"):  # convert("RGB") would clip these to black or white without a word
        raise _unsupported("32-bit samples have no agreed black and white")
    if isinstance(image, PngImagePlugin.PngImageFile):
        _correct_transparent_colour(image, data[24])  # bits per sample: IHDR is always the first chunk
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _averaged(_on_white(image), block)
    return _averaged(image if image.mode == "RGB" else image.convert("RGB"), block)


def _averaged(image: Image.Image, block: int) -> Pixels:
    # An array takes twice its size while it is made, so that it is made of the smaller image.
    return np.asarray(image.reduce(block) if block > 1 else image)


def _unsupported(what: str) -> Undecodable:
    return Undecodable("unsupported_mode", f"{what}: convert it to 8 or 16 bit RGB or grey")


def _on_white(image: ImageFile.ImageFile) -> Image.Image:
    """An image with transparency, composited on white."""
    layer: Image.Image = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = layer.getextrema()[-1]
    if alpha != (255, 255) and not (alpha == (0, 0) and isinstance(image, BmpImagePlugin.BmpImageFile)):
        # Not reached by a BMP whose alpha is 0 everywhere: many writers leave those bytes empty, and it is opaque.
        if isinstance(image, TiffImagePlugin.TiffImageFile) and not {1, 2} & set(image.tag_v2.get(EXTRA_SAMPLES, ())):
            raise _unsupported("it has one sample more than colours, and does not say that this is alpha")
        layer = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return layer.convert("RGB")


def _correct_transparent_colour(image: PngImagePlugin.PngImageFile, bits: int) -> None:
    """Scale the transparent colour of a PNG from the file's `bits` per sample to the 8 bits of Pillow's pixels."""
    key: Any = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int):
        top = (1 << bits) - 1
        image.info["transparency"] = (key & top) * 255 // top
    if image.mode == "RGB" and isinstance(key, tuple) and bits == 16:
        # Pillow keeps only the upper 8 bits: of the pixels that have them, some may be transparent and others not.
        if np.any(np.all(np.asarray(image) == [part >> 8 for part in key], axis=2)):
            raise _unsupported("16-bit colours of which one is transparent")
        del image.info["transparency"]


def _scaled_grey(image: ImageFile.ImageFile, block: int) -> Pixels:
    """16-bit or 12-bit grey, scaled to 8 bits, as (H, W, 3). Pillow's convert would clip it to white."""
    samples = np.asarray(image).astype(np.uint32)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    top = (1 << min(tags.get(BITS, (16,))[0], 16)) - 1
    grey = ((samples * 255 + top // 2) // top).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts these itself, but only up to 8 bits
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[samples == key] = 255
    return np.repeat(_averaged(Image.fromarray(grey), block)[:, :, None], 3, axis=2)
