"""The kinds of difference on the page: the clusters of pairs, as a filter and as an overview of their first pairs.

A page whose pairs have no clusters has neither.
"""

from collections.abc import Mapping, Sequence

from blindpairs.pages.cards import Shown
from blindpairs.pages.pairs import GalleryPair
from blindpairs.pages.safety import escape_text
from blindpairs.pages.thumbnails import Thumbnail

EXAMPLES = 3  # pairs of each kind in the overview

Ranked = tuple[int, GalleryPair]  # a pair and its rank on the page


def kinds_of(pairs: Sequence[GalleryPair]) -> dict[int, list[Ranked]]:
    """The pairs of each cluster with their ranks, in the order of the page; clusters by number."""
    kinds: dict[int, list[Ranked]] = {}
    for rank, pair in enumerate(pairs, 1):
        if pair.cluster is not None:
            kinds.setdefault(pair.cluster, []).append((rank, pair))
    return dict(sorted(kinds.items()))


def kind_select(kinds: Mapping[int, Sequence[Ranked]]) -> str:
    """The filter by kind; "" without kinds."""
    if not kinds:
        return ""
    options = (f'<option value="{kind}">Kind {kind} ({_count(pairs)})</option>' for kind, pairs in kinds.items())
    return f"""
  <label>Kind <select id="kind"><option value="">All kinds</option>{"".join(options)}</select></label>"""


def kind_overview(kinds: Mapping[int, Sequence[Ranked]], shown: Mapping[str, Shown]) -> str:
    """Each kind with its count and its first pairs, as links to their cards; "" without kinds."""
    if not kinds:
        return ""
    cells = (
        f'<li data-kind="{kind}"><button type="button">Kind {kind}</button> <span>{_count(pairs)}</span>'
        f'<div class="examples">{"".join(_example(rank, pair, shown) for rank, pair in pairs[:EXAMPLES])}</div></li>'
        for kind, pairs in kinds.items()
    )
    return f"""
<section class="kinds" aria-labelledby="kinds-title">
<h2 id="kinds-title">Kinds of difference</h2>
<ul>{"".join(cells)}</ul>
</section>"""


def _example(rank: int, pair: GalleryPair, shown: Mapping[str, Shown]) -> str:
    ids = (pair.image_id_a, pair.image_id_b)
    images = (_small(key) if isinstance(shown.get(key), Thumbnail) else "<i></i>" for key in ids)
    return f'<a href="#{escape_text(f"pair-{pair.pair_id}")}" aria-label="Pair {rank}">{"".join(images)}</a>'


def _small(key: str) -> str:
    # The bytes are in the card: the script copies the source.
    return f'<img data-same="{escape_text(f"image-{key}")}" alt="" decoding="async">'


def _count(pairs: Sequence[Ranked]) -> str:
    return f"{len(pairs):,} pair{'s' * (len(pairs) != 1)}"
