"""The gallery: mined pairs side by side, as one page that opens from disk.

The page is a single HTML file that needs no server and makes no request. It holds each image once, as a thumbnail, even
if several pairs show it. It is safe with any file name (see `safety`). The same input gives the same bytes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from blindpairs.errors import Undecodable
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.cards import Figures, Shown, card
from blindpairs.pages.charts import scale_svg, scatter_svg
from blindpairs.pages.heat import NO_MAPS
from blindpairs.pages.kinds import kind_overview, kind_select, kinds_of
from blindpairs.pages.pairs import GalleryPair, GallerySummary
from blindpairs.pages.safety import escape_text, fill_template
from blindpairs.pages.thumbnails import CONTROL_BYTES, CONTROL_SIDE, Thumbnail, make_thumbnail
from blindpairs.selfjoin.shown import as_given
from blindpairs.workspace import written_atomically

# Parts of the page that only some results need.
BY_DIFFERENCE = '<option value="difference">smallest difference</option>'
MAP_BUTTON = """
  <button id="maps" type="button" aria-pressed="false" title="Red where DINO's patches differ most (d)">
    Show where they differ</button>"""
MAP_KEY = """
    <dt><kbd>d</kbd></dt><dd>show where they differ, and hide it</dd>"""


def write_gallery(
    pairs: Sequence[GalleryPair],
    pixels: Iterable[tuple[str, np.ndarray | Undecodable]],
    output: Path,
    *,
    summary: GallerySummary,
    maps: Mapping[str, DifferenceMap] = NO_MAPS,
) -> None:
    """Write the page of `pairs`, in their order, to `output`; a pair whose image is missing is shown with the reason.

    A control pair is shown in the card of the blind pair that it matches. `maps` are by pair id. `pixels` yields
    (image_id, uint8 (H, W, 3)) or (image_id, why it cannot be read), in any order and at most one image in memory at a
    time if it is a generator; images of no pair are ignored.
    """
    blind = [pair for pair in pairs if pair.control_of is None]
    matched = {pair.control_of: pair for pair in pairs if pair.control_of is not None}
    controls = {pair.pair_id: matched[pair.pair_id] for pair in blind if pair.pair_id in matched}
    large = _images(blind)
    wanted = large | _images(controls.values())
    shown: dict[str, Shown] = {}
    for key, image in pixels:
        if key not in wanted or key in shown:
            continue
        if isinstance(image, Undecodable):
            shown[key] = f"{image.message} ({image.code})"
        else:
            shown[key] = make_thumbnail(image) if key in large else make_thumbnail(image, CONTROL_SIDE, CONTROL_BYTES)
    # The file is opened only now: if reading the pixels raises, an older page stays as it was.
    with written_atomically(output) as aside:
        aside.write_bytes(_page(blind, controls, Figures(shown, maps), summary).encode("utf-8"))


def _images(pairs: Iterable[GalleryPair]) -> set[str]:
    return {key for pair in pairs for key in (pair.image_id_a, pair.image_id_b)}


def _page(
    blind: Sequence[GalleryPair], controls: Mapping[str, GalleryPair], figures: Figures, summary: GallerySummary
) -> str:
    # The same axis for all pairs, so that gaps can be compared by eye.
    axis_low = min([0.0, *(math.floor(pair.dino_sim * 10) / 10 for pair in blind)])
    cards = [
        card(rank, pair, controls.get(pair.pair_id), figures, scale_svg(pair, summary, axis_low))
        for rank, pair in enumerate(blind, 1)
    ]
    empty = f'<p class="empty">No pair meets both thresholds. {escape_text(summary.advice)}</p>'
    kinds = kinds_of(blind)
    mapped = any(pair.pair_id in figures.maps for pair in blind)
    parts = {
        "corpus": escape_text(summary.corpus),
        "about": _about(blind, len(controls), figures, summary),
        "scatter": scatter_svg(blind, summary) if blind else "",
        "kinds": kind_overview(kinds, figures.images),
        "by_difference": BY_DIFFERENCE if any(pair.difference is not None for pair in blind) else "",
        "by_kind": kind_select(kinds),
        "map_button": MAP_BUTTON if mapped else "",
        "map_key": MAP_KEY if mapped else "",
        "pairs": "\n".join(cards) if cards else empty,
    }
    template = resources.files("blindpairs.pages").joinpath("gallery.html").read_text("utf-8")
    return fill_template(template, parts)


def _about(blind: Sequence[GalleryPair], controls: int, figures: Figures, summary: GallerySummary) -> str:
    pairs = len(blind)
    count = f"{pairs:,}" if pairs == summary.found else f"the first {pairs:,} of {summary.found:,}"
    rows = [
        ("Corpus", f"{summary.corpus}, {summary.images:,} images"),
        ("Pairs", f"{count}, among {len(_images(blind)):,} different images" if pairs else count),
        ("CLIP", f"{summary.clip_encoder}, cosine at least {as_given(summary.clip_min)}"),
        ("DINO", f"{summary.dino_encoder}, cosine at most {as_given(summary.dino_max)}"),
        *(("Note", note) for note in summary.notes),
    ]
    if controls:
        rows.append(
            ("Controls", f"{controls:,}, as different to DINO, told apart by CLIP, each beside the pair it matches")
        )
    # An image is missing where the page has no thumbnail of it.
    if unreadable := sum(not isinstance(figures.images.get(key), Thumbnail) for key in figures.first):
        rows.append(
            ("Missing", f"{unreadable:,} image{'s' * (unreadable > 1)} cannot be shown; the reason is in its place")
        )
    return "\n".join(f"      <dt>{name}</dt><dd>{escape_text(value)}</dd>" for name, value in rows)
