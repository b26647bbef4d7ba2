"""What to try when no pair was found: other thresholds, each searched on the corpus, with how many pairs they give."""

import math
from dataclasses import replace

from blindpairs.mine.options import MiningOptions
from blindpairs.mine.search import Search, SearchSummary
from blindpairs.selfjoin.shown import as_given, rounded

CLIP_STEPS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3)
MOST_PAIRS = 2_000_000  # a search that met more pairs and kept none is the last one: the next would meet far more


def advise(search: Search, options: MiningOptions, first: SearchSummary) -> str:
    """One or two sentences on the nearest thresholds that find a pair. `first` is the search that found none."""
    if len(search.ids) < 2:
        return f"{len(search.ids)} of the images can be compared; it takes two that are neither blank nor identical."
    start, asked = options.clip_min, f"clip_min {as_given(options.clip_min)}"
    if first.above:
        nearest = f"The lowest dino_sim above {asked} is {rounded(first.lowest_dino, 4)}"
    else:
        start = search.highest_clip()
        nearest = f"No two images reach {asked}; the highest clip_sim here is {rounded(start, 4)}"
    tried = [_higher_dino_max(search, options, first), _lower_clip_min(search, options, start)]
    return f"{nearest}. " + (" ".join(filter(None, tried)) or "No nearby threshold finds a pair in this corpus.")


def _higher_dino_max(search: Search, options: MiningOptions, first: SearchSummary) -> str:
    if first.nearest_dino_max is None:
        return ""
    kept = search.summary(replace(options, dino_max=first.nearest_dino_max)).kept
    return f"--dino-max {first.nearest_dino_max:.2f} gives {_pairs(kept)}." if kept else ""


def _lower_clip_min(search: Search, options: MiningOptions, start: float) -> str:
    """The first clip_min that finds a pair, going down from `start` in growing steps."""
    for step in (0.0, *CLIP_STEPS):
        clip_min = math.floor(round((start - step) * 100, 6)) / 100
        if not -1.0 <= clip_min < options.clip_min:
            continue
        summary = search.summary(replace(options, clip_min=clip_min))
        if summary.kept:
            return f"--clip-min {clip_min:.2f} gives {_pairs(summary.kept)}."
        if summary.above > MOST_PAIRS:
            break
    return ""


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"
