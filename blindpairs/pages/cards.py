"""One pair on the page: both images with their maps, the numbers, and the control pair beside them.

The page holds each image once, where it is first shown. Later places refer to that one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.charts import cosine_text, quantile_text
from blindpairs.pages.heat import heat_svg
from blindpairs.pages.pairs import GalleryPair
from blindpairs.pages.safety import escape_attribute, escape_text, file_link
from blindpairs.pages.thumbnails import Thumbnail

Shown = Thumbnail | str  # what the page has of an image: its thumbnail, or the reason why there is none


@dataclass(frozen=True)
class Figures:
    """The images and the maps of a page, and the place that holds the bytes of each image, such as "pair 3, A"."""

    images: Mapping[str, Shown]  # image id -> image
    maps: Mapping[str, DifferenceMap]  # pair id -> map
    first: dict[str, str] = field(default_factory=dict)  # image id -> place; filled in the order of the calls

    def of(self, pair: GalleryPair, name: str) -> str:
        """Both sides of a pair; `name` is what the page calls it, such as "pair 3"."""
        one = self.maps.get(pair.pair_id)
        heat_a, heat_b = (heat_svg(one.a, one.box_a), heat_svg(one.b, one.box_b)) if one else ("", "")
        return self._figure(pair.image_id_a, pair.uri_a, f"{name}, A", heat_a) + self._figure(
            pair.image_id_b, pair.uri_b, f"{name}, B", heat_b
        )

    def _figure(self, key: str, uri: str, place: str, heat: str) -> str:
        # A file is shown with its folder, a member of a container with the container: `cats/1.jpg`, `shard.tar#1.jpg`.
        folder, _, last = uri.rpartition("/")
        name, path = escape_text(last if "#" in last else f"{folder.rpartition('/')[2]}/{last}"), escape_text(uri)
        link = file_link(uri)
        label = f'<bdi class="name" title="{path}">{name}</bdi>'
        label = f'<a href="{escape_text(link)}" target="_blank" rel="noopener">{label}</a>' if link else label
        image, earlier = self.images.get(key), self.first.setdefault(key, place)
        if not isinstance(image, Thumbnail):
            frame = f'<p class="none">{escape_text(image or "not read")}</p>'
        else:
            size = f'width="{image.width}" height="{image.height}"{" class=pixels" if image.small else ""}'
            # The script copies the source to later appearances. Without script these name the first one instead.
            anchor, repeated = escape_text(f"image-{key}"), earlier != place
            where = f'data-same="{anchor}"' if repeated else f'id="{anchor}" src="{image.source}"'
            frame = f'<img {where} {size} alt="{place}: {name}" decoding="async">'
            frame = f'<div class="covered">{frame}{heat}</div>' if heat else frame
            frame += f'<noscript><p class="none">the same image as {earlier}</p></noscript>' if repeated else ""
        return f"""<figure><div class="frame"><span class="mark">{place[-1]}</span>{frame}</div>
<figcaption>{label}
<button class="copy" type="button" data-copy="{escape_attribute(uri)}">copy path</button></figcaption></figure>"""


def card(rank: int, pair: GalleryPair, control: GalleryPair | None, figures: Figures, scale: str) -> str:
    """The card of a blind pair, with its control pair if it has one; `scale` is the chart of its cosines."""
    images = figures.of(pair, f"pair {rank}")
    differs = "".join(f"<li>{escape_text(line)}</li>" for line in pair.differs)
    anchor = escape_text(f"pair-{pair.pair_id}")
    measures = [
        _measure("clip", pair.clip_sim, pair.clip_quantile),
        _measure("dino", pair.dino_sim, pair.dino_quantile),
    ]
    found = ""  # what a closer look found, for sorting and filtering
    if pair.difference is not None:
        measures.append(
            f"<div><dt>Difference</dt><dd>{pair.difference:.2f}</dd>"
            '<dd class="quantile">1 is usual, less is subtler</dd></div>'
        )
        found += f' data-difference="{pair.difference:.6f}"'
    if pair.cluster is not None:
        found += f' data-cluster="{pair.cluster}"'
    listed = "\n".join(measures)
    ids = "" if pair.cluster is None else f"kind {pair.cluster}, "
    ids += f"pair <code>{escape_text(pair.pair_id)}</code>"
    ids += f", control <code>{escape_text(control.pair_id)}</code>" if control else ""
    return f"""<article class="pair" id="{anchor}" tabindex="-1" aria-label="Pair {rank}" data-rank="{rank}"
  data-gap="{pair.gap:.6f}" data-clip="{pair.clip_sim:.6f}" data-dino="{pair.dino_sim:.6f}"
  data-rarity="{pair.rarity if math.isfinite(pair.rarity) else 0:.9f}"{found}>
<div class="rank"><a href="#{anchor}" title="Link to this pair">{rank}</a></div>
<div class="images">{images}</div>
<div class="facts">{scale}
<dl class="sims">
{listed}
</dl>{f'<ul class="differs">{differs}</ul>' if differs else ""}{_control(rank, control, figures) if control else ""}
<p class="id">{ids}</p></div>
</article>"""


def _control(rank: int, control: GalleryPair, figures: Figures) -> str:
    cosines = (("clip", control.clip_sim), ("dino", control.dino_sim))
    measures = (
        f'<div><dt class="of-{name}">{name.upper()}</dt><dd>{cosine_text(value)}</dd></div>' for name, value in cosines
    )
    return f"""
<section class="control" id="{escape_text(f"pair-{control.pair_id}")}" aria-label="Control of pair {rank}">
<h2>Control: CLIP tells these apart</h2>
<div class="images">{figures.of(control, f"control of pair {rank}")}</div>
<dl>{"".join(measures)}</dl>
</section>"""


def _measure(name: str, cosine: float, quantile: float) -> str:
    quantile_cell = f'<dd class="quantile">{quantile_text(quantile)}</dd>'
    return f'<div><dt class="of-{name}">{name.upper()}</dt><dd>{cosine_text(cosine)}</dd>{quantile_cell}</div>'
