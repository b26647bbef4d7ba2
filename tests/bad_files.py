"""Makes, by code, the broken, hostile and merely odd image files that corpora really hold. No fixture is stored."""

import io
import struct
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def scene(height: int = 40, width: int = 60, seed: int = 0) -> Pixels:
    """(H, W, 3): blocks of colour, so that JPEG keeps them and every turn or flip shows."""
    colours = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.kron(colours, np.ones((8, 8, 1), np.uint8))[:height, :width]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(height: int = 40, width: int = 60, seed: int = 0, **options: Any) -> bytes:
    """A sound JPEG of a scene."""
    return saved(Image.fromarray(scene(height, width, seed)), "JPEG", **options)


def png(height: int = 40, width: int = 60, seed: int = 0, **options: Any) -> bytes:
    """A sound PNG of a scene."""
    return saved(Image.fromarray(scene(height, width, seed)), "PNG", **options)


def chunk(name: bytes, body: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(width: int, height: int, depth: int, colour: int, packed: bytes, *extra: bytes) -> bytes:
    """A PNG from its zlib stream; `extra` chunks go before the pixels. `colour` is the PNG colour type."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def samples_png(samples: npt.NDArray[np.uint16], *extra: bytes) -> bytes:
    """A 16-bit PNG of (H, W) grey or (H, W, 3) RGB samples."""
    rows = samples.reshape(len(samples), -1).astype(">u2")
    packed = zlib.compress(b"".join(b"\x00" + row.tobytes() for row in rows))
    return raw_png(samples.shape[1], samples.shape[0], 16, 0 if samples.ndim == 2 else 2, packed, *extra)


def png_bomb(side: int = 30_000) -> bytes:
    """A few hundred kilobytes that unpack to `side` squared pixels."""
    row = b"\x00" * (1 + -(-side // 8))
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return raw_png(side, side, 1, 0, packed)


def text_bomb() -> bytes:
    """A PNG whose comment unpacks to 64 MiB."""
    return raw_png(
        1, 1, 8, 0, zlib.compress(b"\0\0"), chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9))
    )


def profile_bomb() -> bytes:
    """A PNG whose colour profile unpacks to 64 MiB."""
    return raw_png(1, 1, 8, 0, zlib.compress(b"\0\0"), chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(64 << 20), 9)))


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size."""
    at = next(at for at in range(len(data)) if data[at : at + 2] in (b"\xff\xc0", b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def with_tiff_size(data: bytes, width: int, height: int) -> bytes:
    """A little-endian TIFF whose directory claims another size."""
    found = bytearray(data)
    directory = struct.unpack_from("<I", data, 4)[0]
    for at in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12):
        tag = struct.unpack_from("<H", data, at)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", found, at + 2, 4, 1, width if tag == 256 else height)
    return bytes(found)


def oriented(kind: str, pixels: Pixels, orientation: int) -> bytes:
    """The pixels as stored, with an Exif orientation beside them, without loss."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    return saved(Image.fromarray(pixels), kind, exif=exif, **options.get(kind, {}))


def with_app1(data: bytes, body: bytes) -> bytes:
    """A JPEG with one more APP1 segment in front."""
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def animation(kind: str, frames: int = 3) -> bytes:
    """An animated GIF, WebP or PNG, or a TIFF of several pages; the first frame is `scene(seed=0)`."""
    images = [Image.fromarray(scene(seed=seed)) for seed in range(frames)]
    if kind == "GIF":
        images = [image.quantize(64) for image in images]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return saved(images[0], kind, save_all=True, append_images=images[1:], **options)


def unsupported() -> dict[str, bytes]:
    """The first bytes of formats that are never decoded here, by the name they are reported under."""
    box = b"\x00\x00\x00\x18ftyp"
    return {
        "HEIC": box + b"heic\x00\x00\x00\x00mif1heic" + bytes(40),
        "JXL": b"\xff\x0a" + bytes(40),
        "JPEG2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40),
        "PSD": b"8BPS\x00\x01" + bytes(40),
        "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "PDF": b"%PDF-1.7\n",
    }


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
ERROR_PAGE = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head></html>\n"
ERROR_ANSWER = b'{"error": "not found"}'


def tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar of regular members, in the order given; `mode` is tarfile's."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
