"""The order in which a participant is asked: by lot, and the two images of a pair never follow each other."""

import random
from collections.abc import Iterable

from blindpairs.evaluate.scores import Key


def asked_order(keys: Iterable[Key], seed: str) -> list[Key]:
    """Keys in an order that the seed alone decides, in which no two of one pair follow each other where there are more
    pairs than one.
    """
    order = list(keys)
    draw = random.Random(seed)
    draw.shuffle(order)
    # A key that follows one of its pair changes places with one that fits; each change leaves fewer that do not.
    for place in range(1, len(order)):
        if order[place][0] == order[place - 1][0]:
            fitting = [other for other in range(len(order)) if _fits(order, place, other)]
            if fitting:
                other = draw.choice(fitting)
                order[place], order[other] = order[other], order[place]
    return order


def _fits(order: list[Key], place: int, other: int) -> bool:
    """Whether no neighbours at either place are of one pair once the two have changed places."""
    changed = {place: order[other][0], other: order[place][0]}
    around = {near for one in (place, other) for near in (one - 1, one)}
    return all(
        changed.get(one, order[one][0]) != changed.get(one + 1, order[one + 1][0])
        for one in around
        if 0 <= one < len(order) - 1
    )
