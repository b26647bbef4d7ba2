"""A model sees the pixels that blindpairs sees, upright, and the stored bytes wherever those leave no doubt."""

import io

import numpy as np
import pytest
from pictured_pairs import picture
from PIL import Image

from blindpairs.errors import Undecodable
from blindpairs.evaluate.pictures import upright_picture
from blindpairs.images.decode import decode


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return stored(noise(), "JPEG", exif=exif.tobytes())


def animated() -> bytes:
    return stored(noise("P"), "GIF", save_all=True, append_images=[noise("P").rotate(180)])


def sixteen_bits() -> bytes:
    return stored(Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)), "PNG")


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (picture(1), "image/jpeg"),
        (picture(1, "PNG"), "image/png"),
        (picture(1, "WEBP"), "image/webp"),
        (stored(noise("L"), "JPEG"), "image/jpeg"),
        (stored(noise("P"), "PNG"), "image/png"),
        (stored(noise("P"), "GIF"), "image/gif"),
    ],
    ids=["jpeg", "png", "webp", "grey", "palette", "gif"],
)
def test_bytes_that_every_reader_sees_alike_are_sent_as_they_are(data: bytes, media_type: str) -> None:
    sent = upright_picture(data)
    assert sent.data is data
    assert sent.media_type == media_type


@pytest.mark.parametrize(
    "data",
    [
        turned(),
        stored(noise("CMYK"), "JPEG"),
        stored(noise("RGBA"), "PNG"),
        stored(noise("LA"), "PNG"),
        stored(noise("P"), "PNG", transparency=3),
        animated(),
        sixteen_bits(),
        stored(noise(), "BMP"),
        stored(noise(), "TIFF"),
    ],
    ids=["turned", "cmyk", "transparent", "grey and alpha", "one colour", "animated", "16 bits", "bmp", "tiff"],
)
def test_bytes_that_readers_see_differently_are_sent_as_the_pixels_that_we_see(data: bytes) -> None:
    sent = upright_picture(data)
    assert sent.media_type == "image/png"
    with Image.open(io.BytesIO(sent.data)) as image:
        assert (image.mode, image.format) == ("RGB", "PNG")
        assert np.array_equal(np.asarray(image), decode(data).pixels)


def test_turned_photograph_is_upright() -> None:
    with Image.open(io.BytesIO(upright_picture(turned()).data)) as image:
        assert image.size == (30, 40)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(Undecodable, match="no image"):
        upright_picture(b"no image at all")
