"""What a header says is what the file is; and no bytes, however wrong, make reading it fail."""

import io
import random
import struct

import bad_files as make
import pytest
from PIL import Image

from blindpairs.header import (
    HEAD_BYTES,
    describe_unknown,
    dimensions,
    ends_properly,
    exif_orientation,
    jpeg_header,
    sniff,
)

KINDS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM"]


def written(kind: str, height: int = 37, width: int = 53) -> bytes:
    return make.saved(Image.fromarray(make.scene(height, width)), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_is_known_by_its_first_bytes(kind: str) -> None:
    assert sniff(written(kind)[:HEAD_BYTES]) == {"PPM": "pnm"}.get(kind, kind.lower())


@pytest.mark.parametrize(("name", "data"), make.unsupported().items())
def test_formats_that_are_not_read_are_known_all_the_same(name: str, data: bytes) -> None:
    assert sniff(data[:HEAD_BYTES]) == name.lower()


@pytest.mark.parametrize(
    "data", [b"", b"BM", b"BMW makes cars and motorcycles", b"RIFF\x00\x00\x00\x00WAVE", bytes(64), b"P6 is a page"]
)
def test_what_only_resembles_an_image_is_none(data: bytes) -> None:
    assert sniff(data) is None


def test_a_video_in_the_container_of_avif_is_none() -> None:
    assert sniff(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42") is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("size", [(1, 1), (37, 53), (2, 300)])
def test_dimensions_are_those_that_pillow_finds(kind: str, size: tuple[int, int]) -> None:
    data = written(kind, *size)
    assert dimensions(data, sniff(data[:HEAD_BYTES]) or "") == Image.open(io.BytesIO(data)).size


def test_the_dimensions_of_every_kind_of_webp_and_jpeg_are_found() -> None:
    scene = Image.fromarray(make.scene(37, 53))
    for options in ({"lossless": True}, {"exif": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"}):
        assert dimensions(make.saved(scene, "WEBP", **options), "webp") == (53, 37)
    assert dimensions(make.saved(scene, "JPEG", progressive=True), "jpeg") == (53, 37)


def test_a_top_down_bitmap_has_a_positive_height() -> None:
    data = bytearray(written("BMP"))
    struct.pack_into("<i", data, 22, -37)
    assert dimensions(bytes(data), "bmp") == (53, 37)


def test_a_jpeg_header_names_its_frame_its_exif_and_its_scan() -> None:
    data = make.with_app1(make.oriented("JPEG", make.scene(37, 53), 6), b"http://ns.adobe.com/xap/1.0/\x00<x/>")
    header = jpeg_header(data)
    assert (header.width, header.height, header.components, header.frame, header.precision) == (53, 37, 3, 0xC0, 8)
    assert data[header.exif : header.exif + 6] == b"Exif\x00\x00"
    assert data[header.scan : header.scan + 2] == b"\xff\xda"
    assert [data[at : at + 2] for at in header.app1] == [b"\xff\xe1"] * 2
    assert exif_orientation(data[header.exif :]) == 6


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("value", "expected"), [(1, 1), (3, 3), (8, 8), (0, 1), (9, 1), (65535, 1)])
def test_an_orientation_outside_1_to_8_counts_as_upright(order: str, value: int, expected: int) -> None:
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    block = mark + struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, value, 0)
    assert exif_orientation(block) == expected
    assert exif_orientation(b"Exif\x00\x00" + block) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_a_whole_file_ends_properly_and_a_cut_one_does_not(kind: str) -> None:
    data = written(kind)
    name = sniff(data[:HEAD_BYTES]) or ""
    assert ends_properly(data, name)
    assert not ends_properly(data[: len(data) * 2 // 3], name)


def test_the_end_mark_of_a_thumbnail_is_not_the_end_of_the_photo() -> None:
    data = make.with_app1(make.jpeg(), b"Exif\x00\x00" + make.jpeg(8, 8))
    assert ends_properly(data, "jpeg")
    assert not ends_properly(data[:-30], "jpeg")


def test_the_guess_for_a_message_names_pages_answers_and_text() -> None:
    for data, guess in ((make.ERROR_PAGE, "HTML"), (make.ERROR_ANSWER, "JSON"), (b"<a/>", "XML"), (b"hello", "text")):
        assert guess in describe_unknown(data)
    assert describe_unknown(b"\x00\x01\x02") == "starts with the bytes 00 01 02"


def test_no_bytes_make_a_header_unreadable() -> None:
    chance = random.Random(0)
    sound = [written(kind) for kind in KINDS] + [make.oriented("JPEG", make.scene(), 6)]
    for _ in range(3000):
        damaged = bytearray(chance.choice(sound)[: chance.randrange(1, 400)])
        for _ in range(chance.randrange(8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        data = bytes(damaged)
        kind = sniff(data[:HEAD_BYTES])
        size = dimensions(data, kind or "")
        assert size is None or (size[0] >= 0 and size[1] >= 0)
        assert 1 <= exif_orientation(data[20:]) <= 8
        assert ends_properly(data, kind or "") in (True, False)
