"""One pair as a picture, from arrays and from a store."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from demo_stores import demo_store
from PIL import Image

from blindpairs.errors import Undecodable
from blindpairs.mine import MiningOptions, mine_store
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages import GalleryPair, pair_picture, pair_pictures
from blindpairs.pages.picture import COLOURS

PAIR = GalleryPair("1", "a", "b", "/x/a.jpg", "/x/b.jpg", clip_sim=0.96, dino_sim=0.1, gap=0.86, differs=("hat",))
SIZE = (1144, 702)
SIDES = ((40, 40, 552, 552), (592, 40, 1104, 552))  # where the two images are


def scene(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_a_pair_picture_holds_both_images_side_by_side_with_hard_pixels() -> None:
    picture = pair_picture(PAIR, scene(1), scene(2))
    assert picture.size == SIZE
    for box, seed in zip(SIDES, (1, 2), strict=True):
        assert np.array_equal(np.asarray(picture.crop(box)), scene(seed).repeat(8, axis=0).repeat(8, axis=1))
    assert (np.asarray(picture.crop((0, 552, *SIZE))) != 255).any()  # the words and the scale


@pytest.mark.parametrize("cosines", [(-0.2, -0.3), (1.0, 1.0), (1.0, -1.0)])
def test_a_pair_picture_fits_any_shape_and_any_cosine(cosines: tuple[float, float]) -> None:
    clip, dino = cosines
    extreme = GalleryPair("1", "a", "b", "", "", clip_sim=clip, dino_sim=dino, gap=clip - dino)
    assert pair_picture(extreme, scene(1, 40, 900), scene(2, 700, 3)).size == SIZE


def test_an_image_that_cannot_be_read_is_its_reason_in_its_place() -> None:
    picture = pair_picture(PAIR, Undecodable("missing", "no file at /x/\u05e9\u05dc\u05d5\u05dd.jpg"), scene(2))
    place = np.asarray(picture.crop(SIDES[0])).reshape(-1, 3)
    frame = np.array([int(COLOURS["frame"][at : at + 2], 16) for at in (1, 3, 5)])
    assert 0.001 < (place != frame).any(axis=1).mean() < 0.2  # words on an empty frame


def test_pictures_of_a_store_are_the_first_pairs_with_the_corpus_pixels(tmp_path: Path) -> None:
    for seed in range(6):
        Image.fromarray(scene(seed)).save(tmp_path / f"{seed}.png")
    store = demo_store(tmp_path, tmp_path / "store")
    mined = mine_store(store, tmp_path / "pairs", MiningOptions(clip_min=-1.0, dino_max=0.94))
    assert isinstance(mined.pairs, pa.Table)
    before = pair_pictures(store, mined.pairs, 2)
    assert [picture.size for picture in before] == [SIZE, SIZE]
    uri = mined.pairs["uri_a"][0].as_py()
    pixels = np.asarray(Image.open(uri))
    assert np.array_equal(np.asarray(before[0].crop(SIDES[0])), pixels.repeat(8, axis=0).repeat(8, axis=1))
    ones = np.ones((2, 2), np.float32)
    mapped = pair_pictures(store, mined.pairs, 2, maps={mined.pairs["pair_id"][1].as_py(): DifferenceMap(ones, ones)})
    assert [one == other for one, other in zip(mapped, before, strict=True)] == [True, False]
    Path(uri).unlink()
    after = pair_pictures(store, mined.pairs, 2)
    assert [picture.size for picture in after] == [SIZE, SIZE]
    assert after[0].crop(SIDES[0]) != before[0].crop(SIDES[0])
    assert after[0].crop(SIDES[1]) == before[0].crop(SIDES[1])


def test_a_map_colours_its_box_and_the_rest_is_faded() -> None:
    ones, half = np.ones((3, 3), np.float32), (0.25, 0.5, 0.75, 1.0)
    difference, same = DifferenceMap(ones, 0 * ones, box_a=half), DifferenceMap(0 * ones, 0 * ones)
    plain, empty, mapped = (
        np.asarray(pair_picture(PAIR, scene(1), scene(2), one)).astype(int) for one in (None, same, difference)
    )
    changed = (empty != mapped).any(axis=2)
    left, top, right, bottom = 40 + 128, 40 + 256, 40 + 384, 552
    assert changed[top:bottom, left:right].mean() > 0.99
    changed[top:bottom, left:right] = False
    assert not changed.any()
    red, green, _ = mapped[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
    assert red > green + 100
    spread = [np.ptp(picture[40:552, 40:552], axis=2).mean() for picture in (plain, empty)]
    assert spread[1] < 0.3 * spread[0]  # nearly grey


def test_an_image_that_cannot_be_read_has_no_map() -> None:
    missing, ones = Undecodable("missing", "no file"), np.ones((3, 3), np.float32)
    assert pair_picture(PAIR, missing, missing, DifferenceMap(ones, ones)) == pair_picture(PAIR, missing, missing)
