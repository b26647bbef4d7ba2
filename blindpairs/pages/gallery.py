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
from blindpairs.pages.charts import cosine_text, quantile_text, scale_svg, scatter_svg
from blindpairs.pages.pairs import GalleryPair, GallerySummary
from blindpairs.pages.safety import escape_attribute, escape_text, file_link, fill_template
from blindpairs.pages.thumbnails import Thumbnail, make_thumbnail
from blindpairs.selfjoin.shown import as_given
from blindpairs.workspace import written_atomically

_Shown = Thumbnail | str  # what the page has of an image: its thumbnail, or the reason why there is none


def write_gallery(
    pairs: Sequence[GalleryPair],
    pixels: Iterable[tuple[str, np.ndarray | Undecodable]],
    output: Path,
    *,
    summary: GallerySummary,
) -> None:
    """Write the page of `pairs`, in their order, to `output`; a pair whose image is missing is shown with the reason.

    `pixels` yields (image_id, uint8 (H, W, 3)) or (image_id, why it cannot be read), in any order and at most one image
    in memory at a time if it is a generator; images of no pair are ignored.
    """
    wanted = {key for pair in pairs for key in (pair.image_id_a, pair.image_id_b)}
    shown: dict[str, _Shown] = {}
    for key, image in pixels:
        if key in wanted and key not in shown:
            shown[key] = f"{image.message} ({image.code})" if isinstance(image, Undecodable) else make_thumbnail(image)
    # The file is opened only now: if reading the pixels raises, an older page stays as it was.
    with written_atomically(output) as aside:
        aside.write_bytes(_page(pairs, shown, summary).encode("utf-8"))


def _page(pairs: Sequence[GalleryPair], shown: Mapping[str, _Shown], summary: GallerySummary) -> str:
    # The same axis for all pairs, so that gaps can be compared by eye.
    axis_low = min([0.0, *(math.floor(pair.dino_sim * 10) / 10 for pair in pairs)])
    first: dict[str, str] = {}  # image id -> the place that holds its bytes, such as "pair 3, A"
    cards = [_card(rank, pair, shown, first, scale_svg(pair, summary, axis_low)) for rank, pair in enumerate(pairs, 1)]
    empty = f'<p class="empty">No pair meets both thresholds. {escape_text(summary.advice)}</p>'
    parts = {
        "corpus": escape_text(summary.corpus),
        "about": _about(len(pairs), len(first), shown, summary),
        "scatter": scatter_svg(pairs, summary) if pairs else "",
        "pairs": "\n".join(cards) if cards else empty,
    }
    template = resources.files("blindpairs.pages").joinpath("gallery.html").read_text("utf-8")
    return fill_template(template, parts)


def _about(pairs: int, images: int, shown: Mapping[str, _Shown], summary: GallerySummary) -> str:
    count = f"{pairs:,}" if pairs == summary.found else f"the first {pairs:,} of {summary.found:,}"
    rows = [
        ("Corpus", f"{summary.corpus}, {summary.images:,} images"),
        ("Pairs", f"{count}, among {images:,} different images" if pairs else count),
        ("CLIP", f"{summary.clip_encoder}, cosine at least {as_given(summary.clip_min)}"),
        ("DINO", f"{summary.dino_encoder}, cosine at most {as_given(summary.dino_max)}"),
        *(("Note", note) for note in summary.notes),
    ]
    if unreadable := images - sum(isinstance(image, Thumbnail) for image in shown.values()):
        rows.append(
            ("Missing", f"{unreadable:,} image{'s' * (unreadable > 1)} cannot be shown; the reason is in its place")
        )
    return "\n".join(f"      <dt>{name}</dt><dd>{escape_text(value)}</dd>" for name, value in rows)


def _card(rank: int, pair: GalleryPair, shown: Mapping[str, _Shown], first: dict[str, str], scale: str) -> str:
    sides = [(pair.image_id_a, pair.uri_a, "A"), (pair.image_id_b, pair.uri_b, "B")]
    figures = [_figure(key, uri, f"pair {rank}, {side}", shown.get(key), first) for key, uri, side in sides]
    differs = "".join(f"<li>{escape_text(line)}</li>" for line in pair.differs)
    anchor = escape_text(f"pair-{pair.pair_id}")
    return f"""<article class="pair" id="{anchor}" tabindex="-1" aria-label="Pair {rank}" data-rank="{rank}"
  data-gap="{pair.gap:.6f}" data-clip="{pair.clip_sim:.6f}" data-dino="{pair.dino_sim:.6f}"
  data-rarity="{pair.rarity if math.isfinite(pair.rarity) else 0:.9f}">
<div class="rank"><a href="#{anchor}" title="Link to this pair">{rank}</a></div>
<div class="images">{"".join(figures)}</div>
<div class="facts">{scale}
<dl class="sims">
{_measure("clip", pair.clip_sim, pair.clip_quantile)}
{_measure("dino", pair.dino_sim, pair.dino_quantile)}
</dl>{f'<ul class="differs">{differs}</ul>' if differs else ""}
<p class="id">pair <code>{escape_text(pair.pair_id)}</code></p></div>
</article>"""


def _measure(name: str, cosine: float, quantile: float) -> str:
    quantile_cell = f'<dd class="quantile">{quantile_text(quantile)}</dd>'
    return f'<div><dt class="of-{name}">{name.upper()}</dt><dd>{cosine_text(cosine)}</dd>{quantile_cell}</div>'


def _figure(key: str, uri: str, place: str, image: _Shown | None, first: dict[str, str]) -> str:
    """One side of a pair: the image itself at its first place on the page, and a reference to that place later."""
    # A file is shown with its folder, a member of a container with the container: `cats/1.jpg`, `shard.tar#1.jpg`.
    folder, _, last = uri.rpartition("/")
    name, path = escape_text(last if "#" in last else f"{folder.rpartition('/')[2]}/{last}"), escape_text(uri)
    link = file_link(uri)
    label = f'<bdi class="name" title="{path}">{name}</bdi>'
    label = f'<a href="{escape_text(link)}" target="_blank" rel="noopener">{label}</a>' if link else label
    earlier = first.setdefault(key, place)
    if not isinstance(image, Thumbnail):
        frame = f'<p class="none">{escape_text(image or "not read")}</p>'
    else:
        size = f'width="{image.width}" height="{image.height}"{" class=pixels" if image.small else ""}'
        # The script copies the source to later appearances. Without script these name the first one instead.
        anchor, repeated = escape_text(f"image-{key}"), earlier != place
        where = f'data-same="{anchor}"' if repeated else f'id="{anchor}" src="{image.source}"'
        frame = f'<img {where} {size} alt="{place}: {name}" decoding="async">'
        frame += f'<noscript><p class="none">the same image as {earlier}</p></noscript>' if repeated else ""
    return f"""<figure><div class="frame"><span class="mark">{place[-1]}</span>{frame}</div>
<figcaption>{label}
<button class="copy" type="button" data-copy="{escape_attribute(uri)}">copy path</button></figcaption></figure>"""
