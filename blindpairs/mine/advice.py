"""What to try when no pair was found: thresholds that were tried on the corpus, with what they give."""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from blindpairs.mine.candidates import EDGES, Candidates
from blindpairs.mine.options import DUPLICATE_DINO, MiningOptions
from blindpairs.selfjoin.shown import as_given, rounded

CLIP_STEPS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3)
MOST_PAIRS = 2_000_000  # a search that met more, none of them blind, is the last: the next would meet far more


@dataclass(frozen=True)
class Look:
    """What one search saw."""

    above: int
    kept: int
    lowest_dino: float  # of the pairs above clip_min; inf without any
    nearest_dino_max: float | None  # the lowest of -1.00, -0.99, ... that some pair above clip_min stays under

    @classmethod
    def at(cls, found: Candidates, kept: int) -> "Look":
        """Summarise a search."""
        edges = EDGES[np.flatnonzero(found.dino_counts)]
        useful = edges[(edges > found.options.dino_max) & (edges < DUPLICATE_DINO)]
        return cls(found.above, kept, found.lowest_dino, float(useful[0]) if len(useful) else None)


class Search(Protocol):
    """A corpus that can be searched again."""

    @property
    def ids(self) -> list[str]:
        """The pictures that take part."""

    def look(self, options: MiningOptions) -> Look:
        """What mining would find with these options."""

    def highest_clip(self) -> float:
        """The highest cosine between two pictures."""


def advise(search: Search, options: MiningOptions, seen: Look) -> str:
    """One or two sentences on the nearest thresholds that find something, each of them tried."""
    if len(search.ids) < 2:
        return f"{len(search.ids)} of the images can be compared; it takes two that are neither blank nor identical."
    start, asked = options.clip_min, f"clip_min {as_given(options.clip_min)}"
    if seen.above:
        said = f"The lowest dino_sim above {asked} is {rounded(seen.lowest_dino, 4)}"
    else:
        start = search.highest_clip()
        said = f"No two images reach {asked}; the highest clip_sim here is {rounded(start, 4)}"
    tried = [_dino_side(search, options, seen), _clip_side(search, options, start)]
    return f"{said}. " + (" ".join(filter(None, tried)) or "No nearby threshold finds a pair in this corpus.")


def _dino_side(search: Search, options: MiningOptions, seen: Look) -> str:
    if seen.nearest_dino_max is None:
        return ""
    kept = search.look(replace(options, dino_max=seen.nearest_dino_max)).kept
    return f"--dino-max {seen.nearest_dino_max:.2f} gives {_pairs(kept)}." if kept else ""


def _clip_side(search: Search, options: MiningOptions, start: float) -> str:
    """The first clip_min that finds a pair, going down from `start` in growing steps."""
    for step in (0.0, *CLIP_STEPS):
        clip_min = math.floor(round((start - step) * 100, 6)) / 100
        if not -1.0 <= clip_min < options.clip_min:
            continue
        look = search.look(replace(options, clip_min=clip_min))
        if look.kept:
            return f"--clip-min {clip_min:.2f} gives {_pairs(look.kept)}."
        if look.above > MOST_PAIRS:
            break
    return ""


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"
