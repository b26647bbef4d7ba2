"""From the bytes of one image file to its pixels, or to one failure code.

Promises: for any bytes, `decode` returns pixels or raises `Undecodable`; the size in the header is checked before any
decoder allocates; the result does not depend on which decoder made it. EXIF orientation is applied once, here;
transparency is composited on white; 16-bit samples are scaled, not clipped; of an animation the first frame is used.
Large JPEGs are decoded by torchcodec, which is two to three times as fast as Pillow and gives the same bits; all other
images, and those that torchcodec refuses, by Pillow. Nothing here renders a document or starts another program.
"""

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from blindpairs.errors import Undecodable
from blindpairs.images.header import (
    HEAD_BYTES,
    describe_unknown,
    dimensions,
    ends_properly,
    exif_orientation,
    jpeg_header,
    sniff,
)
from blindpairs.images.phash import grey_thumbnail, perceptual_hash
from blindpairs.images.samples import Pixels, check_tiff, to_rgb

# Plugins are called directly: Image.open would try all others as well, and warn and refuse by a limit of its own.
PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "pnm": PpmImagePlugin.PpmImageFile,
}
if AvifImagePlugin.SUPPORTED:
    PLUGINS["avif"] = AvifImagePlugin.AvifImageFile

# Parts of Pillow's messages for intact files that it cannot read; the last is about planes of an unknown layout.
UNSUPPORTED_PHRASES = (
    "unsupported",
    "not supported",
    "cannot handle",
    "unknown pixel mode",
    "unknown raw mode",
    "string index",
)
FAST_PATH_PIXELS = 200 * 200  # below, Pillow is as fast, and small corpora never load torch here
# Standard deviation of the 32 x 32 luminances, of 255. The smoothest of 372 phone photographs has 12, a sky that
# brightens by 10 levels from side to side has 2.9; sensor noise on a blank wall averages out to less than 2.
LOW_INFORMATION_SPREAD = 2.0


@dataclass(frozen=True)
class Limits:
    """Which images are accepted. Sides in pixels; `max_aspect` is long side over short side, None for any."""

    max_pixels: int = 178_956_970  # Pillow's own limit: above it, it raises DecompressionBombError
    min_side: int = 1
    max_aspect: float | None = None
    allow_truncated: bool = False  # JPEG only: the missing part becomes grey, and the image is flagged `truncated`


@dataclass(frozen=True)
class Decoded:
    """One image. `flags` may hold `frames>1`, `low_information`, `truncated`."""

    pixels: Pixels  # (H, W, 3) RGB, upright
    width: int
    height: int
    phash: int  # unsigned, 64 bits
    flags: tuple[str, ...]


def image_id(data: bytes) -> str:
    """The id of an image: 32 hexadecimal digits of the SHA-256 of its file's bytes. Equal bytes have equal ids."""
    return hashlib.sha256(data).hexdigest()[:32]


def decode(data: bytes, limits: Limits = Limits()) -> Decoded:
    """One image file: its pixels and what embedding records of it. Raises what `decode_pixels` raises."""
    pixels, flags = decode_pixels(data, limits)
    grey = grey_thumbnail(pixels)
    if float(grey.std()) < LOW_INFORMATION_SPREAD:
        flags.append("low_information")
    return Decoded(pixels, pixels.shape[1], pixels.shape[0], perceptual_hash(grey), tuple(flags))


def decode_pixels(data: bytes, limits: Limits, *, at_least: int | None = None) -> tuple[Pixels, list[str]]:
    """The pixels of one image file, (H, W, 3) upright, and what its decoder says of it: `frames>1`, `truncated`.

    `at_least` is for showing images, and bounds the memory: a JPEG comes at the smallest of its full, half, quarter and
    eighth size whose longest side has so many pixels; where twice as many are left, any image comes as means of whole
    blocks of pixels. Torch, which takes seconds to load, is left alone.
    Raises Undecodable with one of the codes empty, lfs_pointer, not_image, unsupported_format, unsupported_mode,
    too_many_pixels, too_small, aspect, truncated, corrupt, metadata_bomb.
    """
    kind = _identify(data)
    _check_size(dimensions(data, kind), limits)
    flags: list[str] = []
    if kind == "jpeg" and limits.allow_truncated and jpeg_header(data).scan and not ends_properly(data, kind):
        data += b"\xff\xd9"  # with an end marker, the decoder fills the missing part instead of refusing the file
        flags.append("truncated")
    pixels = _torch_pixels(data) if at_least is None and kind == "jpeg" else None
    if pixels is None:
        pixels, animated = _pillow_pixels(data, kind, limits, at_least)
        if animated:
            flags.append("frames>1")
    return pixels, flags


def pixels_held(data: bytes) -> int:
    """How many pixels of an image file are in memory at once while it is decoded to be shown.

    None of a baseline JPEG, which is made smaller row by row; all others, progressive JPEGs among them, are held whole.
    """
    kind = sniff(data[:HEAD_BYTES])
    if kind is None or (kind == "jpeg" and jpeg_header(data).frame in (0xC0, 0xC1)):
        return 0
    width, height = dimensions(data, kind) or (0, 0)
    return width * height


def _check_size(size: tuple[int, int] | None, limits: Limits) -> None:
    """Raise Undecodable for a (width, height) outside the limits. None means that it is not known yet."""
    if size is None:
        return
    width, height = size
    if width * height > limits.max_pixels:
        raise Undecodable("too_many_pixels", f"{width} x {height} pixels; the limit is {limits.max_pixels:,}")
    if 0 < min(size) < limits.min_side:
        raise Undecodable("too_small", f"{width} x {height} pixels; the short side must have {limits.min_side}")
    if limits.max_aspect is not None and max(size) > limits.max_aspect * min(size) > 0:
        raise Undecodable("aspect", f"{width} x {height} pixels; long to short may be {limits.max_aspect:g} to 1")


def _identify(data: bytes) -> str:
    """The format by its first bytes; raises Undecodable for everything that must not reach a decoder."""
    if not data:
        raise Undecodable("empty", "the file has no bytes")
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        raise Undecodable("lfs_pointer", "a Git LFS pointer, not the image: run `git lfs pull` where it came from")
    kind = sniff(data[:HEAD_BYTES])
    if kind is None:
        raise Undecodable("not_image", f"no image: {describe_unknown(data)}")
    if data.startswith(b"MM\x00+"):  # Pillow reads its 64-bit offsets as 32-bit ones, and finds nothing there
        raise Undecodable("unsupported_mode", "a big-endian BigTIFF is not read: convert it to TIFF")
    if kind not in PLUGINS:
        raise Undecodable("unsupported_format", f"{kind.upper()} is not read: convert it to JPEG, PNG or WebP")
    return kind


def _torch_pixels(data: bytes) -> Pixels | None:
    """The pixels of a large, complete, baseline or progressive JPEG, (H, W, 3); None for a file that Pillow decodes.

    Under these conditions torchcodec 0.17 agreed with Pillow 13 on 10,000 mutated JPEGs, in every pixel and in what
    they refuse. Without them it did not.
    """
    header = jpeg_header(data)
    if header.width * header.height < FAST_PATH_PIXELS or header.frame not in (0xC0, 0xC1, 0xC2):
        return None
    if header.components not in (1, 3) or header.precision != 8 or not ends_properly(data, "jpeg"):
        return None
    decode_jpeg = _torchcodec()
    if decode_jpeg is None:
        return None
    source = bytearray(data)
    for offset in header.app1:  # torchcodec would rotate by its own reading of Exif: renamed to APP15, it is ignored
        source[offset + 1] = 0xEF
    try:
        pixels: Pixels = decode_jpeg(source, mode="RGB").permute(1, 2, 0).numpy()  # (3, H, W) -> (H, W, 3), a view
    except (RuntimeError, ValueError):
        return None
    return upright(pixels, _jpeg_orientation(data))


@lru_cache(maxsize=1)
def _torchcodec() -> Callable[..., Any] | None:
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, OSError, RuntimeError):  # not installed for this platform, or its libraries do not load
        return None
    return decode_jpeg  # type: ignore[no-any-return]


def _pillow_pixels(data: bytes, kind: str, limits: Limits, at_least: int | None) -> tuple[Pixels, bool]:
    """(pixels, whether there are more frames), by Pillow; raises Undecodable for anything that Pillow raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = PLUGINS[kind](io.BytesIO(data))
            _check_size(image.size, limits)  # formats whose header only a whole parser reads, and disagreeing headers
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                if image.tag_v2.get(254, 0) & 1:
                    raise Undecodable("unsupported_format", "the preview in a raw file: develop it to JPEG or TIFF")
                check_tiff(image)
            if at_least is not None:  # `draft` takes the smallest size with so many columns and rows; JPEG alone has it
                longest = max(image.size)
                image.draft(image.mode, (-(-image.width * at_least // longest), -(-image.height * at_least // longest)))
            image.load()
            block = max(1, max(image.size) // (2 * at_least)) if at_least else 1
            pixels = upright(to_rgb(image, data, block), _orientation(image, data, kind))
            return pixels, kind != "jpeg" and _animated(image)
    except (Undecodable, MemoryError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, DecompressionBombError and more
        raise _named_failure(error, data, kind) from error


def _named_failure(error: Exception, data: bytes, kind: str) -> Undecodable:
    """The failure for what Pillow raised. Its classes do not tell causes apart: its messages and the data do."""
    message = " ".join(str(error).split())[:200]
    lowered = message.lower()
    if isinstance(error, Image.DecompressionBombError):
        return Undecodable("too_many_pixels", message)
    if "max_text" in lowered or "decompressed data too large" in lowered:
        return Undecodable("metadata_bomb", f"its text or profile unpacks to far more than it should: {message}")
    if not ends_properly(data, kind) or "truncat" in lowered or "not enough image data" in lowered:
        return Undecodable("truncated", f"the {kind.upper()} is cut off: {message}")
    if any(words in lowered for words in UNSUPPORTED_PHRASES):
        return Undecodable("unsupported_mode", f"a kind of {kind.upper()} that is not read: {message}")
    return Undecodable("corrupt", f"a damaged {kind.upper()}: {message}")


def _animated(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame: the first one is read already
        return False


def _orientation(image: ImageFile.ImageFile, data: bytes, kind: str) -> int:
    if kind == "tiff":  # Pillow has applied it while loading
        return 1
    block = image.info.get("exif")
    return _jpeg_orientation(data) if kind == "jpeg" else exif_orientation(block) if isinstance(block, bytes) else 1


def _jpeg_orientation(data: bytes) -> int:
    at = jpeg_header(data).exif
    return exif_orientation(data[at : at + 65536]) if at else 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """(H, W, 3) as stored -> upright by an Exif orientation of 1 to 8, contiguous; 5 to 8 swap height and width."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    rows, columns = UNFLIP[orientation]
    return np.ascontiguousarray(pixels[::rows, ::columns])


# Orientation -> steps along rows and columns, after the transposition that 5 to 8 begin with.
UNFLIP = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
