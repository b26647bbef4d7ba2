"""Scores of the similarities between two statements and two images: MMVP-VLM's, Winoground's, and group matching.

    block[t, i]    statement t with image i; 0 is side a of the pair and 1 is side b, so that block[0, 0] is right
    image score    each statement is more similar to its own image than to the other (tsb0601/MMVP, evaluate_vlm.py)
    text score     each image is more similar to its own statement than to the other (Winoground, arXiv 2204.03162)
    group score    both
    group match    s_aa + s_bb > s_ab + s_ba: the better of the two ways to match them (arXiv 2510.07632)
    confusion      both statements are more similar to the same image, so that the image score cannot be right

Ties: the official script gives a tie to image b, so a tie is right for statement b and wrong for statement a; the image
score does the same. Every other score wants strict inequality, as their papers do. Pairs with ties are counted.
Four independent similarities give an image score and a text score of 1/4, a group score of 1/6, a group match of 1/2.
A model that does not read what differs between the statements is no such guesser: to it they are one statement, which
goes to one image, so its image score is far below 1/4. Confusion shows that, and group match alone stays at 1/2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blindpairs.evaluate.scores import Booleans
from blindpairs.statistics import Rate, rate_of

Blocks = NDArray[np.float64]  # (P, 2, 2)
CHANCE = {"image": 1 / 4, "text": 1 / 4, "group": 1 / 6, "match": 1 / 2, "confusion": 1 / 2}


@dataclass(frozen=True)
class MatchingScores:
    """What the blocks of a set of pairs say."""

    image: Rate  # the score of MMVP-VLM
    text: Rate
    group: Rate
    match: Rate
    confusion: Rate
    ties: int  # pairs in which a score compares equal similarities

    def rates(self) -> Mapping[str, Rate]:
        """The rates by name."""
        return {name: getattr(self, name) for name in CHANCE}


def image_right(blocks: Blocks) -> Booleans:
    """(P, 2, 2) -> (P,): whether each statement finds its image, by the official script's rule for ties."""
    return _all(blocks[:, 0, 0] > blocks[:, 0, 1], blocks[:, 1, 1] >= blocks[:, 1, 0])


def text_right(blocks: Blocks) -> Booleans:
    """(P, 2, 2) -> (P,): whether each image finds its statement."""
    return _all(blocks[:, 0, 0] > blocks[:, 1, 0], blocks[:, 1, 1] > blocks[:, 0, 1])


def group_right(blocks: Blocks) -> Booleans:
    """(P, 2, 2) -> (P,): whether each statement finds its image, without ties, and each image its statement."""
    return _all(image_right(blocks) & text_right(blocks), blocks[:, 1, 1] > blocks[:, 1, 0])


def match_right(blocks: Blocks) -> Booleans:
    """(P, 2, 2) -> (P,): whether the right matching has the larger sum."""
    return np.asarray(blocks[:, 0, 0] + blocks[:, 1, 1] > blocks[:, 0, 1] + blocks[:, 1, 0], np.bool_)


def confused(blocks: Blocks) -> Booleans:
    """(P, 2, 2) -> (P,): whether both statements go to the same image; a tie goes to image b."""
    first = blocks[:, :, 0] > blocks[:, :, 1]  # (P, statement)
    return np.asarray(first[:, 0] == first[:, 1], np.bool_)


def tied(blocks: Blocks) -> Booleans:
    """(P, 2, 2) -> (P,): whether two similarities are equal that the image or the text score compares."""
    rows, columns = blocks[:, :, 0] == blocks[:, :, 1], blocks[:, 0] == blocks[:, 1]
    return np.asarray((rows | columns).any(axis=1), np.bool_)


def score_blocks(blocks: Blocks) -> MatchingScores:
    """The scores of some pairs, (P, 2, 2), in any order."""
    return MatchingScores(
        image=rate_of(image_right(blocks)),
        text=rate_of(text_right(blocks)),
        group=rate_of(group_right(blocks)),
        match=rate_of(match_right(blocks)),
        confusion=rate_of(confused(blocks)),
        ties=int(tied(blocks).sum()),
    )


def _all(*conditions: Booleans) -> Booleans:
    return np.asarray(np.logical_and.reduce(conditions), np.bool_)
