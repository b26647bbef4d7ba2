"""Every layout of samples becomes the picture that it means, or is refused: never a negative, black, white or noise."""

import itertools
import struct
import zlib

import bad_files as make
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tiff_files import (
    BLACK_IS_ZERO,
    COLOURS,
    PALETTE,
    RGB,
    SEPARATED,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
    Samples,
    picture,
    tiff,
)

from blindpairs.errors import Undecodable
from blindpairs.images.decode import decode

HEIGHT, WIDTH = 21, 37
CLOSE = 2.5  # of 255: Pillow keeps the upper 8 of 16 bits, and rounds between colour spaces
GREY = (WHITE_IS_ZERO, BLACK_IS_ZERO)


def ramp(how: Layout) -> Samples:
    """Samples that are neither dark nor light as a whole, and that are another picture when anything is exchanged."""
    count = COLOURS[how.photometric or 0] + len(how.extra)
    place = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) ** 2
    shares = np.stack([place, 1 - place / 2, np.roll(place, 300), place / 2, 1 - place][:count], axis=2)
    if how.extra[:1] == (1,):  # colours that are multiplied by their alpha never exceed it
        shares[..., :-1] *= shares[..., -1:]
    return np.floor(shares * ((1 << how.bits) - 1) + 0.5).astype(np.int64)


def outcome(samples: Samples, how: Layout) -> str:
    """`read`, or why it was not; an image that is not the one meant fails the test."""
    try:
        pixels = decode(tiff(samples, how)).pixels
    except Undecodable as refusal:
        return refusal.code
    np.testing.assert_allclose(pixels, picture(samples, how), atol=CLOSE, err_msg=str(how))
    return "read"


def coloured(how: Layout, scale: int = 257) -> Layout:
    colours = np.random.default_rng(3).integers(0, 256, 3 << how.bits) * scale
    return how.but(tags={320: tuple(colours.tolist())})


STORED = [
    {"planar": planar, "fill": fill, "packed": packed, **parts}
    for planar, fill, packed, parts in itertools.product((1, 2), (1, 2), (False, True), ({}, {"tile": 16}, {"rows": 5}))
]
KINDS = [
    *itertools.product((1, 2, 4, 8, 12, 16, 32), GREY, [()]),
    *itertools.product((8, 16), [BLACK_IS_ZERO], [(0,), (1,), (2,)]),
    *itertools.product((8, 16), [RGB], [(), (0,), (1,), (2,), (2, 0)]),
    *itertools.product((1, 2, 4, 8), [PALETTE], [()]),
    *itertools.product((8,), [PALETTE], [(0,), (2,)]),
    *itertools.product((8, 16), [SEPARATED], [(), (0,)]),
    *itertools.product((8, 16), [YCBCR], [()]),
]
# What no layout on disk may cost: these are read in every plain one.
ALWAYS_READ = {
    *itertools.product((1, 2, 4, 8), GREY, [()]),
    (16, BLACK_IS_ZERO, ()),
    *itertools.product((8, 16), [RGB], [(), (1,), (2,)]),
    *itertools.product((2, 4, 8), [PALETTE], [()]),
    *itertools.product((8, 16), [SEPARATED], [()]),
    (8, BLACK_IS_ZERO, (2,)),
    (8, YCBCR, ()),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "photometric", "extra"), KINDS)
def test_a_tiff_is_its_picture_or_refused_in_every_layout(
    bits: int, photometric: int, extra: tuple[int, ...], order: str
) -> None:
    how = Layout(bits, photometric, order, extra=extra)
    how = coloured(how) if photometric == PALETTE else how.but(tags={530: (1, 1)} if photometric == YCBCR else {})
    samples = ramp(how)
    outcomes = {tuple(stored.items()): outcome(samples, how.but(**stored)) for stored in STORED}
    assert set(outcomes.values()) <= {"read", "unsupported_mode"}, outcomes
    if (bits, photometric, extra) in ALWAYS_READ:
        plain = [found for stored, found in outcomes.items() if ("planar", 1) in stored and ("fill", 1) in stored]
        assert set(plain) == {"read"}


def test_16_bit_white_is_zero_is_read_and_not_its_negative() -> None:
    how = Layout(16, WHITE_IS_ZERO)
    for stored in ({}, {"packed": True}, {"tile": 16}, {"packed": True, "predictor": True}):
        assert outcome(ramp(how), how.but(**stored)) == "read"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "photometric"), [(8, WHITE_IS_ZERO), (8, RGB), (16, RGB), (16, BLACK_IS_ZERO)])
def test_differences_between_neighbours_are_added_up(bits: int, photometric: int, order: str) -> None:
    how = Layout(bits, photometric, order, packed=True, predictor=True)
    assert outcome(ramp(how), how) == "read"


@pytest.mark.parametrize(("order", "expected"), [("<", "read"), (">", "unsupported_mode")])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, SEPARATED])
def test_a_bigtiff_is_read_or_refused_and_not_called_damaged(photometric: int, order: str, expected: str) -> None:
    how = Layout(8, photometric, order, big=True)
    assert outcome(ramp(how), how) == expected


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        Layout(8, BLACK_IS_ZERO, format=2),
        Layout(16, BLACK_IS_ZERO, format=2),
        Layout(8, WHITE_IS_ZERO, format=2),
        Layout(32, BLACK_IS_ZERO, format=3),
        Layout(32, WHITE_IS_ZERO, format=3),
        Layout(8, RGB, format=2),
        Layout(8, None),
        Layout(16, None),
        Layout(8, SEPARATED, tags={332: (2,)}),
    ],
)
def test_samples_without_an_agreed_meaning_are_refused(how: Layout, packed: bool) -> None:
    samples = ramp(how.but(bits=7, photometric=how.photometric))
    with pytest.raises(Undecodable) as refusal:
        decode(tiff(samples, how.but(packed=packed)))
    assert refusal.value.code == "unsupported_mode"


def test_uncompressed_ycbcr_that_thins_its_colours_is_refused() -> None:
    for thinned in ((), (2, 2), (2, 1)):
        how = Layout(8, YCBCR, tags={530: thinned} if thinned else {})
        assert outcome(ramp(how), how) == "unsupported_mode"


def test_a_fourth_sample_without_a_meaning_counts_only_where_it_hides_nothing() -> None:
    how = Layout(8, RGB, extra=(0,))
    samples = ramp(how)
    unstated = how.but(extra=(), tags={277: (4,)})
    for fourth, expected in ((255, None), (0, "unsupported_mode"), (90, "unsupported_mode")):
        samples[..., 3] = fourth
        data = tiff(samples, unstated)
        if expected:
            with pytest.raises(Undecodable) as refusal:
                decode(data)
            assert refusal.value.code == expected
        else:
            np.testing.assert_allclose(decode(data).pixels, picture(samples, how), atol=CLOSE)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_palette_of_8_bit_colours_is_not_black(bits: int) -> None:
    meant, written = (coloured(Layout(bits, PALETTE), scale) for scale in (257, 1))
    samples = ramp(meant)
    np.testing.assert_allclose(decode(tiff(samples, written)).pixels, picture(samples, meant), atol=CLOSE)


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
def test_a_jpeg_inside_a_tiff_is_its_picture(mode: str) -> None:
    image = Image.fromarray(make.scene()).convert(mode)
    pixels = decode(make.saved(image, "TIFF", compression="jpeg", quality=95)).pixels.astype(float)
    assert np.abs(pixels - np.asarray(image.convert("RGB"))).mean() < 2


def keyed(samples: npt.NDArray[np.int64], bits: int, key: tuple[int, ...]) -> bytes:
    """A PNG of (H, W) grey or (H, W, 3) RGB samples of which one colour is transparent."""
    rows = samples.reshape(len(samples), -1)
    places = np.arange(bits - 1, -1, -1)
    packed = np.packbits((rows[:, :, None] >> places & 1).reshape(len(rows), -1).astype(np.uint8), axis=1)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    colour = 0 if samples.ndim == 2 else 2
    extra = make.chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    return make.raw_png(samples.shape[1], samples.shape[0], bits, colour, lines, extra)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_white_and_no_other_is(bits: int) -> None:
    top = (1 << bits) - 1
    samples = np.unique(np.linspace(0, top, 17).astype(np.int64))[None]
    for key in samples[0].tolist():
        expected = np.where(samples == key, 255, samples / top * 255)
        pixels = decode(keyed(samples, bits, (key,))).pixels
        np.testing.assert_allclose(pixels[..., 0], expected, atol=0.51)


def test_the_transparent_colour_of_a_png_is_white_and_no_other_is() -> None:
    samples = np.array([[[1, 2, 3], [1, 2, 4], [200, 100, 0]]], np.int64)
    assert decode(keyed(samples, 8, (1, 2, 4))).pixels[0].tolist() == [[1, 2, 3], [255, 255, 255], [200, 100, 0]]


def test_a_transparent_16_bit_colour_is_refused_only_where_8_bits_cannot_tell_it() -> None:
    samples = np.array([[[0x0102, 0x0203, 0x0304], [0xC8FF, 0x64FF, 0x00FF]]], np.int64)
    assert decode(keyed(samples, 16, (1, 2, 3))).pixels[0].tolist() == [[1, 2, 3], [200, 100, 0]]
    with pytest.raises(Undecodable) as refusal:
        decode(keyed(samples, 16, (0x0102, 0x0203, 0x03FF)))
    assert refusal.value.code == "unsupported_mode"


@pytest.mark.parametrize("most", [1, 15, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_a_portable_map_is_scaled_from_its_own_white(kind: int, most: int) -> None:
    samples = np.linspace(0, most, HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.int64)
    samples = samples if kind in (3, 6) else samples[..., 0]
    head = f"P{kind} {WIDTH} {HEIGHT} {most}\n".encode()
    binary = samples.astype(">u2" if most > 255 else "u1").tobytes()
    data = head + (binary if kind > 3 else " ".join(map(str, samples.ravel().tolist())).encode() + b"\n")
    expected = samples / most * 255
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_allclose(decode(data).pixels, expected, atol=1)
    with pytest.raises(Undecodable) as refusal:
        decode(data[: len(data) // 2])
    assert refusal.value.code == "truncated"


@pytest.mark.parametrize(("alpha", "red"), [(255, 200), (128, 227), (0, 200)])
def test_a_bitmap_whose_alpha_is_empty_is_not_white(alpha: int, red: int) -> None:
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 124, 2, 2, 1, 32, 3, 16, 0, 0, 0, 0) + masks
    pixels = bytes([10, 20, 200, alpha]) * 4
    data = b"BM" + struct.pack("<IHHI", 14 + 124 + 16, 0, 0, 138) + header.ljust(124, b"\0") + pixels
    assert decode(data).pixels[0, 0, 0] == red
