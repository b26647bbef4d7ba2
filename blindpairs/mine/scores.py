"""What makes one blind pair come before another: a higher score. Equal scores go by gap, then by pair id.

gap     clip_sim - dino_sim
clip    clip_sim: what the blind encoder is surest of
rarity  -log10(1 - clip_quantile) - log10(dino_quantile): how seldom random pairs of this corpus are as alike to
        CLIP and as different to DINOv2. It weighs both cosines by how they are spread here, which the gap does not.
        Of n random pairs no share below 1 / n can be told: rarer cosines count as that
"""

from collections.abc import Callable

import numpy as np

from blindpairs.mine.candidates import Cosines, Pairs

Score = Callable[[Pairs], Cosines]


def score_by(rank: str, random: tuple[Cosines, Cosines]) -> Score:
    """The score that `rank` names; `random` are the sorted cosines of random pairs in both encoders."""
    if rank == "rarity":
        return lambda pairs: rarity(pairs, random)
    return _clip if rank == "clip" else gap


def gap(pairs: Pairs) -> Cosines:
    """By how much the encoders disagree."""
    return pairs.clip - pairs.dino


def _clip(pairs: Pairs) -> Cosines:
    return pairs.clip


def rarity(pairs: Pairs, random: tuple[Cosines, Cosines]) -> Cosines:
    """How rare both cosines are among random pairs, in powers of ten."""
    above, below = quantiles(pairs.clip, random[0]), quantiles(pairs.dino, random[1])
    floor = 1 / max(1, len(random[0]))
    scores: Cosines = -np.log10(np.maximum(1 - above, floor)) - np.log10(np.maximum(below, floor))
    return scores


def quantiles(cosines: Cosines, random: Cosines) -> Cosines:
    """The share of the random pairs whose cosine is lower, for each of `cosines`."""
    shares: Cosines = np.searchsorted(random, cosines, side="left") / max(1, len(random))
    return shares
