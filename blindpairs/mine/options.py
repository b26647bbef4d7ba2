"""What a blind pair is, and how many are wanted."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from blindpairs.defaults import CLIP_MIN, DINO_MAX
from blindpairs.errors import ConfigError
from blindpairs.selfjoin.shown import as_given

# From this DINOv2 cosine on, two images are near-duplicates: neither encoder sees a difference.
DUPLICATE_DINO = 0.95
RANKS = ("subtle", "gap", "clip", "rarity")

RANDOM_PAIRS = 1 << 17  # compared to know the distribution of cosines in the corpus
MOST_RANDOM_PAIRS = 1 << 22
BEYOND = 20  # random pairs that must lie beyond a requested quantile, to estimate it


@dataclass(frozen=True)
class MiningOptions:
    """The paper's thresholds by default (arXiv 2401.06209, section 2): CLIP cosine 0.95 or more, DINOv2 0.6 or less.

    A quantile replaces its threshold. It is the share of the corpus's random pairs with a lower cosine. `center`
    subtracts each encoder's mean vector before the cosines are taken: raw cosines are high if all vectors share a
    direction, as CLIP's do.
    """

    clip_min: float = CLIP_MIN
    dino_max: float = DINO_MAX
    top: int | None = 300  # None: no limit but most_candidates
    max_per_image: int = 2  # images of one near-duplicate group count as one
    keep_low_information: bool = False  # blank images: CLIP calls them equal, DINOv2 sees noise
    seed: int = 0
    most_candidates: int = 1 << 20  # blind pairs held during the search: the first in rank
    clip_quantile: float | None = None
    dino_quantile: float | None = None
    center: bool = False
    rank: str = "subtle"  # see ranking.py
    distinct: bool = False  # drop pairs that are similar to a better one; see ranking.KeptPairs
    differences: bool = False  # rank the best by their patch tokens; see closer.py
    spread: bool = False  # take the clusters of differences in turn
    controls: bool = False  # add a pair that CLIP tells apart to each blind pair; see controls.py

    def __post_init__(self) -> None:
        for name in ("clip_min", "dino_max"):
            if not -1.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is a cosine, between -1 and 1; {as_given(getattr(self, name))} is not")
        if self.dino_max >= DUPLICATE_DINO:
            raise ConfigError(
                f"dino_max {as_given(self.dino_max)} would call near-duplicates different; it must be below "
                f"{DUPLICATE_DINO}"
            )
        if self.max_per_image < 1 or (self.top is not None and self.top < 1) or self.most_candidates < 1:
            raise ConfigError("top, max_per_image and most_candidates must be at least 1")
        if self.distinct and self.top is None:
            raise ConfigError("distinct needs a limit on the number of pairs: say how many are wanted with top")
        if self.spread and not self.differences:
            raise ConfigError("--spread takes the kinds of differences in turn: add --differences, or leave it out")
        for name in ("clip_quantile", "dino_quantile"):
            self._check_quantile(name, getattr(self, name))
        if self.rank not in RANKS:
            raise ConfigError(f"rank is one of {', '.join(RANKS)}; {self.rank!r} is not")

    def _check_quantile(self, name: str, share: float | None) -> None:
        if share is None:
            return
        if not 0 < share < 1:
            raise ConfigError(f"{name} is a share of pairs, between 0 and 1; {as_given(share)} is not")
        if min(share, 1 - share) * MOST_RANDOM_PAIRS < BEYOND:
            raise ConfigError(f"{name} {share:.9g} is finer than {MOST_RANDOM_PAIRS:,} random pairs can tell")

    @property
    def random_pairs(self) -> int:
        """How many random pairs are compared."""
        asked = [share for share in (self.clip_quantile, self.dino_quantile) if share is not None]
        needed = [math.ceil(BEYOND / min(share, 1 - share)) for share in asked]
        return min(MOST_RANDOM_PAIRS, max([RANDOM_PAIRS, *needed]))

    def resolved(self, random_sims: tuple[NDArray[np.float64], NDArray[np.float64]]) -> "MiningOptions":
        """The same options with quantiles resolved to thresholds; `random_sims` are sorted cosines, (clip, dino)."""
        clip, dino = random_sims
        clip_min, dino_max = self.clip_min, self.dino_max
        if self.clip_quantile is not None and len(clip):
            clip_min = float(clip[min(len(clip) - 1, math.ceil(self.clip_quantile * len(clip)))])
        if self.dino_quantile is not None and len(dino):
            dino_max = float(dino[math.floor(self.dino_quantile * len(dino))])
        return replace(self, clip_min=max(-1.0, min(1.0, clip_min)), dino_max=max(-1.0, dino_max))
