"""What a closer look found, on the page: maps over the images, kinds, and controls beside their pairs."""

import base64
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from demo_stores import demo_store
from PIL import Image
from test_gallery import HOSTILE, PIXELS, SUMMARY, THREE, Visit, chromium, embedded, pair, photo, scene  # noqa: F401

from blindpairs.errors import Undecodable
from blindpairs.mine import MiningOptions, mine_store
from blindpairs.mine.maps import WHOLE, DifferenceMap
from blindpairs.pages import GalleryPair, write_gallery, write_mined_gallery
from blindpairs.pages.heat import heat_image

CENTRE = (0.25, 0.0, 0.75, 1.0)
CONTROL = pair(9, "a", "f", clip=0.5, dino=0.1, control_of=THREE[0].pair_id)
FOUND = [
    dataclasses.replace(THREE[0], difference=0.9, cluster=1),
    dataclasses.replace(THREE[1], difference=0.3, cluster=0),
    dataclasses.replace(THREE[2], cluster=1),
    CONTROL,
]
WITH_CONTROL: dict[str, np.ndarray | Undecodable] = {**PIXELS, "f": scene(9)}


def corner(rows: int, columns: int) -> np.ndarray:
    """A map that is 1 at the top left, 0 everywhere else."""
    values = np.zeros((rows, columns), np.float32)
    values[0, 0] = 1
    return values


MAPS = {
    THREE[0].pair_id: DifferenceMap(corner(4, 4), corner(4, 4), CENTRE, WHOLE),
    THREE[1].pair_id: DifferenceMap(corner(4, 4)[::-1], corner(4, 4)[:, ::-1]),
}


def page_of(
    folder: Path,
    pairs: Sequence[GalleryPair] = FOUND,
    maps: Mapping[str, DifferenceMap] = MAPS,
    pixels: Mapping[str, np.ndarray | Undecodable] = WITH_CONTROL,
) -> Path:
    write_gallery(pairs, pixels.items(), folder / "page.html", summary=SUMMARY, maps=maps)
    return folder / "page.html"


def maps_in(page: Path) -> list[np.ndarray]:
    """The maps of a page as RGBA."""
    found = re.findall(r'<image href="data:image/png;base64,([^"]+)"', page.read_text("utf-8"))
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")) for data in found]


def test_a_page_without_differences_has_none_of_the_tools(tmp_path: Path) -> None:
    text = page_of(tmp_path, THREE, {}).read_text("utf-8")
    body = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    for tool in ('id="maps"', 'id="kind"', "kinds", "<kbd>d</kbd>", "difference", "covered", "control", "kind "):
        assert tool not in body


def test_a_map_is_transparent_where_it_is_low_and_an_image_has_the_map_of_each_pair(tmp_path: Path) -> None:
    first_a, first_b, _, again_a = (image[..., 3] for image in maps_in(page_of(tmp_path)))
    assert first_a.shape == (4, 4)
    for opacity, place in ((first_a, (0, 0)), (first_b, (0, 0)), (again_a, (0, 3))):  # a is in both pairs
        assert np.argwhere(opacity).tolist() == [list(place)]


def test_a_higher_value_is_never_less_opaque_and_noise_is_not_shown() -> None:
    opacity = np.asarray(heat_image(np.linspace(-0.1, 1.1, 101, dtype=np.float32)[None]).convert("RGBA"))[0, :, 3]
    assert (np.diff(opacity.astype(int)) >= 0).all()
    assert not opacity[:20].any()
    assert 150 < opacity[-1] < 255  # the image stays visible under it


def test_three_hundred_photo_pairs_with_maps_and_controls_stay_under_17_megabytes(tmp_path: Path) -> None:
    def noise(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).random((37, 37), np.float32)

    pairs, controls = [], []
    maps: dict[str, DifferenceMap] = {}
    pixels: dict[str, np.ndarray | Undecodable] = {}
    for n in range(4):
        pairs.append(pair(n, f"a{n}", f"b{n}", cluster=n))
        controls.append(pair(n + 100, f"c{n}", f"d{n}", control_of=pairs[-1].pair_id))
        for one in (pairs[-1], controls[-1]):
            maps[one.pair_id] = DifferenceMap(noise(n), noise(n + 4), CENTRE, CENTRE)
        pixels |= {f"{side}{n}": photo(7 * n + ord(side)) for side in "abcd"}
    empty = page_of(tmp_path, []).stat().st_size
    page = page_of(tmp_path, pairs + controls, maps, pixels)
    assert empty + (page.stat().st_size - empty) * 75 < 17_000_000


def test_a_control_is_in_the_card_of_its_pair_and_counted_as_no_pair(tmp_path: Path) -> None:
    orphan = pair(10, "c", "d", control_of="none of the page")
    page = page_of(tmp_path, [*FOUND, orphan])
    text = page.read_text("utf-8")
    assert "<dt>Pairs</dt><dd>3, among 5 different images</dd>" in text
    assert "<dt>Controls</dt><dd>1, as different to DINO" in text
    assert text.count("<article") == text.count('<circle class="dot"') == 3
    assert orphan.pair_id not in text
    cards = text.split("<article")[1:]
    assert [f'id="pair-{CONTROL.pair_id}"' in card for card in cards] == [True, False, False]


def test_an_image_that_only_a_control_shows_is_stored_smaller(tmp_path: Path) -> None:
    photos: dict[str, np.ndarray | Undecodable] = {name: photo(seed) for seed, name in enumerate("abf")}
    sizes = [image.shape[1] for image in embedded(page_of(tmp_path, [FOUND[0], CONTROL], pixels=photos))]
    assert sizes == [320, 320, 160]  # a is in the pair too


def test_an_image_of_a_control_that_cannot_be_read_is_counted_as_missing(tmp_path: Path) -> None:
    text = page_of(tmp_path, pixels=WITH_CONTROL | {"f": Undecodable("missing", "no file")}).read_text("utf-8")
    assert "no file (missing)" in text
    assert "1 image cannot be shown" in text


def test_columns_of_the_table_and_maps_reach_the_page(tmp_path: Path) -> None:
    for seed in range(6):
        Image.fromarray(scene(seed)).save(tmp_path / f"{seed}.png")
    store = demo_store(tmp_path, tmp_path / "store")
    mined = mine_store(store, tmp_path / "pairs", MiningOptions(clip_min=-1.0, dino_max=0.94))
    first, second, *_ = mined.pairs["pair_id"].to_pylist()
    columns = {
        "difference": pa.array([0.25, None], pa.float64()),
        "cluster": pa.array([7, None], pa.int32()),
        "control_of": pa.array([None, first]),
    }
    pairs = mined.pairs.slice(0, 2)
    for name, column in columns.items():
        pairs = pairs.drop_columns([name] if name in pairs.column_names else []).append_column(name, column)
    mined = dataclasses.replace(mined, pairs=pairs)
    page = tmp_path / "page.html"
    write_mined_gallery(store, mined, page, maps={first: DifferenceMap(corner(4, 4), corner(4, 4))})
    text = page.read_text("utf-8")
    assert text.count("<article") == 1
    assert 'data-difference="0.250000" data-cluster="7"' in text
    assert f'<section class="control" id="pair-{second}"' in text
    assert len(maps_in(page)) == 2


# ---- in Chromium ----


@pytest.fixture
def visit(chromium: Any, tmp_path: Path) -> Iterator[Visit]:  # noqa: F811
    opened = Visit(chromium, page_of(tmp_path))
    yield opened
    opened.assert_quiet()
    opened.page.context.close()


def visible_maps(visit: Visit) -> list[bool]:
    visit.page.wait_for_timeout(600)  # the transition
    return [map.evaluate("map => getComputedStyle(map).opacity") == "1" for map in visit.page.locator(".map").all()]


def test_one_control_and_one_key_show_the_maps_of_all_pairs(visit: Visit) -> None:
    button = visit.page.get_by_role("button", name="Show where they differ")
    assert visible_maps(visit) == [False] * 4
    visit.page.keyboard.press("d")
    assert visible_maps(visit) == [True] * 4
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert visible_maps(visit) == [False] * 4
    assert button.get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("script", [True, False])
def test_the_maps_of_one_pair_show_while_its_images_are_pointed_at(
    chromium: Any,  # noqa: F811
    tmp_path: Path,
    script: bool,
) -> None:
    visit = Visit(chromium, page_of(tmp_path), java_script_enabled=script)
    visit.page.locator(".pair > .images").first.hover()
    visit.page.wait_for_timeout(600)
    maps = visit.page.locator(".map")
    visit.page.screenshot(path=tmp_path / "shown.png")
    with Image.open(tmp_path / "shown.png") as picture:
        for number, left in ((0, 0.25), (1, 0.0)):
            box = maps.nth(number).bounding_box()
            at = (int(box["x"] + left * box["width"]) + 2, int(box["y"]) + 40)
            red, green, _ = np.asarray(picture.convert("RGB"))[at[::-1]].astype(int)
            assert red > green + 60


@pytest.mark.parametrize("width", [1280, 380])
def test_a_map_covers_its_image_and_its_cells_the_box(chromium: Any, tmp_path: Path, width: int) -> None:  # noqa: F811
    visit = Visit(
        chromium, page_of(tmp_path, pixels=WITH_CONTROL | {"a": photo(1)}), viewport={"width": width, "height": 800}
    )
    image, cells = (visit.page.locator(f".covered {part}").first.bounding_box() for part in ("img", "svg image"))
    assert visit.page.locator(".map").first.bounding_box() == image
    assert image["width"] == pytest.approx(4 / 3 * image["height"], rel=0.01)
    assert cells["x"] == pytest.approx(image["x"] + image["width"] / 4, abs=0.5)
    assert cells["width"] == pytest.approx(image["width"] / 2, abs=0.5)
    assert cells["height"] == pytest.approx(image["height"], abs=0.5)
    assert visit.page.locator(".map rect").count() == 1  # B's map covers all of it
    assert visit.page.locator("html").evaluate("page => page.scrollWidth") == width
    visit.assert_quiet()


def test_a_kind_hides_the_others_and_all_kinds_brings_them_back(visit: Visit) -> None:
    kind, count = visit.page.locator("#kind"), visit.page.locator("#count")
    assert kind.locator("option").all_inner_texts() == ["All kinds", "Kind 0 (1 pair)", "Kind 1 (2 pairs)"]
    kind.select_option("1")
    assert (visit.ranks(), count.inner_text()) == (["1", "3"], "2 of 3 pairs")
    visit.page.locator("#filter").fill("hat:")
    assert visit.ranks() == ["1"]
    visit.page.locator("#filter").fill("")
    kind.select_option("")
    assert (visit.ranks(), count.inner_text()) == (["1", "2", "3"], "3 pairs")


def test_the_overview_shows_pairs_of_each_kind_and_leads_to_them(visit: Visit) -> None:
    kinds = visit.page.locator(".kinds li")
    assert kinds.locator("span").all_inner_texts() == ["1 pair", "2 pairs"]
    assert visit.widths(".kinds img") == [64] * 6
    kinds.nth(0).get_by_role("button").click()
    assert visit.ranks() == ["2"]
    assert visit.page.locator("#kind").input_value() == "0"
    kinds.nth(1).get_by_role("link", name="Pair 3").click()  # it is hidden now
    assert visit.ranks() == ["1", "2", "3"]
    assert visit.page.url.endswith(f"#pair-{THREE[2].pair_id}")


def test_sorting_by_difference_has_the_subtlest_first_and_the_unknown_last(visit: Visit) -> None:
    visit.page.locator("#sort").select_option("difference")
    assert visit.ranks() == ["2", "1", "3"]


def test_a_control_is_shown_and_found_with_its_pair(visit: Visit) -> None:
    control = visit.page.locator(".pair").first.locator(".control")
    assert control.get_by_role("heading").inner_text() == "Control: CLIP tells these apart"
    assert control.locator("dd").all_inner_texts() == ["0.500", "0.100"]
    assert visit.widths(".control img") == [64, 64]
    for words in ("x/f.jpg", CONTROL.pair_id):
        visit.page.locator("#filter").fill(words)
        assert visit.ranks() == ["1"]


def test_flicker_shows_the_map_of_b_in_place_of_that_of_a(visit: Visit) -> None:
    visit.page.keyboard.press("f")
    over, a = visit.page.locator(".over svg image"), visit.page.locator(".pair .frame > .covered svg image").first
    assert over.get_attribute("width") == "1"
    assert a.get_attribute("width") == "0.5"
    visit.page.locator(".pair > .images").first.hover()
    assert visible_maps(visit) == [False] * 5  # pointing at images that are compared hides nothing


def test_without_kinds_and_maps_the_keys_do_what_they_did(chromium: Any, tmp_path: Path) -> None:  # noqa: F811
    visit = Visit(chromium, page_of(tmp_path, THREE, {}))
    for key in "djf":
        visit.page.keyboard.press(key)
    assert visit.page.locator("html").get_attribute("class") == "js"
    assert visit.page.locator(".over").count() == 1
    visit.assert_quiet()


def test_hostile_names_of_a_control_are_text(chromium: Any, tmp_path: Path) -> None:  # noqa: F811
    pairs = [pair(n, "a", "b", cluster=n) for n in range(len(HOSTILE))]
    controls = [
        pair(100 + n, "a", "b", uri_a=f"/corpus/x/{name}", control_of=one.pair_id)
        for (n, name), one in zip(enumerate(HOSTILE), pairs, strict=True)
    ]
    visit = Visit(chromium, page_of(tmp_path, pairs + controls), viewport={"width": 380, "height": 800})
    assert visit.page.title() == "Blind pairs: holiday photos"
    shown = visit.page.locator(".control figure:first-child .name").all_text_contents()
    assert [name.rpartition("/")[2] for name in shown] == list(HOSTILE.values())
    assert visit.page.locator("html").evaluate("page => page.scrollWidth") == 380
    visit.assert_quiet()


def test_without_javascript_the_control_and_the_kind_are_there(chromium: Any, tmp_path: Path) -> None:  # noqa: F811
    visit = Visit(chromium, page_of(tmp_path), java_script_enabled=False)
    assert not visit.page.locator(".kinds").is_visible()
    assert visit.page.locator(".control img[src]:visible").count() == 1
    assert visit.page.locator(".control noscript p:visible").all_inner_texts() == ["the same image as pair 1, A"]
    assert visit.page.locator(".id").first.inner_text().startswith("kind 1, pair ")
