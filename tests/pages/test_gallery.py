"""The page of pairs: opened by a real Chromium from disk, under hostile names, with every image in it exactly once."""

import base64
import dataclasses
import hashlib
import html
import io
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blindpairs.errors import Undecodable
from blindpairs.pages import GalleryPair, GallerySummary, write_gallery
from blindpairs.pages.charts import quantile_text
from blindpairs.pages.thumbnails import THUMBNAIL_SIDE

SUMMARY = GallerySummary(
    corpus="holiday photos",
    images=1234,
    found=3,
    clip_encoder="open_clip:ViT-L-14/openai",
    dino_encoder="hf:facebook/dinov2-large",
    clip_min=0.95,
    dino_max=0.6,
    notes=("2 images of low information left out",),
)
SCRIPT_NAME = (
    """<script>document.title="owned"</script></title></script><img src=x onerror="document.title='owned'">.jpg"""
)
HOSTILE = {
    SCRIPT_NAME: SCRIPT_NAME.rpartition("/")[2],  # its last slash is inside </script>
    "quotes \" and ' and & and %41.jpg": "quotes \" and ' and & and %41.jpg",
    "evil\u202egpj.exe": "evil\\u202egpj.exe",
    "line\nbreak\r\t.jpg": "line\\nbreak\\r\\t.jpg",
    "👩\u200d🔬 שלום مرحبا.jpg": "👩\u200d🔬 שלום مرحبا.jpg",
    "caf\\xe9.jpg": "caf\\xe9.jpg",
    "{{pairs}} \u2028 \u2029.jpg": "{{pairs}} \\u2028 \\u2029.jpg",
    "n" * 251 + ".jpg": "n" * 251 + ".jpg",
}


def pair(number: int, a: str, b: str, clip: float = 0.97, dino: float = 0.4, **more: Any) -> GalleryPair:
    uris = {"uri_a": f"/corpus/x/{a}.jpg", "uri_b": f"/corpus/x/{b}.jpg"} | more
    return GalleryPair(f"{number:016x}", a, b, clip_sim=clip, dino_sim=dino, gap=clip - dino, **uris)


def scene(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def photo(seed: int, height: int = 480, width: int = 640) -> np.ndarray:
    """Grey noise with the 1/f spectrum of natural photographs: busier, and so larger when stored, than most of them."""
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal((height, width)))
    distance = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    image = np.fft.ifft2(noise / np.maximum(distance, 1 / width)).real
    image = 128 + 50 * (image - image.mean()) / image.std()
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


THREE = [
    pair(
        1,
        "a",
        "b",
        clip=0.96,
        dino=0.10,
        clip_quantile=0.9991,
        dino_quantile=0.5,
        rarity=3.3,
        differs=("hat: yes | no",),
    ),
    pair(2, "c", "a", clip=0.99, dino=0.30, clip_quantile=0.9999, dino_quantile=0.9, rarity=3.1),
    pair(3, "d", "e", clip=0.98, dino=0.20, clip_quantile=0.9995, dino_quantile=0.1, rarity=4.3),
]
PIXELS = {name: scene(seed) for seed, name in enumerate("abcde")}


def page_of(folder: Path, pairs: list[GalleryPair], pixels: dict[str, np.ndarray]) -> Path:
    write_gallery(pairs, pixels.items(), folder / "gallery.html", summary=SUMMARY)
    return folder / "gallery.html"


def embedded(page: Path) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', page.read_text("utf-8"))
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]


def test_each_image_is_embedded_once_and_small_ones_keep_every_pixel(tmp_path: Path) -> None:
    images = embedded(page_of(tmp_path, THREE, PIXELS))
    assert len(images) == 5  # a is in two pairs
    for image, name in zip(images, "abcde", strict=True):  # in the order in which the pairs first show them
        assert np.array_equal(image, PIXELS[name])


@pytest.mark.parametrize(
    ("size", "stored"), [((480, 640), (240, 320)), ((900, 300), (320, 107)), ((200, 150), (200, 150)), ((1, 1), (1, 1))]
)
def test_photographs_are_stored_at_320_pixels_at_most_and_never_enlarged(
    tmp_path: Path, size: tuple[int, int], stored: tuple[int, int]
) -> None:
    image = embedded(page_of(tmp_path, [pair(1, "a", "b")], {"a": scene(1, *size)}))[0]
    assert image.shape[:2] == stored
    assert max(image.shape) <= THUMBNAIL_SIDE


def test_three_hundred_photo_pairs_stay_under_12_megabytes(tmp_path: Path) -> None:
    pairs = [pair(n, f"a{n}", f"b{n}") for n in range(5)]
    empty = page_of(tmp_path, [], {}).stat().st_size
    page = page_of(tmp_path, pairs, {f"{side}{n}": photo(7 * n + ord(side)) for n in range(5) for side in "ab"})
    assert empty + (page.stat().st_size - empty) * 60 < 12_000_000


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    backwards = dict(reversed(PIXELS.items()))
    assert (
        page_of(tmp_path / "one", THREE, PIXELS).read_bytes()
        == page_of(tmp_path / "two", THREE, backwards).read_bytes()
    )


def test_the_policy_allows_only_the_style_and_script_that_ship(tmp_path: Path) -> None:
    text = page_of(tmp_path, THREE, PIXELS).read_text("utf-8")
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]+)"', text)[0])
    hashes = {}
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes[tag] = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'"
    )


def test_an_image_that_cannot_be_read_is_a_placeholder_with_the_reason(tmp_path: Path) -> None:
    pixels: list[tuple[str, np.ndarray | Undecodable]] = [
        ("a", Undecodable("changed", "the file <changed>")),
        ("b", PIXELS["b"]),
    ]
    pixels.append(("unwanted", PIXELS["c"]))
    pairs = [pair(1, "a", "b"), pair(2, "b", "c")]
    write_gallery(pairs, pixels, tmp_path / "page.html", summary=SUMMARY)
    text = (tmp_path / "page.html").read_text("utf-8")
    assert re.findall(r'<p class="none">(.*?)</p>', text) == [
        "the file &lt;changed&gt; (changed)",
        "the same image as pair 1, B",
        "not read",
    ]
    assert "2 images cannot be shown" in text
    assert len(embedded(tmp_path / "page.html")) == 1


def test_a_failing_source_of_pixels_leaves_the_older_page_as_it_was(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, np.ndarray]]:
        yield "a", PIXELS["a"]
        raise RuntimeError

    page = page_of(tmp_path, THREE, PIXELS)
    before = page.read_bytes()
    with pytest.raises(RuntimeError):
        write_gallery(THREE, broken(), page, summary=SUMMARY)
    assert page.read_bytes() == before
    assert list(tmp_path.iterdir()) == [page]


def test_zero_pairs_is_a_page_that_gives_the_advice(tmp_path: Path) -> None:
    summary = dataclasses.replace(SUMMARY, found=0, advice="Try --clip-min 0.9 <first>.")
    write_gallery([], [], tmp_path / "page.html", summary=summary)
    text = (tmp_path / "page.html").read_text("utf-8")
    assert '<p class="empty">No pair meets both thresholds. Try --clip-min 0.9 &lt;first&gt;.</p>' in text
    assert "<article" not in text


def test_only_plain_files_that_exist_are_linked_and_percent_encoded(tmp_path: Path) -> None:
    odd = tmp_path / "50 % #1 é\n.jpg"
    odd.write_bytes(b"")
    pairs = [pair(1, "a", "b", uri_a=str(odd), uri_b=f"{tmp_path}/shard.tar#50 %.jpg")]
    text = page_of(tmp_path, pairs, PIXELS).read_text("utf-8")
    assert re.findall(r'href="(file:[^"]+)"', text) == [f"{tmp_path.as_uri()}/50%20%25%20%231%20%C3%A9%0A.jpg"]


@pytest.mark.parametrize(
    ("quantile", "words"),
    [
        (0.5, "above 50 % of the corpus's pairs"),
        (0.9999951, "above 99.9995 % of the corpus's pairs"),  # never "100 %"
        (0.0004, "above 0.04 % of the corpus's pairs"),
        (1.0, "above every pair of the corpus"),
        (0.0, "below every pair of the corpus"),
        (math.nan, ""),
    ],
)
def test_a_quantile_is_said_in_words_and_never_rounded_to_all(quantile: float, words: str) -> None:
    assert quantile_text(quantile) == words


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_a_contrast_of_at_least_4_5_in_both_schemes(tmp_path: Path, scheme: int) -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    text = page_of(tmp_path, THREE, PIXELS).read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", text, re.DOTALL)[scheme]
    colours = {name: luminance(colour) for name, colour in re.findall(r"--([\w-]+): (#\w{6})", block)}
    for ink in ("ink", "quiet", "clip", "dino"):
        for ground in ("paper", "frame"):
            low, high = sorted((colours[ink], colours[ground]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


# ---- in Chromium ----


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = Path(os.environ.get("BLINDPAIRS_CHROMIUM", "/usr/bin/chromium"))
    if not executable.exists():
        pytest.skip(f"no Chromium at {executable}: set BLINDPAIRS_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(executable), args=["--no-sandbox", "--headless"])
        yield browser
        browser.close()


class Visit:
    """A page opened from disk that records its messages and its requests."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.messages: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.path = path

    def assert_quiet(self) -> None:
        assert self.messages == []
        assert [url for url in self.asked if not url.startswith("data:")] == [self.path.as_uri()]

    def ranks(self) -> list[str]:
        return [text.strip() for text in self.page.locator(".pair:visible .rank").all_text_contents()]

    def widths(self, images: str = ".pair img") -> list[int]:
        """Natural widths after decoding; an image that does not decode raises."""
        found = self.page.locator(images).all()
        return [image.evaluate("async image => (await image.decode(), image.naturalWidth)") for image in found]


@pytest.fixture
def visit(chromium: Any, tmp_path: Path) -> Iterator[Visit]:
    opened = Visit(chromium, page_of(tmp_path, THREE, PIXELS))
    yield opened
    opened.assert_quiet()
    opened.page.context.close()


def test_every_image_is_decoded_also_where_it_is_shown_again(visit: Visit) -> None:
    assert visit.widths() == [64] * 6
    assert visit.page.title() == "Blind pairs: holiday photos"


def test_sorting_orders_the_pairs_and_back(visit: Visit) -> None:
    orders = {"gap": "132", "clip": "231", "dino": "132", "rarity": "312", "rank": "123"}
    for key, order in orders.items():
        visit.page.locator("#sort").select_option(key)
        assert visit.ranks() == list(order), key


def test_the_filter_reads_names_paths_ids_and_differences(visit: Visit) -> None:
    found = {"e.JPG": "3", "hat:": "1", "/corpus/x/a.": "12", "000000002": "2", "nothing": "", "": "123"}
    for words, ranks in found.items():
        visit.page.locator("#filter").fill(words)
        assert visit.ranks() == list(ranks), words
    assert visit.page.locator("#count").inner_text() == "3 pairs"


def test_keys_step_through_the_pairs_that_the_filter_left(visit: Visit) -> None:
    chosen = visit.page.locator(".pair[aria-current] .rank")
    stepped = []
    for key in "jjjk":
        visit.page.keyboard.press(key)
        stepped.append((chosen.text_content() or "").strip())
    assert stepped == ["1", "2", "3", "2"]
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("jfk")  # letters belong to the field now
    assert visit.page.locator("#filter").input_value() == "jfk"
    assert visit.page.locator("#count").inner_text() == "0 of 3 pairs"
    visit.page.keyboard.press("Escape")
    visit.page.keyboard.press("j")


def test_the_flicker_key_lays_b_over_a_and_takes_it_away(visit: Visit) -> None:
    visit.page.keyboard.press("f")
    over = visit.page.locator(".pair .over img")
    assert visit.widths(".pair .over img") == [64]
    figures = visit.page.locator(".pair").first.locator("figure > .frame > img")
    assert over.get_attribute("src") == figures.nth(1).get_attribute("src")
    assert over.bounding_box() == figures.nth(0).bounding_box()  # in place, to the pixel
    visit.page.keyboard.press("f")
    assert over.count() == 0


def test_the_question_mark_opens_the_key_sheet(visit: Visit) -> None:
    visit.page.keyboard.press("?")
    assert visit.page.locator("#help").is_visible()
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("#help").is_visible()


def test_a_dot_leads_to_its_pair(visit: Visit) -> None:
    visit.page.locator(".scatter a").nth(2).click()
    assert visit.page.url.endswith(f"#pair-{THREE[2].pair_id}")


def test_hostile_names_are_text_and_change_nothing(chromium: Any, tmp_path: Path) -> None:
    uris = [f"/corpus/x/{name}" for name in HOSTILE]
    pairs = [pair(n, f"a{n}", f"b{n}", uri_a=uri, differs=(uri,)) for n, uri in enumerate(uris)]
    summary = dataclasses.replace(SUMMARY, corpus=SCRIPT_NAME, notes=(SCRIPT_NAME,))
    pixels = ((key, PIXELS["a"]) for one in pairs for key in (one.image_id_a, one.image_id_b))
    write_gallery(pairs, pixels, tmp_path / "page.html", summary=summary)
    visit = Visit(chromium, tmp_path / "page.html", viewport={"width": 380, "height": 800})
    assert visit.page.title() == f"Blind pairs: {SCRIPT_NAME}"
    shown = visit.page.locator("figure:first-child .name").all_text_contents()
    assert [name.rpartition("/")[2] for name in shown] == list(HOSTILE.values())
    copied = visit.page.locator("figure:first-child .copy").all()
    assert [button.get_attribute("data-copy") for button in copied] == uris
    assert visit.widths() == [64] * 2 * len(uris)
    assert visit.page.locator("html").evaluate("page => page.scrollWidth") == 380  # a 255-byte name widens nothing
    visit.assert_quiet()


def test_without_javascript_images_and_numbers_are_there(chromium: Any, tmp_path: Path) -> None:
    visit = Visit(chromium, page_of(tmp_path, THREE, PIXELS), java_script_enabled=False)
    assert (
        visit.page.locator("header noscript p")
        .inner_text()
        .startswith("Sorting, filtering and the keys need JavaScript")
    )
    assert not visit.page.locator(".tools").is_visible()
    assert visit.page.locator(".pair img[src]:visible").count() == 5
    assert visit.page.locator(".frame noscript p:visible").all_inner_texts() == ["the same image as pair 1, A"]
    assert visit.page.locator(".sims dd:visible", has_text="0.960").count() == 1


def test_dark_and_light_follow_the_reader_and_print_is_light(chromium: Any, tmp_path: Path) -> None:
    visit = Visit(chromium, page_of(tmp_path, THREE, PIXELS), color_scheme="dark")

    def ground() -> str:
        return str(visit.page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor"))

    assert ground() == "rgb(20, 21, 23)"
    visit.page.emulate_media(color_scheme="light")
    assert ground() == "rgb(252, 252, 250)"
    visit.page.emulate_media(color_scheme="dark", media="print")
    assert ground() == "rgb(252, 252, 250)"
    assert not visit.page.locator(".tools").is_visible()
    visit.assert_quiet()
