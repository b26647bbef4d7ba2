"""The meaning of the samples of an opened image: which value is black, how many bits, which colour is transparent.

Promises: the (H, W, 3) bytes that come out are the picture that the file describes, on white where it is transparent,
or it is refused as `unsupported_mode`; never its negative, never clipped, never another layout read as this one. Pillow
opens more kinds of TIFF than it reads correctly: each refusal below is one that came out wrong silently.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, Image, ImageFile, ImagePalette, PngImagePlugin, PpmImagePlugin, TiffImagePlugin

from blindpairs.errors import Undecodable

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), contiguous

# TIFF 6.0: tags, and the values that the checks below are about.
BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, PLANAR, COLOUR_MAP = 258, 259, 262, 266, 284, 320
SAMPLES, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 277, 332, 338, 339, 530
WHITE_IS_ZERO, RGB, SEPARATED, YCBCR = 0, 2, 5, 6
UNCOMPRESSED, FAX, OLD_JPEG = 1, (2, 3, 4), 6


def check_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuse, before it is loaded, a TIFF whose samples would be read as what they are not."""
    tags = image.tag_v2
    kind, packing = tags.get(PHOTOMETRIC), tags.get(COMPRESSION, UNCOMPRESSED)
    bits = tags.get(BITS, (1,))
    if kind is None and packing not in (*FAX, OLD_JPEG):  # these two have a meaning of their own
        raise _unsupported("the TIFF does not say whether 0 is black or white")
    if set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        raise _unsupported("signed, floating or undefined samples have no agreed black and white")
    if kind == SEPARATED and tags.get(INK_SET, 1) != 1:
        raise _unsupported("its inks are not cyan, magenta, yellow and black")
    if tags.get(PLANAR, 1) == 2:  # Pillow takes the first letter of the name of its whole layout for that of a plane's
        odd = max(bits) != 8 or tags.get(FILL_ORDER, 1) != 1 or kind == WHITE_IS_ZERO
        layered = kind in (RGB, SEPARATED, YCBCR) or tags.get(SAMPLES, 1) == 1
        if not layered or (odd and packing == UNCOMPRESSED) or len(tags.get(EXTRA_SAMPLES, ())) > 1:
            raise _unsupported("its planes are stored apart, in a way that is not read")
    if kind == YCBCR and packing == UNCOMPRESSED and tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1):
        raise _unsupported("uncompressed YCbCr with fewer samples of colour than of light")
    if image.mode in ("P", "PA") and max(tags[COLOUR_MAP]) < 256:  # 8-bit colours in 16 bits: read as black
        image.palette = ImagePalette.raw("RGB;L", bytes(tags[COLOUR_MAP]))


def to_rgb(image: ImageFile.ImageFile, data: bytes) -> Pixels:
    """The pixels of a loaded image of any of Pillow's modes; `data` is its file."""
    if image.mode.startswith("I;16") or (image.mode == "I" and isinstance(image, PpmImagePlugin.PpmImageFile)):
        return _scaled_grey(image)
    if image.mode in ("I", "F"):  # convert("RGB") would clip these to black or white without a word
        raise _unsupported("32-bit samples have no agreed black and white")
    if isinstance(image, PngImagePlugin.PngImageFile):
        _mend_key(image, data[24])  # the depth in IHDR, which comes first
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _unsupported(what: str) -> Undecodable:
    return Undecodable("unsupported_mode", f"{what}: convert it to 8 or 16 bit RGB or grey")


def _on_white(image: ImageFile.ImageFile) -> Pixels:
    layer = image.convert("RGBA")
    alpha = layer.getextrema()[-1]
    if alpha != (255, 255) and not (alpha == (0, 0) and isinstance(image, BmpImagePlugin.BmpImageFile)):
        # A bitmap whose alpha is 0 everywhere has none: many writers leave those bytes empty.
        if isinstance(image, TiffImagePlugin.TiffImageFile) and not {1, 2} & set(image.tag_v2.get(EXTRA_SAMPLES, ())):
            raise _unsupported("it has one sample more than colours, and does not say that this is alpha")
        layer = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(layer.convert("RGB"))


def _mend_key(image: PngImagePlugin.PngImageFile, bits: int) -> None:
    """Put the transparent colour of a PNG, which counts in the file's own bits, into the 8 bits of Pillow's pixels."""
    key: Any = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int):
        top = (1 << bits) - 1
        image.info["transparency"] = (key & top) * 255 // top
    if image.mode == "RGB" and isinstance(key, tuple) and bits == 16:
        # Of the 16 bits only the upper 8 are left: of their colour's pixels some may be transparent, others not.
        if np.any(np.all(np.asarray(image) == [part >> 8 for part in key], axis=2)):
            raise _unsupported("16-bit colours of which one is transparent")
        del image.info["transparency"]


def _scaled_grey(image: ImageFile.ImageFile) -> Pixels:
    """16-bit (or 12-bit) grey to 8 bit by scaling, which Pillow's convert would clip to white."""
    samples = np.asarray(image).astype(np.uint32)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    top = (1 << min(tags.get(BITS, (16,))[0], 16)) - 1
    grey = ((samples * 255 + top // 2) // top).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow turns these round at 8 bit and below
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[samples == key] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)
