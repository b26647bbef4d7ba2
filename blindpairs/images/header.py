"""The format, size and orientation in the header of an image file, read before any decoder runs.

Promises: pure Python over bytes, no allocation that depends on what a header claims, no exception for any input. The
format is decided by the first bytes, never by the name: that keeps bombs, renamed files and error pages out of
decoders. The name only decides whether a file is worth reporting if it is no image.
Layouts: ITU T.81 annex B (JPEG), the PNG, GIF89a, WebP container and Exif 2.3 specifications, BITMAPINFOHEADER.
"""

import os
import re
import struct
from dataclasses import dataclass

# Enough for every magic below, and for the 58 brands of an ISO box: callers need not read more to know the format.
HEAD_BYTES = 256
DIB_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}  # checked as well, because many a text begins with "BM"
# Brands that say how the pixels are coded. Those in ANY_CODING only say that there are images (ISO/IEC 23008-12).
CODED = {
    "avif": (b"avif", b"avis"),
    "heic": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    "jxl": (b"jxl ",),
    "jpeg2000": (b"jp2 ", b"jpx ", b"jpm ", b"jph "),
}
ANY_CODING = (
    b"mif1",
    b"mif2",
    b"mif3",
    b"msf1",
    b"miaf",
    b"avci",
    b"avcs",
    b"jpeg",
    b"jpgs",
    b"j2ki",
    b"j2is",
    b"vvic",
)
BRANDS = {brand: kind for kind, brands in CODED.items() for brand in brands}
MOVIE_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"pnot")  # what MP4 and QuickTime files begin with
MAGICS = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\xff\x0a", "jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"8BPS", "psd"),
    (b"%PDF-", "pdf"),
    (b"%!PS", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
)
IMAGE_NAMES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .jxl .jp2 .j2k .jpf .ppm .pgm"
    " .pbm .pnm .svg .eps .psd".split()
)
DOCUMENTS = {"pdf", "eps", "svg"}  # taken for images only if the name says so
PNM = re.compile(rb"P([1-6])(?:\s+(?:#[^\r\n]*[\r\n]+\s*)*)(\d{1,9})(?:\s+(?:#[^\r\n]*[\r\n]+\s*)*)(\d{1,9})\s")


def sniff(head: bytes) -> str | None:
    """The format that the first HEAD_BYTES bytes show (`jpeg`, `png`, ..., `svg`), or None."""
    for magic, kind in MAGICS:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _coded_as(_brands(head))
    if head[:2] == b"BM" and len(head) >= 18 and int.from_bytes(head[14:18], "little") in DIB_HEADER_SIZES:
        return "bmp"
    if PNM.match(head):
        return "pnm"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "svg" if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text) else None


def has_image_name(name: str) -> bool:
    """Whether the name of a file or an archive member has the extension of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_NAMES


def holds_image(head: bytes) -> bool:
    """Whether a file without an image's extension is an image, by its first HEAD_BYTES bytes."""
    kind = sniff(head)
    return kind is not None and kind not in DOCUMENTS


def _brands(head: bytes) -> list[bytes]:
    """The major brand and the compatible ones, up to the end of their box."""
    size, start = int.from_bytes(head[:4], "big"), 8
    if size == 1:  # the size follows the name, in 64 bits
        size, start = int.from_bytes(head[8:16], "big"), 16
    end = min(size or len(head), len(head))  # 0: to the end of the file
    offsets = (start, *range(start + 8, end, 4))  # the four bytes after the major brand are its version
    return [head[offset : offset + 4] for offset in offsets if offset + 4 <= end]


def _coded_as(brands: list[bytes]) -> str | None:
    """The coding that a major brand names, else the first readable one of the compatible brands, in any order."""
    kinds = [BRANDS[brand] for brand in brands if brand in BRANDS]
    if kinds and brands[0] not in BRANDS:
        return "avif" if "avif" in kinds else kinds[0]
    return kinds[0] if kinds else "heif" if any(brand in ANY_CODING for brand in brands) else None


def describe_unknown(data: bytes) -> str:
    """What the bytes of a file that is no image look like, for a message."""
    if data[4:8] in MOVIE_BOXES:
        brand = "".join(chr(byte) for byte in data[8:12] if 32 < byte < 127) if data[4:8] == b"ftyp" else ""
        return f"looks like a video or sound in MP4 or QuickTime{f', of the brand {brand}' if brand else ''}"
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "looks like HTML, perhaps the error page of a download"
    if start.startswith((b"{", b"[")):
        return "looks like JSON, perhaps the error answer of a download"
    if start.startswith(b"<"):
        return "looks like XML"
    if start and all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return "looks like text"
    return f"starts with the bytes {data[:8].hex(' ')}"


def dimensions(data: bytes, kind: str) -> tuple[int, int] | None:
    """(width, height) as the header claims them, or None if only a parser of the whole format can read them."""
    read = {"jpeg": _jpeg_size, "png": _png_size, "gif": _gif_size, "webp": _webp_size, "bmp": _bmp_size}.get(kind)
    try:
        if read:
            return read(data)
        pnm = PNM.match(data[:4096]) if kind == "pnm" else None
        return (int(pnm[2]), int(pnm[3])) if pnm else None
    except (struct.error, IndexError):
        return None  # cut inside the header: the decoder fails, and its error says so


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    header = jpeg_header(data)
    return (header.width, header.height) if header.components else None


def _png_size(data: bytes) -> tuple[int, int] | None:
    return struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else None


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":  # 24-bit sides, stored less one
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if chunk == b"VP8L":  # 14-bit sides, stored less one, after the signature byte
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":  # 14-bit sides and 2 bits of scale each, after frame tag and start code
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _bmp_size(data: bytes) -> tuple[int, int]:
    layout = "<HH" if data[14] == 12 else "<ii"
    width, height = struct.unpack_from(layout, data, 18)
    return abs(width), abs(height)  # a negative height only says that rows run top-down


@dataclass(frozen=True)
class JpegHeader:
    """The markers of a JPEG up to its first scan; `components` is 0 where no frame header was found."""

    width: int = 0
    height: int = 0
    components: int = 0
    frame: int = 0  # the SOF marker's low byte: 0xC0 baseline, 0xC2 progressive, ...
    precision: int = 0  # bits a sample
    exif: int = 0  # offset of the Exif block's six-byte name, 0 where there is none
    scan: int = 0  # offset of the first scan, 0 where the file ends before
    app1: tuple[int, ...] = ()  # offsets of all APP1 markers: Exif, XMP


def jpeg_header(data: bytes) -> JpegHeader:
    """Walk the segments of a JPEG. Never reads past the first scan."""
    found: dict[str, int] = {}
    app1: list[int] = []
    at, end = 2, len(data)
    while at + 4 <= end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:
            found["scan"] = at
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            at += 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 10 <= end:
            precision, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            found |= {"width": width, "height": height, "components": components}
            found |= {"precision": precision, "frame": marker}
        elif marker == 0xE1:
            app1.append(at)
            if data[at + 4 : at + 10] == b"Exif\x00\x00":
                found.setdefault("exif", at + 4)
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return JpegHeader(**found, app1=tuple(app1))


def exif_orientation(block: bytes) -> int:
    """The Exif orientation, 1 to 8; 1 (upright) if it cannot be read."""
    block = block.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        at = struct.unpack_from(order + "I", block, 4)[0]
        for entry in range(struct.unpack_from(order + "H", block, at)[0]):
            tag, kind, _ = struct.unpack_from(order + "HHI", block, at + 2 + 12 * entry)
            if tag == 0x0112:  # SHORT by the standard, LONG by some writers
                value = struct.unpack_from(order + ("I" if kind == 4 else "H"), block, at + 10 + 12 * entry)[0]
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def ends_properly(data: bytes, kind: str) -> bool:
    """Whether the file has its end marker or full length. If a decoder fails, this tells `truncated` from `corrupt`."""
    if kind == "jpeg":  # the thumbnail in the Exif block has an end marker of its own, before the first scan
        scan = jpeg_header(data).scan
        return scan > 0 and data.find(b"\xff\xd9", scan) > 0
    if kind == "png":
        return b"IEND" in data[-1024:] or b"IEND\xae\x42\x60\x82" in data
    if kind == "gif":
        return data.rstrip(b"\x00").endswith(b";")
    if kind == "webp":
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    if kind == "bmp":
        return int.from_bytes(data[2:6], "little") <= len(data)
    return True
