"""What a header says is what the file is; and no bytes, however wrong, make reading it fail."""

import io
import itertools
import random
import struct

import bad_files as make
import pytest
from PIL import Image

from blindpairs.images.header import (
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


def boxed(major: bytes, *others: bytes, wide: bool = False, size: int | None = None, after: bytes = bytes(40)) -> bytes:
    """An ISO file type box of these brands, and what follows it; `size` is what the box claims to have."""
    brands = major + bytes(4) + b"".join(others)
    whole = len(brands) + (16 if wide else 8) if size is None else size
    head = struct.pack(">I4sQ", 1, b"ftyp", whole) if wide else struct.pack(">I4s", whole, b"ftyp")
    return head + brands + after


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        ((b"avif", b"mif1", b"miaf"), "avif"),
        ((b"avis", b"msf1"), "avif"),
        *(((major, b"mif1", b"avif", b"miaf"), "avif") for major in (b"mif1", b"msf1", b"miaf", b"isom", b"zzzz")),
        *(((b"mif1", *order), "avif") for order in itertools.permutations((b"avif", b"miaf", b"heic"))),
        ((b"heic", b"mif1"), "heic"),
        ((b"heic", b"mif1", b"avif"), "heic"),
        ((b"avif", b"heic"), "avif"),
        *(((b"mif1", *order), "heic") for order in itertools.permutations((b"mif1", b"heix", b"hevc"))),
        *(((b"mif1", *[b"xxxx"] * count, b"avif"), "avif") for count in (0, 1, 20, 50)),
        ((b"mif1",), "heif"),
        ((b"mif1", b"miaf"), "heif"),
        ((b"avci", b"mif1"), "heif"),
        ((b"jp2 ", b"jp2 "), "jpeg2000"),
        ((b"jxl ",), "jxl"),
        ((b"isom", b"iso2", b"avc1", b"mp41"), None),
        ((b"qt  ",), None),
        ((b"mp42", b"isom"), None),
    ],
)
def test_the_brands_of_a_box_say_how_its_pixels_are_coded(brands: tuple[bytes, ...], kind: str, wide: bool) -> None:
    assert sniff(boxed(*brands, wide=wide)[:HEAD_BYTES]) == kind


@pytest.mark.parametrize("wide", [False, True])
def test_what_stands_behind_the_box_is_no_brand(wide: bool) -> None:
    heic = boxed(b"mif1", b"heic", wide=wide, after=b"avifavifavif")
    assert sniff(heic) == "heic"
    assert sniff(boxed(b"mif1", wide=wide, after=b"avif")) == "heif"
    last = 16 + 16 * wide - 8 * wide  # of a box of two brands this many bytes stand before the second
    assert sniff(boxed(b"mif1", b"avif", wide=wide, size=last + 4)) == "avif"
    assert sniff(boxed(b"mif1", b"avif", wide=wide, size=last + 3)) == "heif"  # a brand is cut: no brand


def test_a_box_that_ends_with_the_file_has_its_brands() -> None:
    assert sniff(boxed(b"mif1", b"avif", size=0, after=b"")) == "avif"
    assert sniff(boxed(b"mif1", b"avif", after=b"")[:-1]) == "heif"
    assert sniff(b"\x00\x00\x00\x08ftyp") is None
    assert sniff(b"\x00\x00\x00\x00ftyp") is None


@pytest.mark.parametrize(
    "data",
    [boxed(b"isom", b"mp41"), boxed(b"qt  "), b"\x00\x00\x00\x08wide" + bytes(8), b"\x00\x00\x01\x00moov" + bytes(8)],
)
def test_a_video_named_like_an_image_is_called_a_video(data: bytes) -> None:
    assert sniff(data) is None
    assert "video" in describe_unknown(data)


def test_the_size_of_a_jpeg_is_found_up_to_the_very_byte_that_completes_it() -> None:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 37, 53, 3)
    assert len(frame) == 10
    for before in (b"", b"\xff", b"\xff\xe1" + struct.pack(">H", 5) + b"abc", b"\xff\xd0\xff\x01"):
        data = b"\xff\xd8" + before + frame
        assert dimensions(data, "jpeg") == (53, 37)
        assert dimensions(data[:-1], "jpeg") is None


def test_a_scan_is_found_where_its_marker_and_length_end_the_file() -> None:
    data = b"\xff\xd8\xff\xda\x00\x08"
    assert jpeg_header(data).scan == 2
    assert jpeg_header(data[:-1]).scan == 0


def test_a_segment_without_a_length_still_ends_the_walk_of_a_jpeg() -> None:
    # A length below 2 counts its own two bytes no longer: the walk goes on behind them all the same.
    header = jpeg_header(b"\xff\xd8\xff\xe1\x00\x00\xff\xe1\x00\x02\xff\xda\x00\x08")
    assert (header.app1, header.scan) == ((2, 6), 10)


@pytest.mark.parametrize("kind", ["WEBP", "BMP"])
def test_a_file_ends_properly_at_exactly_the_length_that_it_claims(kind: str) -> None:
    data = written(kind)
    claimed = struct.unpack_from("<I", data, 4)[0] + 8 if kind == "WEBP" else struct.unpack_from("<I", data, 2)[0]
    data = data[:claimed]
    assert len(data) == claimed
    assert ends_properly(data, kind.lower())
    assert ends_properly(data + b"\x00", kind.lower())
    assert not ends_properly(data[:-1], kind.lower())


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP"])
def test_the_dimensions_are_none_or_right_for_every_shorter_beginning(kind: str) -> None:
    data = written(kind)
    found = [dimensions(data[:length], kind.lower()) for length in range(64)]
    assert {size for size in found if size} == {(53, 37)} or kind == "WEBP"
    last = {"PNG": 24, "GIF": 10, "WEBP": 30, "BMP": 26}[kind]
    assert found[last] == (53, 37)
    assert found[last - 1] is None
