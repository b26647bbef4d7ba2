"""Images as the pages get them: decoded here, upright, bounded, and never anything that the browser could run."""

import io
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from author_pages import drawn_work
from pictured_pairs import picture
from PIL import Image

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.pictures import CorpusImages, Maps, Pictures, pictures_of
from blindpairs.errors import Undecodable
from blindpairs.images import Item, Limits, image_id
from blindpairs.images.decode import decode_pixels
from blindpairs.mine.maps import DifferenceMap, write_maps
from blindpairs.workspace import Workspace


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[:, :, :3]


def jpeg(size: tuple[int, int], orientation: int = 1) -> bytes:
    image = Image.open(io.BytesIO(picture(1, "PNG", size)))
    tags = Image.Exif()
    tags[0x0112] = orientation
    return saved(image, "JPEG", exif=tags, quality=95)


@cache
def large_png() -> bytes:
    return picture(1, "PNG", (5000, 2500))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_picture_is_upright_and_has_the_pixels_that_encoders_get(orientation: int) -> None:
    data = jpeg((60, 40), orientation)
    shown = Pictures(lambda _: data, Limits()).picture("any")
    assert shown.media_type == "image/png"
    assert np.array_equal(pixels(shown.data), decode_pixels(data, Limits())[0])


def test_large_photograph_is_scaled_down_and_the_same_with_and_without_the_fast_decoder() -> None:
    data = jpeg((3000, 1500))
    fast, slow = (decode_pixels(data, Limits(), at_least=least)[0] for least in (None, 3000))
    assert np.array_equal(fast, slow)
    shown = Pictures(lambda _: data, Limits()).picture("any")
    assert (shown.media_type, pixels(shown.data).shape) == ("image/jpeg", (1024, 2048, 3))
    assert pixels(Pictures(lambda _: data, Limits()).picture("any", 192).data).shape == (96, 192, 3)


@pytest.mark.parametrize(("at_least", "longest"), [(3001, 3000), (1501, 3000), (1500, 1500), (192, 375)])
def test_large_jpeg_is_decoded_no_larger_than_it_is_shown(at_least: int, longest: int) -> None:
    shown, _ = decode_pixels(jpeg((3000, 1500), orientation=6), Limits(), at_least=at_least)
    assert shown.shape == (longest, -(-longest // 2), 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "I;16"])
def test_large_image_of_another_format_is_averaged_over_blocks_of_its_pixels(mode: str) -> None:
    drawn: Image.Image = Image.open(io.BytesIO(picture(1, "PNG", (1201, 601))))
    drawn.putalpha(Image.linear_gradient("L").resize(drawn.size))
    if mode == "I;16":
        drawn = Image.fromarray(np.asarray(drawn.convert("L")).astype(np.uint16) * 257)
    data = saved(drawn.convert(mode), "PNG")
    whole = np.pad(decode_pixels(data, Limits())[0], ((0, 2), (0, 2), (0, 0)), "edge").astype(float)
    shown, _ = decode_pixels(data, Limits(), at_least=200)  # twice as many are left to be filtered
    assert shown.shape == (201, 401, 3)
    blocks = whole.reshape(201, 3, 401, 3, 3).mean((1, 3))
    assert np.abs(shown - blocks).max() <= 1


@pytest.mark.parametrize(("kind", "side"), [("JPEG", 192), ("JPEG", 1024), ("JPEG", 2048), ("PNG", 192)])
def test_picture_of_a_large_image_looks_like_one_made_of_all_its_pixels(kind: str, side: int) -> None:
    data = saved(Image.open(io.BytesIO(large_png())), kind, quality=95)
    shown = pixels(Pictures(lambda _: data, Limits()).picture("any", side).data).astype(int)
    whole = Image.fromarray(decode_pixels(data, Limits())[0]).resize((side, side // 2), Image.Resampling.LANCZOS)
    assert shown.shape == (side // 2, side, 3)
    assert np.abs(shown - np.asarray(whole)).mean() < 1.5  # of 255


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "unsupported_format"),
        (b"<!doctype html><script>alert(1)</script>", "not_image"),
        (b"", "empty"),
        (picture(1)[:500], "truncated"),
    ],
)
def test_what_is_no_image_never_reaches_the_browser(data: bytes, code: str) -> None:
    with pytest.raises(Undecodable) as refused:
        Pictures(lambda _: data, Limits()).picture("any")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("kind", "options", "together"),
    [("JPEG", {"progressive": True}, False), ("PNG", {}, False), ("JPEG", {}, True)],
    ids=["progressive JPEG", "PNG", "baseline JPEG"],
)
def test_large_images_that_are_decoded_whole_wait_for_each_other(
    kind: str, options: dict[str, bool], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, both, met = saved(Image.new("RGB", (5000, 3500)), kind, **options), threading.Barrier(2), []

    def decode(*_: object, **__: object) -> tuple[np.ndarray, list[str]]:
        try:
            both.wait(0.3)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)
        return np.zeros((2, 2, 3), np.uint8), []

    monkeypatch.setattr("blindpairs.author.pictures.decode_pixels", decode)
    pictures = Pictures(lambda _: data, Limits())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(pictures.picture, ("a", "b")))
    assert met == [together, together]


def test_cache_is_bounded_and_saves_reading() -> None:
    read: list[str] = []

    def reading(key: str) -> bytes:
        read.append(key)
        return picture(int(key))

    size = len(Pictures(reading, Limits()).picture("1").data)
    read.clear()
    pictures = Pictures(reading, Limits(), cache_bytes=int(2.5 * size))
    for key in ("1", "1", "2", "1", "3", "1", "2"):
        pictures.picture(key)
    assert read == ["1", "2", "3", "2"]  # 2 was the least recently used when 3 came


def test_file_that_was_replaced_is_not_shown_as_the_image_that_was_mined(tmp_path: Path) -> None:
    space = Workspace(drawn_work(tmp_path, 2))
    with AuthoringDatabase(space.authoring) as database:
        pair = next(database.pairs())
    pictures = pictures_of(space)
    assert pictures.picture(pair.image_id_a)
    Path(pair.uri_b).write_bytes(picture(77, "PNG"))
    with pytest.raises(Undecodable) as refused:
        pictures.picture(pair.image_id_b)
    assert refused.value.code == "changed"
    with pytest.raises(Undecodable) as unknown:
        pictures.picture("0" * 32)
    assert unknown.value.code == "unknown"


def test_images_of_an_archive_are_found_in_one_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blindpairs.images import tar

    searches: list[str] = []
    plan = tar.plan_tar

    def counted(path: str, notes: Counter[str]) -> Iterator[Item]:
        searches.append(path)
        return plan(path, notes)

    monkeypatch.setattr(tar, "plan_tar", counted)
    data = [picture(seed) for seed in range(8)]
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for number, one in enumerate(data):
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = len(one)
            archive.addfile(member, io.BytesIO(one))
    known = {image_id(one): (f"{tmp_path}/shard.tar#{number}.jpg", None) for number, one in enumerate(data)}
    images = CorpusImages(lambda: known)
    assert [images(image_id(one)) for one in reversed(data)] == data[::-1]
    assert len(searches) == 1


def test_maps_are_read_again_when_there_are_others(tmp_path: Path) -> None:
    maps = Maps(tmp_path)
    assert maps.of("p") is None
    one = DifferenceMap(np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32))
    write_maps(tmp_path, {"p": one})
    assert pixels(maps.picture("p", "a").data).shape == (2, 3, 3)
    write_maps(tmp_path, {"p": one, "q": DifferenceMap(one.a[:1], one.b[:1])})
    assert pixels(maps.picture("q", "b").data).shape == (1, 3, 3)
    (tmp_path / "differences.parquet").write_bytes(b"cut short")
    assert maps.of("q") is None
