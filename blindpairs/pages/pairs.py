"""What a page of pairs shows: plain values, so that a page can be made without a store."""

import math
from dataclasses import dataclass


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
    rarity: float = math.nan  # the score of `mine --rank rarity`
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
