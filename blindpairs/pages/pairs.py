"""The content of a page of pairs, as plain values, so that a page can be made without a store."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GalleryPair:
    """One pair. The fields have the names of the columns of pairs.parquet, so that a row can be passed as it is.

    A quantile is the share of the corpus's pairs with a lower cosine, in [0, 1]; NaN where it is not known.
    `difference` is how much differs: 1 is usual among the candidates, less is subtler. Pairs of one `cluster` differ in
    the same kind of thing. `control_of` of a control pair is the pair_id of the blind pair that it matches. These three
    are None where there is nothing to say. `differs` has one line for each known difference, as the demo has from its
    ground truth.
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
    difference: float | None = None
    cluster: int | None = None
    control_of: str | None = None
    rarity: float = math.nan  # the score of `mine --rank rarity`
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class GallerySummary:
    """The content of the page's header; `advice` is the sentence for a page without pairs."""

    corpus: str
    images: int
    found: int  # pairs within the thresholds, of which the page may show only the first
    clip_encoder: str
    dino_encoder: str
    clip_min: float
    dino_max: float
    notes: tuple[str, ...] = ()
    advice: str = ""
