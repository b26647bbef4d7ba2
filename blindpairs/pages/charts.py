"""The two charts of the gallery, as SVG, and the texts of its numbers.

Colours and font sizes come from the style in `gallery.html`, so they follow its light and dark mode.
"""

import math
from collections.abc import Sequence

from blindpairs.pages.pairs import GalleryPair, GallerySummary
from blindpairs.pages.safety import escape_text
from blindpairs.selfjoin.shown import as_given, rounded


def cosine_text(value: float, digits: int = 3) -> str:
    """A cosine for a page, with a minus sign instead of a hyphen."""
    # A minus sign is as wide as a digit, and no line breaks after it.
    return rounded(value, digits).replace("-", "\N{MINUS SIGN}")


def _threshold(threshold: float) -> str:
    """A threshold under a scale: up to three decimals."""
    return rounded(threshold, 3).rstrip("0").rstrip(".")


def quantile_text(quantile: float) -> str:
    """The quantile of a cosine among the corpus's pairs, in words; "" where it is not known (NaN)."""
    if not math.isfinite(quantile):
        return ""
    if not 0 < quantile < 1:
        return f"{'above' if quantile else 'below'} every pair of the corpus"
    # Rounded down, with more digits the nearer it is to 1, so that it never reads 100 %.
    digits = min(6, max(0, math.ceil(-math.log10(min(quantile, 1 - quantile))) - 2))
    share = math.floor(quantile * 100 * 10**digits) / 10**digits
    return f"above {share:.{digits}f} % of the corpus's pairs"


def scale_svg(pair: GalleryPair, summary: GallerySummary, low: float) -> str:
    """Both cosines of a pair on one axis from `low` to 1, with the zones beyond the thresholds and the gap."""

    def at(value: float) -> float:
        # A margin of 6 on both sides, so that the dots at the ends are whole.
        return round(6 + 308 * (min(max(value, low), 1) - low) / (1 - low), 1)

    # Units of the viewBox, 320 wide. A label is centred on its x and takes 26 to either side.
    clip, dino, clip_min, dino_max = map(at, (pair.clip_sim, pair.dino_sim, summary.clip_min, summary.dino_max))
    return f"""<svg class="scale" viewBox="0 0 320 58" role="img"
 aria-label="CLIP {rounded(pair.clip_sim, 3)}, DINO {rounded(pair.dino_sim, 3)}, gap {rounded(pair.gap, 3)}">
<path class="zone-dino" d="M6 28H{dino_max}"/><path class="zone-clip" d="M{clip_min} 28H314"/>
<path class="span" d="M{dino} 28H{clip}"/>
<circle class="at-dino" cx="{dino}" cy="28" r="5.5"/><circle class="at-clip" cx="{clip}" cy="28" r="5.5"/>
<text class="gap" x="{(clip + dino) / 2:.1f}" y="15">gap {rounded(pair.gap, 3)}</text>
<text x="6" y="52">{cosine_text(low, 1) if dino_max > 60 else ""}</text>
<text class="foot of-dino" x="{dino_max}" y="52">≤ {_threshold(summary.dino_max)}</text>
<text class="foot of-clip" x="{min(clip_min, 294):g}" y="52">≥ {_threshold(summary.clip_min)}</text></svg>"""


def scatter_svg(pairs: Sequence[GalleryPair], summary: GallerySummary) -> str:
    """Every pair as a dot that links to it: CLIP cosine on the x axis, DINO cosine on the y axis."""
    clips, dinos = [pair.clip_sim for pair in pairs], [pair.dino_sim for pair in pairs]
    left, bottom = min(*clips, summary.clip_min) - 0.003, min(0.0, *dinos)
    right, top = max(*clips, 1.0), max(*dinos, summary.dino_max) + 0.05

    def x(value: float) -> float:
        return round(36 + 340 * (value - left) / (right - left), 1)

    def y(value: float) -> float:
        return round(180 - 170 * (value - bottom) / (top - bottom), 1)

    # Not in the tab order: 300 stops before the first pair would make the page unusable with a keyboard.
    dots = "".join(
        f'<a href="#{escape_text(f"pair-{pair.pair_id}")}" tabindex="-1"><circle class="dot" cx="{x(pair.clip_sim)}" '
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
<text class="end" x="32" y="183">{cosine_text(bottom, 2)}</text><text x="42" y="12">DINO cosine</text>
{dots}</svg><figcaption>Each dot is a pair. Click it to go to the pair.</figcaption></figure>"""
