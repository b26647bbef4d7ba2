"""TIFFs of any layout, written from their samples bit by bit, and the picture that those samples mean."""

import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int64]  # (H, W, S)
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # photometric interpretation -> samples that are colour
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = COLOURS


@dataclass(frozen=True)
class Layout:
    """How the samples lie in the file; the values are those of the TIFF 6.0 tags."""

    bits: int = 8
    photometric: int | None = RGB
    order: str = "<"
    planar: int = 1
    fill: int = 1
    format: int = 1
    extra: tuple[int, ...] = ()
    packed: bool = False  # deflated
    predictor: bool = False
    tile: int = 0
    rows: int = 1000  # of a strip
    big: bool = False
    tags: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def but(self, **changes: Any) -> "Layout":
        """This layout with some changes."""
        return replace(self, **changes)


def picture(samples: Samples, how: Layout) -> npt.NDArray[np.float64]:
    """(H, W, 3), 0 to 255: what the samples mean, on white, by the formulas of TIFF 6.0."""
    kind = how.photometric or 0
    values = samples / ((1 << how.bits) - 1)
    colours, alpha = values[..., : COLOURS[kind]], values[..., COLOURS[kind] :]
    if kind in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        colours = np.repeat(1 - colours if kind == WHITE_IS_ZERO else colours, 3, axis=2)
    elif kind == PALETTE:
        colours = np.array(how.tags[320]).reshape(3, -1).T[samples[..., 0]] / 65535
    elif kind == SEPARATED:
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    elif kind == YCBCR:
        light, blue, red = colours[..., 0], colours[..., 1] - 128 / 255, colours[..., 2] - 128 / 255
        rgb = (light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue)
        colours = np.stack(rgb, axis=2).clip(0, 1)
    if how.extra[:1] == (1,):
        colours = colours + 1 - alpha[..., :1]
    if how.extra[:1] == (2,):
        colours = colours * alpha[..., :1] + 1 - alpha[..., :1]
    return colours * 255


def tiff(samples: Samples, how: Layout) -> bytes:
    """The file."""
    height, width, count = samples.shape
    planes = np.split(samples, count, axis=2) if how.planar == 2 else [samples]
    blocks = [_block(part, how) for plane in planes for part in _parts(plane, how)]
    tags: dict[int, tuple[int, ...]] = {256: (width,), 257: (height,), 258: (how.bits,) * count, 277: (count,)}
    tags |= {259: (8 if how.packed else 1,), 266: (how.fill,), 284: (how.planar,), 339: (how.format,) * count}
    tags |= {322: (how.tile,), 323: (how.tile,)} if how.tile else {278: (how.rows,)}
    tags |= {262: (how.photometric,)} if how.photometric is not None else {}
    tags |= ({338: how.extra} if how.extra else {}) | ({317: (2,)} if how.predictor else {}) | how.tags
    return _file(tags, blocks, how)


def _parts(plane: Samples, how: Layout) -> list[Samples]:
    height, width = plane.shape[:2]
    if not how.tile:
        return [plane[top : top + how.rows] for top in range(0, height, how.rows)]
    side = how.tile
    padded = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)))
    tops, lefts = range(0, height, side), range(0, width, side)
    return [padded[top : top + side, left : left + side] for top in tops for left in lefts]


def _block(part: Samples, how: Layout) -> bytes:
    if how.predictor:
        part = np.diff(part, axis=1, prepend=0) % (1 << how.bits)
    rows = part.reshape(len(part), -1)
    if how.bits % 8 == 0:
        data = rows.astype(f"{how.order}{'-uif'[how.format]}{how.bits // 8}").tobytes()
    else:  # most significant bit first, each row from a new byte
        places = np.arange(how.bits - 1, -1, -1)
        data = np.packbits((rows[:, :, None] >> places & 1).reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()
    data = zlib.compress(data) if how.packed else data
    return data.translate(bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))) if how.fill == 2 else data


def _file(tags: dict[int, tuple[int, ...]], blocks: list[bytes], how: Layout) -> bytes:
    word, offset, slot = ("Q", "Q", 8) if how.big else ("H", "I", 4)
    start = 16 if how.big else 8
    mark = b"II" if how.order == "<" else b"MM"
    head = mark + struct.pack(how.order + ("HHHQ" if how.big else "HI"), *((43, 8, 0) if how.big else (42,)), start)
    places, lengths = (324, 325) if how.tile else (273, 279)
    tags = tags | {places: (0,) * len(blocks), lengths: tuple(map(len, blocks))}
    values_at = start + struct.calcsize("=" + word) + len(tags) * (12 + 2 * slot - 8) + slot
    size = sum(_padded(4 * len(values)) for values in tags.values() if 4 * len(values) > slot)
    ends = np.cumsum([values_at + size, *map(len, blocks)])
    tags[places] = tuple(int(end) for end in ends[:-1])
    entries = values = b""
    for tag, content in sorted(tags.items()):
        raw = struct.pack(f"{how.order}{len(content)}{'I' if tag in (places, lengths) else 'H'}", *content)
        entries += struct.pack(f"{how.order}HH{offset}", tag, 4 if tag in (places, lengths) else 3, len(content))
        if len(raw) > slot:
            entries += struct.pack(how.order + offset, values_at + len(values))
            values += raw.ljust(_padded(4 * len(content)), b"\0") if 4 * len(content) > slot else raw
        else:
            entries += raw.ljust(slot, b"\0")
    values = values.ljust(size, b"\0")
    return head + struct.pack(how.order + word, len(tags)) + entries + bytes(slot) + values + b"".join(blocks)


def _padded(length: int) -> int:
    return -(-length // 4) * 4
