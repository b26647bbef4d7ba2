"""The mined pairs, side by side, as one page that opens from disk; and one pair as a picture for a slide.

The page is a single HTML file: no server, no request, nothing but the file. Its images are thumbnails inside it, each
embedded once however many pairs show it. It is safe under any file name: whatever comes from a corpus is escaped text,
invisible and direction-changing characters are spelled out, and the page's own policy allows no script and no style but
the two that ship in `gallery.html`, known by hash. The same input gives the same bytes.
"""

import base64
import functools
import hashlib
import html
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blindpairs.errors import Undecodable
from blindpairs.selfjoin.shown import as_given, rounded
from blindpairs.workspace import written_atomically

THUMBNAIL_SIDE = 320  # longest side, in pixels: what the page shows at most, so a larger one would only weigh
THUMBNAIL_BYTES = 13_500  # what one photograph may take, so that 300 pairs of them stay under 12 MB
SMALL_SIDE = 128  # up to here an image is shown enlarged by whole steps, and stored without loss
COLOURS = {
    "clip": "#1f64a5",
    "dino": "#b54d12",
    "ink": "#1d1e20",
    "quiet": "#5f6368",
    "line": "#d8d7d2",
    "frame": "#f1f0ec",
}


@dataclass(frozen=True)
class GalleryPair:
    """One pair, named as in pairs.parquet, so that a row of it makes one; cosines and quantiles are plain numbers.

    A quantile is the share of the corpus's pairs that lie below, in [0, 1]; NaN where it is not known. `differs` holds
    one line per thing known to differ, as the demo's ground truth does.
    """

    pair_id: str
    image_id_a: str
    image_id_b: str
    uri_a: str
    uri_b: str
    clip_sim: float
    dino_sim: float
    gap: float
    clip_quantile: float = math.nan
    dino_quantile: float = math.nan
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class GallerySummary:
    """What the head of the page says; `advice` is the sentence for a page without pairs."""

    corpus: str
    images: int
    found: int  # pairs that met the thresholds, of which the page may show only the first
    clip_encoder: str
    dino_encoder: str
    clip_min: float
    dino_max: float
    notes: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class _Thumbnail:
    source: str  # a data: URI
    width: int  # as shown, in CSS pixels: a multiple of the stored width for small images
    height: int
    small: bool


# An image as the page knows it: its picture, or the reason why there is none.
_Shown = _Thumbnail | str


def write_gallery(
    pairs: Sequence[GalleryPair],
    pixels: Iterable[tuple[str, np.ndarray | Undecodable]],
    output: Path,
    *,
    summary: GallerySummary,
) -> None:
    """Write the page of `pairs`, in their order, to `output`; a pair whose image is missing is shown with the reason.

    `pixels` yields (image_id, uint8 (H, W, 3)) or (image_id, why it cannot be read), in any order and at most one image
    in memory at a time if it is a generator; images of no pair are passed over.
    """
    wanted = {key for pair in pairs for key in (pair.image_id_a, pair.image_id_b)}
    shown: dict[str, _Shown] = {}
    for key, image in pixels:
        if key in wanted and key not in shown:
            shown[key] = f"{image.message} ({image.code})" if isinstance(image, Undecodable) else _thumbnail(image)
    # Only now is a file opened: a source of pixels that breaks leaves the older page as it was.
    with written_atomically(output) as aside:
        aside.write_bytes(_page(pairs, shown, summary).encode("utf-8"))


def _page(pairs: Sequence[GalleryPair], shown: Mapping[str, _Shown], summary: GallerySummary) -> str:
    template = resources.files("blindpairs.pages").joinpath("gallery.html").read_text("utf-8")
    # One axis for all pairs, so that the eye can compare their gaps.
    axis_low = min([0.0, *(math.floor(pair.dino_sim * 10) / 10 for pair in pairs)])
    first: dict[str, str] = {}  # image id -> "pair 3, A", where its bytes are
    cards = [_card(rank, pair, shown, first, _scale(pair, summary, axis_low)) for rank, pair in enumerate(pairs, 1)]
    empty = f'<p class="empty">No pair meets both thresholds. {_text(summary.advice)}</p>'
    parts = {
        "policy": _policy(template),
        "corpus": _text(summary.corpus),
        "about": _about(len(pairs), len(first), shown, summary),
        "scatter": _scatter(pairs, summary) if pairs else "",
        "pairs": "\n".join(cards) if cards else empty,
    }
    # One pass: a file name that reads {{pairs}} is text, not a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _policy(template: str) -> str:
    """Nothing may load but data: images and the template's own style and script, known by their hashes."""
    allowed = {}
    for tag in ("style", "script"):
        body = template.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
        allowed[tag] = base64.b64encode(hashlib.sha256(body.encode("utf-8")).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{allowed['style']}'; script-src 'sha256-{allowed['script']}'"
    )


def _about(pairs: int, images: int, shown: Mapping[str, _Shown], summary: GallerySummary) -> str:
    count = f"{pairs:,}" if pairs == summary.found else f"the first {pairs:,} of {summary.found:,}"
    rows = [
        ("Corpus", f"{summary.corpus}, {summary.images:,} images"),
        ("Pairs", f"{count}, among {images:,} different images" if pairs else count),
        ("CLIP", f"{summary.clip_encoder}, cosine at least {as_given(summary.clip_min)}"),
        ("DINO", f"{summary.dino_encoder}, cosine at most {as_given(summary.dino_max)}"),
        *(("Note", note) for note in summary.notes),
    ]
    if unreadable := images - sum(isinstance(image, _Thumbnail) for image in shown.values()):
        rows.append(("Missing", f"{unreadable:,} image{'s' * (unreadable > 1)} cannot be shown; each place says why"))
    return "\n".join(f"      <dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in rows)


def _card(rank: int, pair: GalleryPair, shown: Mapping[str, _Shown], first: dict[str, str], scale: str) -> str:
    sides = [(pair.image_id_a, pair.uri_a, "A"), (pair.image_id_b, pair.uri_b, "B")]
    figures = [_figure(key, uri, f"pair {rank}, {side}", shown.get(key), first) for key, uri, side in sides]
    # High among the corpus's CLIP cosines and low among its DINO cosines: raw cosines of two encoders do not compare.
    rarity = pair.clip_quantile - pair.dino_quantile
    differs = "".join(f"<li>{_text(line)}</li>" for line in pair.differs)
    anchor = _text(f"pair-{pair.pair_id}")
    return f"""<article class="pair" id="{anchor}" tabindex="-1" aria-label="Pair {rank}" data-rank="{rank}"
  data-gap="{pair.gap:.6f}" data-clip="{pair.clip_sim:.6f}" data-dino="{pair.dino_sim:.6f}"
  data-rarity="{rarity if math.isfinite(rarity) else 0:.9f}">
<div class="rank"><a href="#{anchor}" title="Link to this pair">{rank}</a></div>
<div class="images">{"".join(figures)}</div>
<div class="facts">{scale}
<dl class="sims">
{_measure("clip", pair.clip_sim, pair.clip_quantile)}
{_measure("dino", pair.dino_sim, pair.dino_quantile)}
</dl>{f'<ul class="differs">{differs}</ul>' if differs else ""}
<p class="id">pair <code>{_text(pair.pair_id)}</code></p></div>
</article>"""


def _measure(name: str, cosine: float, quantile: float) -> str:
    stands = f'<dd class="stands">{_standing(quantile)}</dd>'
    return f'<div><dt class="of-{name}">{name.upper()}</dt><dd>{_cosine(cosine)}</dd>{stands}</div>'


def _figure(key: str, uri: str, place: str, image: _Shown | None, first: dict[str, str]) -> str:
    """One side of a pair: the picture where the image comes first, and a reference to that place afterwards."""
    # A plain file is known by its folder, a member by its container: `cats/1.jpg`, `shard.tar#1.jpg`.
    folder, _, last = uri.rpartition("/")
    name, path = _text(last if "#" in last else f"{folder.rpartition('/')[2]}/{last}"), _text(uri)
    link = _file_link(uri)
    label = f'<bdi class="name" title="{path}">{name}</bdi>'
    label = f'<a href="{_text(link)}" target="_blank" rel="noopener">{label}</a>' if link else label
    earlier = first.setdefault(key, place)
    if not isinstance(image, _Thumbnail):
        frame = f'<p class="none">{_text(image or "not read")}</p>'
    else:
        size = f'width="{image.width}" height="{image.height}"{" class=pixels" if image.small else ""}'
        # Without script the first appearance is there, and the others name it.
        anchor, again = _text(f"image-{key}"), earlier != place
        where = f'data-same="{anchor}"' if again else f'id="{anchor}" src="{image.source}"'
        frame = f'<img {where} {size} alt="{place}: {name}" decoding="async">'
        frame += f'<noscript><p class="none">the same image as {earlier}</p></noscript>' if again else ""
    return f"""<figure><div class="frame"><span class="mark">{place[-1]}</span>{frame}</div>
<figcaption>{label}
<button class="copy" type="button" data-copy="{_attribute(uri)}">copy path</button></figcaption></figure>"""


def _file_link(uri: str) -> str:
    """The file:// address of a plain file that is there, percent-encoded; "" for a member of a container."""
    try:
        path = Path(uri)
        return path.as_uri() if path.is_absolute() and path.is_file() else ""
    except (OSError, ValueError):  # a name longer than the system allows, or with a NUL
        return ""


def _text(value: str) -> str:
    """`value` for a person, safe in text and in quotes: markup escaped, characters that hide or reorder spelled out."""
    return html.escape("".join(map(_visible, value)))


def _visible(character: str) -> str:
    joiner = character in "\u200c\u200d"  # they build emoji and Persian words, and reorder nothing
    hides = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and not joiner
    return character.encode("unicode_escape").decode("ascii") if hides else character


def _attribute(value: str) -> str:
    """`value` itself in a quoted attribute, to be copied; line ends as references, as the parser would change them."""
    whole = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(whole).replace("\n", "&#10;").replace("\r", "&#13;").replace("\0", "")


def _cosine(value: float, digits: int = 3) -> str:
    """With a true minus sign: as wide as the digits, and no line breaks after it."""
    return rounded(value, digits).replace("-", "\N{MINUS SIGN}")


def _foot(threshold: float) -> str:
    """A threshold under a scale: up to three decimals."""
    return rounded(threshold, 3).rstrip("0").rstrip(".")


def _standing(quantile: float) -> str:
    if not math.isfinite(quantile):
        return ""
    if not 0 < quantile < 1:
        return f"{'above' if quantile else 'below'} every pair of the corpus"
    # Never rounded up to 100 %: the digits go on until the share that lies above shows.
    digits = min(6, max(0, math.ceil(-math.log10(min(quantile, 1 - quantile))) - 2))
    share = math.floor(quantile * 100 * 10**digits) / 10**digits
    return f"above {share:.{digits}f} % of the corpus's pairs"


def _scale(pair: GalleryPair, summary: GallerySummary, low: float) -> str:
    """Both cosines on one line from `low` to 1, the thresholds as zones, and the gap between them."""

    def at(value: float) -> float:
        return round(6 + 308 * (min(max(value, low), 1) - low) / (1 - low), 1)

    # Units of the viewBox, 320 wide; colours come from the page's style, so that they follow light and dark. A label is
    # centred on its x and takes 26 to either side.
    clip, dino, clip_min, dino_max = map(at, (pair.clip_sim, pair.dino_sim, summary.clip_min, summary.dino_max))
    return f"""<svg class="scale" viewBox="0 0 320 58" role="img"
 aria-label="CLIP {rounded(pair.clip_sim, 3)}, DINO {rounded(pair.dino_sim, 3)}, gap {rounded(pair.gap, 3)}">
<path class="zone-dino" d="M6 28H{dino_max}"/><path class="zone-clip" d="M{clip_min} 28H314"/>
<path class="span" d="M{dino} 28H{clip}"/>
<circle class="at-dino" cx="{dino}" cy="28" r="5.5"/><circle class="at-clip" cx="{clip}" cy="28" r="5.5"/>
<text class="gap" x="{(clip + dino) / 2:.1f}" y="15">gap {rounded(pair.gap, 3)}</text>
<text x="6" y="52">{_cosine(low, 1) if dino_max > 60 else ""}</text>
<text class="foot of-dino" x="{dino_max}" y="52">≤ {_foot(summary.dino_max)}</text>
<text class="foot of-clip" x="{min(clip_min, 294):g}" y="52">≥ {_foot(summary.clip_min)}</text></svg>"""


def _scatter(pairs: Sequence[GalleryPair], summary: GallerySummary) -> str:
    """Every pair as a dot that leads to it: CLIP cosine to the right, DINO cosine upwards."""
    clips, dinos = [pair.clip_sim for pair in pairs], [pair.dino_sim for pair in pairs]
    left, bottom = min(*clips, summary.clip_min) - 0.003, min(0.0, *dinos)
    right, top = max(*clips, 1.0), max(*dinos, summary.dino_max) + 0.05

    def x(value: float) -> float:
        return round(36 + 340 * (value - left) / (right - left), 1)

    def y(value: float) -> float:
        return round(180 - 170 * (value - bottom) / (top - bottom), 1)

    # Not in the tab order: 300 stops before the first pair would shut keyboards out.
    dots = "".join(
        f'<a href="#{_text(f"pair-{pair.pair_id}")}" tabindex="-1"><circle class="dot" cx="{x(pair.clip_sim)}" '
        f'cy="{y(pair.dino_sim)}" r="3.5"><title>pair {rank}</title></circle></a>'
        for rank, pair in enumerate(pairs, 1)
    )
    across, along = x(summary.clip_min), y(summary.dino_max)
    label = "All pairs, CLIP cosine against DINO cosine"
    return f"""<figure class="scatter"><svg viewBox="0 0 384 200" role="group" aria-label="{label}">
<rect class="wanted" x="{across}" y="{along}" width="{376 - across:.1f}" height="{180 - along:.1f}"/>
<path class="axis" d="M36 4V180H376"/>
<text class="of-clip" x="{across}" y="196">≥ {as_given(summary.clip_min)}</text>
<text class="end" x="376" y="196">CLIP cosine, to {right:.3g}</text>
<text class="of-dino end" x="32" y="{along + 4:.1f}">≤ {as_given(summary.dino_max)}</text>
<text class="end" x="32" y="183">{_cosine(bottom, 2)}</text><text x="42" y="12">DINO cosine</text>
{dots}</svg><figcaption>Each dot is a pair and leads to it.</figcaption></figure>"""


def _thumbnail(pixels: np.ndarray) -> _Thumbnail:
    """(H, W, 3) uint8 -> WebP of at most THUMBNAIL_SIDE; never larger than the image is, coarser where it is busy."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    small = max(pixels.shape[:2]) <= SMALL_SIDE
    for quality in (80, 60, 40, 20):
        stored = io.BytesIO()
        # method=4 is WebP's own default, named because the bytes must not move with it.
        image.save(stored, "WEBP", lossless=small, quality=quality, method=4)
        if small or stored.tell() <= THUMBNAIL_BYTES:
            break
    # The enlargement is the page's, by CSS with hard pixels; the file keeps the image's own size.
    step = max(1, THUMBNAIL_SIDE // max(image.size)) if small else 1
    source = "data:image/webp;base64," + base64.b64encode(stored.getvalue()).decode("ascii")
    return _Thumbnail(source, image.width * step, image.height * step, small)


def pair_picture(pair: GalleryPair, pixels_a: np.ndarray, pixels_b: np.ndarray) -> Image.Image:
    """One pair as an RGB picture, 1144 wide: both images (H, W, 3) uint8, and both cosines on one line below."""
    side, margin = 512, 40  # 512 is a whole multiple of the usual small sizes
    sheet = Image.new("RGB", (2 * side + 3 * margin, side + 190), "white")
    for column, pixels in enumerate((pixels_a, pixels_b)):
        tile = _fitted(pixels, side)
        corner = margin + column * (side + margin)
        sheet.paste(COLOURS["frame"], (corner, margin, corner + side, margin + side))
        sheet.paste(tile, (corner + (side - tile.width) // 2, margin + (side - tile.height) // 2))
    draw, line = ImageDraw.Draw(sheet), side + 118
    low = min(0.0, pair.dino_sim)
    span = sheet.width - 2 * margin
    clip, dino = (margin + span * (value - low) / (1 - low) for value in (pair.clip_sim, pair.dino_sim))
    draw.line((margin, line, margin + span, line), COLOURS["line"], 3)
    draw.line((dino, line, clip, line), COLOURS["ink"], 4)
    # The words stay on the sheet, and DINO's stay left of CLIP's however near the dots are.
    over_clip = min(max(clip, margin + 255), margin + span - 75)
    over_dino = min(max(dino, margin + 75), over_clip - 180)
    for at, over, name, value in ((dino, over_dino, "dino", pair.dino_sim), (clip, over_clip, "clip", pair.clip_sim)):
        draw.ellipse((at - 11, line - 11, at + 11, line + 11), COLOURS[name])
        draw.text((over, line - 20), f"{name.upper()} {_drawable(value)}", COLOURS[name], _font(28), anchor="md")
    draw.text((margin, line + 28), f"gap {_drawable(pair.gap)}", COLOURS["ink"], _font(22))
    differs = "differs: " + ", ".join(pair.differs) if pair.differs else f"pair {pair.pair_id}"
    draw.text((margin + span, line + 28), differs, COLOURS["quiet"], _font(22), anchor="ra")
    return sheet


def _drawable(cosine: float) -> str:
    """A cosine for a picture: Pillow's own font has no minus sign and would draw a crossed box."""
    return _cosine(cosine).replace("\N{MINUS SIGN}", "-")


def _fitted(pixels: np.ndarray, side: int) -> Image.Image:
    """The image within side x side: small ones enlarged by a whole factor, with hard pixels."""
    image = Image.fromarray(pixels)
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    if max(image.size) > SMALL_SIDE:
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image.resize((image.width * int(factor), image.height * int(factor)), Image.Resampling.NEAREST)


@functools.cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
