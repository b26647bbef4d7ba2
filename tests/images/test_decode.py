"""Every image that decodes becomes the pixels its author meant, whatever its mode, orientation or name."""

import io
import struct
import warnings
from collections.abc import Callable

import bad_files as make
import numpy as np
import pytest
from PIL import Image, ImageOps

from blindpairs.errors import Undecodable
from blindpairs.images import decode as decoding
from blindpairs.images.decode import Limits, decode, image_id
from blindpairs.images.phash import grey_thumbnail, perceptual_hash


def as_pillow(data: bytes) -> make.Pixels:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def test_trailing_junk_after_the_end_of_a_jpeg_is_ignored() -> None:
    data = make.jpeg()
    assert np.array_equal(decode(data + b"junk" * 50).pixels, decode(data).pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied_exactly_once(kind: str, orientation: int) -> None:
    data = make.oriented(kind, make.scene(), orientation)
    decoded = decode(data)
    assert np.array_equal(decoded.pixels, as_pillow(data))
    assert (decoded.height, decoded.width) == ((40, 60) if orientation < 5 else (60, 40))
    assert decoded.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_fast_path_turns_a_large_jpeg_as_pillow_does(orientation: int) -> None:
    data = make.oriented("JPEG", make.scene(210, 260), orientation)
    assert decoding._torch_pixels(data) is not None
    assert np.array_equal(decode(data).pixels, as_pillow(data))


def test_a_rotated_photo_with_its_tag_hashes_like_the_upright_one() -> None:
    upright = make.scene(80, 120)
    turned = np.ascontiguousarray(np.rot90(upright))  # stored turned to the left: tag 6 turns it back
    assert decode(make.oriented("PNG", turned, 6)).phash == decode(make.oriented("PNG", upright, 1)).phash


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\x00\x00",
        b"Exif\x00\x00II*\x00\xff\xff\xff\x7f",
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff" + b"\x01\x12" * 40,
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x63\x00\x00\x00",
        b"Exif\x00\x00garbage",
        b"http://ns.adobe.com/xap/1.0/\x00<broken",
    ],
)
@pytest.mark.parametrize("side", [48, 240])  # one size for each decoder
def test_broken_exif_is_ignored(block: bytes, side: int) -> None:
    data = make.jpeg(side, side)
    assert np.array_equal(decode(make.with_app1(data, block)).pixels, decode(data).pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_colour_profile_is_ignored(kind: str) -> None:
    data = make.saved(Image.fromarray(make.scene()), kind, icc_profile=b"not a profile")
    assert np.array_equal(decode(data).pixels, as_pillow(data))


@pytest.mark.parametrize("side", [48, 240])
@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_and_ycck_jpegs_become_rgb_as_in_pillow(side: int, transform: int) -> None:
    data = make.saved(Image.fromarray(make.scene(side, side)).convert("CMYK"), "JPEG")
    at = data.index(b"Adobe") + 11
    data = data[:at] + bytes([transform]) + data[at + 1 :]
    assert np.array_equal(decode(data).pixels, as_pillow(data))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"keep_rgb": True}]
)
def test_the_fast_path_gives_pillows_very_pixels(options: dict[str, int]) -> None:
    data = make.jpeg(216, 264, **options)
    assert decoding._torch_pixels(data) is not None
    assert np.array_equal(decode(data).pixels, as_pillow(data))


@pytest.mark.parametrize(("kind", "side"), [("JPEG", 48), ("JPEG", 240), ("PNG", 48)])
def test_a_grey_image_gets_three_equal_channels(kind: str, side: int) -> None:
    pixels = decode(make.saved(Image.fromarray(make.scene(side, side)).convert("L"), kind)).pixels
    assert pixels.shape == (side, side, 3)
    assert np.array_equal(pixels, np.repeat(pixels[..., :1], 3, axis=2))


RAMP = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
EIGHT_BIT = np.rint(RAMP / 257).astype(np.uint8)


@pytest.mark.parametrize("write", [make.samples_png, lambda ramp: make.saved(Image.fromarray(ramp), "TIFF")])
def test_16_bit_grey_is_scaled_by_257_and_not_clipped_to_white(write: Callable[..., bytes]) -> None:
    assert np.array_equal(decode(write(RAMP)).pixels, np.repeat(EIGHT_BIT[..., None], 3, axis=2))


def test_16_bit_grey_that_a_key_makes_transparent_is_white() -> None:
    samples = np.array([[0, 1000, 65535]], np.uint16)
    data = make.samples_png(samples, make.chunk(b"tRNS", struct.pack(">H", 1000)))
    assert decode(data).pixels[0, :, 0].tolist() == [0, 255, 255]


def test_a_16_bit_rgb_png_is_scaled_to_8_bit() -> None:
    pixels = decode(make.samples_png(np.stack([RAMP, RAMP[::-1], RAMP], axis=2))).pixels
    expected = np.stack([EIGHT_BIT, EIGHT_BIT[::-1], EIGHT_BIT], axis=2)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_32_bit_tiff_is_refused_and_not_made_black_or_white(dtype: type) -> None:
    data = make.saved(Image.fromarray(np.linspace(0, 1000, 2400).reshape(40, 60).astype(dtype)), "TIFF")
    with pytest.raises(Undecodable) as refusal:
        decode(data)
    assert refusal.value.code == "unsupported_mode"


def test_a_transparent_palette_entry_is_composited_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((0, 0), 1)
    pixels = decode(make.saved(image, "PNG", transparency=0)).pixels
    assert pixels[0, 0].tolist() == [0, 0, 200]
    assert np.all(pixels[1:] == 255)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_hidden_colours_under_alpha_are_composited_on_white(kind: str, options: dict[str, bool]) -> None:
    rgba = np.zeros((2, 4, 4), np.uint8)
    rgba[..., 0] = 200  # a red that only the opaque column may show
    rgba[:, 0, 3], rgba[:, 1, 3] = 255, 128
    pixels = decode(make.saved(Image.fromarray(rgba), kind, **options)).pixels
    assert pixels[0, :, 1].tolist() == [0, 127, 255, 255]
    assert pixels[0, :, 0].tolist() == [200, 227, 255, 255]


def test_grey_with_alpha_is_composited_on_white() -> None:
    data = make.saved(Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA"), "PNG")
    assert decode(data).pixels[0].tolist() == [[10, 10, 10], [255, 255, 255]]


def test_a_1_bit_image_is_black_and_white() -> None:
    board = np.indices((16, 16)).sum(axis=0) % 2 == 0
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert np.array_equal(decode(make.saved(Image.fromarray(board), kind)).pixels[..., 0], np.uint8(255) * board)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts_and_a_flag_says_so(kind: str) -> None:
    decoded = decode(make.animation(kind))
    assert decoded.flags == ("frames>1",)
    expected = (
        as_pillow(make.saved(Image.fromarray(make.scene()).quantize(64), "GIF")) if kind == "GIF" else make.scene()
    )
    assert np.array_equal(decoded.pixels, expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (2, 31), (33, 3)])
def test_thin_and_tiny_images_decode_without_dividing_by_zero(height: int, width: int) -> None:
    decoded = decode(make.png(height, width))
    assert (decoded.pixels.shape, decoded.height, decoded.width) == ((height, width, 3), height, width)
    assert 0 <= decoded.phash < 2**64


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "PPM", "AVIF", "TIFF"])
def test_the_format_is_told_by_content_and_never_by_name(kind: str) -> None:
    data = make.saved(Image.fromarray(make.scene()), kind)
    assert np.array_equal(decode(data).pixels, as_pillow(data))


def test_the_zone_where_pillow_warns_of_size_is_silent() -> None:
    data = make.png(12, 12)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # 144 pixels: Pillow would refuse; ours is the limit that decides
        assert decode(data).pixels.shape == (12, 12, 3)


def test_equal_bytes_have_equal_ids_wherever_they_lie() -> None:
    data = make.png()
    assert image_id(data) == image_id(bytes(bytearray(data)))
    assert len(image_id(data)) == 32
    assert image_id(data) != image_id(data + b"\x00")


def test_a_constant_image_is_flagged_as_low_information() -> None:
    noise = np.random.default_rng(0).normal(128, 3, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    for pixels in (np.full((64, 64, 3), 7, np.uint8), np.full((1, 1, 3), 7, np.uint8), noise):
        assert decode(make.saved(Image.fromarray(pixels), "PNG")).flags == ("low_information",)


def test_a_picture_of_a_cloudless_sky_is_not_low_information() -> None:
    rows = np.linspace(180, 192, 240)[:, None, None]  # twelve levels from top to bottom
    sky = (rows + np.array([-40, 0, 40])).repeat(320, axis=1).astype(np.uint8)
    assert decode(make.saved(Image.fromarray(sky), "JPEG")).flags == ()


def test_a_thumbnail_is_the_mean_of_each_cell() -> None:
    pixels = make.scene(64, 96)
    grey = pixels.astype(float) @ [0.25, 0.5, 0.25]
    cells = grey.reshape(32, 2, 32, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(grey_thumbnail(pixels), cells, atol=1e-3)


def test_the_hash_is_the_sign_of_the_low_cosines_about_their_median() -> None:
    grey = grey_thumbnail(make.scene(64, 64))
    waves = [np.cos(np.pi * frequency * (2 * np.arange(32) + 1) / 64) for frequency in range(8)]
    low = [float((grey * np.outer(down, across)).sum()) for down in waves for across in waves]
    bits = "".join("1" if value > np.median(low[1:]) else "0" for value in low)
    assert perceptual_hash(grey) == int(bits, 2)


def test_resized_and_recompressed_copies_hash_alike_and_other_images_do_not() -> None:
    scenes = [
        Image.fromarray(make.scene(64, 64, seed)).resize((320, 240), Image.Resampling.BICUBIC) for seed in range(6)
    ]
    originals = [decode(make.saved(scene, "PNG")).phash for scene in scenes]
    copies = [decode(make.saved(scene.resize((200, 150)), "JPEG", quality=60)).phash for scene in scenes]
    distances = [[(a ^ b).bit_count() for b in copies] for a in originals]
    assert max(distances[k][k] for k in range(6)) <= 6
    assert min(distances[a][b] for a in range(6) for b in range(6) if a != b) >= 16


def test_small_images_never_load_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("torch was asked for")

    monkeypatch.setattr(decoding, "_torchcodec", refuse)
    data = make.jpeg(150, 200)
    assert np.array_equal(decode(data).pixels, as_pillow(data))


def test_without_torchcodec_pillow_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make.jpeg(240, 240)
    assert decoding._torch_pixels(data) is not None
    fast = decode(data)
    monkeypatch.setattr(decoding, "_torchcodec", lambda: None)
    slow = decode(data)
    assert np.array_equal(fast.pixels, slow.pixels)
    assert (fast.phash, fast.flags) == (slow.phash, slow.flags)


def test_limits_on_side_and_aspect_name_their_refusal() -> None:
    for limits, code in ((Limits(min_side=64), "too_small"), (Limits(max_aspect=1.2), "aspect")):
        with pytest.raises(Undecodable) as refusal:
            decode(make.png(40, 60), limits)
        assert refusal.value.code == code
    assert decode(make.png(40, 60), Limits(min_side=40, max_aspect=1.5)).width == 60


@pytest.mark.parametrize("brand", [b"mif1", b"msf1", b"miaf"])
def test_an_avif_is_read_whatever_its_major_brand_says_of_containers(brand: bytes) -> None:
    data = make.saved(Image.fromarray(make.scene()), "AVIF")
    assert np.array_equal(decode(data[:8] + brand + data[12:]).pixels, decode(data).pixels)
    generic = data[:8] + brand + data[12:16] + b"mif1avif" + data[24:]
    assert np.array_equal(decode(generic).pixels, decode(data).pixels)
