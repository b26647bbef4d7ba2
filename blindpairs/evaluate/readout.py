"""Encoder readout: can the answers of a pair's two images be told from an encoder's tokens at all?

What a cosine hides may still be in the tokens (Li, Koh and Du, arXiv 2411.05195), and a model may fail where its
encoder does not ("Hidden in plain sight", arXiv 2506.08008). So each pattern is read out without a language model. The
task is one bit: which of the two images has which of the two answers. Guessing is right half of the time.

* `pooled`, `patches`: ridge regression from the class token, or from all patch tokens, onto the answers; trained on
  other pairs, and the pair is right if it fits better than with its answers exchanged;
* `nearest`: the patches of each image without a match in the other; their difference points as in the nearest of the
  other pairs with the same two answers, or the other way round.

Answers must recur: a pair whose answers no other pair has is not tried, which the counts show. A benchmark with few
pairs of a pattern needs labelled pairs of the same kind to train on; they are never tested.

Promises: no image is in training and test of the same fold; the penalty is chosen within the training pairs; with
exchanged labels all three are at chance.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.benchmark import Benchmark, ImageReader
from blindpairs.encoders import Encoder, Layer
from blindpairs.errors import Undecodable
from blindpairs.evaluate.token_features import Features, Floats, token_features
from blindpairs.statistics import Rate, effective_count, rate_of

CHANCE = 0.5
FOLDS = 5
NEIGHBOURS = 5  # pairs whose differences decide together
UNMATCHED = 16  # one patch in so many counts as without a match
PENALTIES = tuple(10.0**power for power in range(-3, 3))  # of the mean squared length of the training rows
LAST = (Layer(-1),)


@dataclass(frozen=True)
class ReadoutPair:
    """Two images with different answers to one question, under one pattern."""

    pair_id: str
    pattern: str
    image_ids: tuple[str, str]
    answers: tuple[str, str]  # texts, because the numbers of options mean other things in each pair


@dataclass(frozen=True)
class Labelled:
    """Pairs with a way to their images."""

    pairs: Sequence[ReadoutPair]
    images: ImageReader


@dataclass(frozen=True)
class PatternReadout:
    """How many pairs of a pattern are told apart rightly, each way, of those that could be tried that way."""

    pooled: Rate
    patches: Rate
    nearest: Rate
    pairs: int  # all of them: those without an image, or whose answers do not recur, are not tried


@dataclass(frozen=True)
class EncoderReadout:
    """Of one layer of one encoder. `all` counts a pair of several patterns in each of them."""

    encoder: str
    layer: Layer
    patterns: Mapping[str, PatternReadout]
    all: PatternReadout


@dataclass(frozen=True)
class _Verdicts:
    """By pair: whether it is told apart rightly, None where it could not be tried; and its group of shared images."""

    pooled: list[bool | None]
    patches: list[bool | None]
    nearest: list[bool | None]
    groups: list[int]


def labelled(benchmark: Benchmark) -> Labelled:
    """The blind pairs of a benchmark that have a question, once for each of their patterns; controls are left out."""
    pairs = []
    for pair in benchmark.pairs:
        if pair.question is None or pair.is_control:
            continue
        a, b = (pair.question.options[option] for option in pair.question.answers)
        answers = (_plain(a), _plain(b))
        pairs += [ReadoutPair(pair.pair_id, pattern, pair.image_ids, answers) for pattern in pair.patterns or ("",)]
    return Labelled(pairs, benchmark.images)


def shuffled(given: Labelled, seed: int) -> Labelled:
    """The same pairs, each with its answers exchanged by the toss of a coin: nothing is left to be read out."""
    tosses = np.random.default_rng(seed).integers(0, 2, len(given.pairs))
    pairs = [
        replace(pair, answers=pair.answers[::-1]) if toss else pair
        for pair, toss in zip(given.pairs, tosses, strict=True)
    ]
    return replace(given, pairs=pairs)


def read_out(
    encoder: Encoder, tested: Labelled, training: Labelled | None = None, layers: Sequence[Layer] = LAST
) -> list[EncoderReadout]:
    """Read each pattern of `tested` out of each layer, in that order.

    `training` has more pairs to train on; those that share an image with a tested pair are left out where it is tested.
    ConfigError for an encoder without patch tokens, and for a layer that it does not have.
    """
    more = training.pairs if training else ()
    features = token_features(encoder, layers, images_of(tested, training))
    return [
        EncoderReadout(encoder.spec, layer, *of_features(one, tested.pairs, more))
        for layer, one in zip(layers, features, strict=True)
    ]


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split())


def images_of(tested: Labelled, training: Labelled | None) -> Iterator[tuple[str, bytes | Undecodable]]:
    """Each image of some pairs once, as `token_features` takes them."""
    seen: set[str] = set()
    for given in (tested, training):
        if given is not None:
            wanted = dict.fromkeys(key for pair in given.pairs for key in pair.image_ids)
            yield from given.images([key for key in wanted if key not in seen])
            seen |= wanted.keys()


def of_features(
    features: Features, tested: Sequence[ReadoutPair], training: Sequence[ReadoutPair]
) -> tuple[dict[str, PatternReadout], PatternReadout]:
    """The readouts of each pattern, and of all of them, from features that are read already."""
    verdicts = {}
    for pattern in dict.fromkeys(pair.pattern for pair in tested):
        ours, theirs = (_of_pattern(pairs, pattern) for pairs in (tested, training))
        verdicts[pattern] = _pattern(features, ours, theirs)
    return {pattern: _rates([one]) for pattern, one in verdicts.items()}, _rates(list(verdicts.values()))


def _of_pattern(pairs: Iterable[ReadoutPair], pattern: str) -> list[ReadoutPair]:
    return [pair for pair in pairs if pair.pattern == pattern]


def _pattern(features: Features, tested: list[ReadoutPair], more: list[ReadoutPair]) -> _Verdicts:
    known = [pair for pair in [*tested, *more] if all(key in features.rows for key in pair.image_ids)]
    groups = _groups(tested)
    flat = features.patches.reshape(len(features.patches), -1)  # (images, N * AXES)
    pooled: dict[ReadoutPair, bool] = {}
    patches: dict[ReadoutPair, bool] = {}
    for fold in range(FOLDS):
        # Whole groups of shared images are held out, so that no image is in both parts of a fold.
        of_fold = {pair for pair, group in zip(tested, groups, strict=True) if group % FOLDS == fold}
        held = [pair for pair in known if pair in of_fold]
        images = {key for pair in held for key in pair.image_ids}
        trained = [pair for pair in known if images.isdisjoint(pair.image_ids)]
        pooled |= _linear(features.pooled, features.rows, trained, held)
        patches |= _linear(flat, features.rows, trained, held)
    return _Verdicts(
        pooled=[pooled.get(pair) for pair in tested],
        patches=[patches.get(pair) for pair in tested],
        nearest=_nearest(features, tested, known),
        groups=groups,
    )


def _groups(pairs: Sequence[ReadoutPair]) -> list[int]:
    """A number for each pair, the same for pairs that are joined by shared images."""
    found: dict[str, int] = {}  # image id -> group
    for number, pair in enumerate(pairs):
        joined = {found[key] for key in pair.image_ids if key in found}
        found = {key: number if group in joined else group for key, group in found.items()}
        found.update(dict.fromkeys(pair.image_ids, number))
    numbers = {group: place for place, group in enumerate(dict.fromkeys(found[pair.image_ids[0]] for pair in pairs))}
    return [numbers[found[pair.image_ids[0]]] for pair in pairs]


def _linear(
    values: NDArray[np.floating[Any]],
    rows: Mapping[str, int],
    trained: Sequence[ReadoutPair],
    held: Sequence[ReadoutPair],
) -> dict[ReadoutPair, bool]:
    """Which of the held pairs are told apart rightly; those with an answer that is not in training are left out."""
    answers = sorted({answer for pair in trained for answer in pair.answers})
    tried = [pair for pair in held if set(pair.answers) <= set(answers)]
    if not tried:
        return {}
    labels = np.array([answers.index(answer) for pair in trained for answer in pair.answers])
    known, asked = (
        values[[rows[key] for pair in pairs for key in pair.image_ids]].astype(np.float32) for pairs in (trained, tried)
    )
    scores = ridge_scores(known, np.eye(len(answers), dtype=np.float32)[labels], asked)  # (2 * tried, answers)
    verdicts = {}
    for pair, (a, b) in zip(tried, scores.reshape(len(tried), 2, -1), strict=True):
        first, other = (answers.index(answer) for answer in pair.answers)
        verdicts[pair] = bool(a[first] - a[other] > b[first] - b[other])
    return verdicts


def ridge_scores(known: Floats, targets: Floats, asked: Floats) -> Floats:
    """Ridge regression of targets (n, C) on rows (n, F), applied to other rows (m, F): (m, C).

    Solved in the n x n products of the rows, so that F may be large. The penalty is the one with the smallest squared
    error when each row is left out in turn, which follows from one decomposition (Golub, Heath and Wahba 1979, PRESS).
    """
    centre, middle = known.mean(axis=0), targets.mean(axis=0)
    known, asked, targets = known - centre, asked - centre, targets - middle
    products = (known @ known.T).astype(np.float64)  # (n, n)
    values, vectors = np.linalg.eigh(products)
    scale = max(float(np.trace(products)) / len(products), 1e-12)
    rotated = vectors.T @ targets  # (n, C)
    best, weights = np.inf, np.zeros_like(rotated)
    for penalty in PENALTIES:
        shrunk = 1.0 / (np.maximum(values, 0.0) + penalty * scale)
        dual = vectors @ (shrunk[:, None] * rotated)  # (n, C)
        left_out = dual / (vectors**2 @ shrunk)[:, None]  # (n, C): the error of each row when it is left out
        if (error := float((left_out**2).sum())) < best:
            best, weights = error, dual
    scores: Floats = (asked @ known.T @ weights + middle).astype(np.float32)
    return scores


def _nearest(features: Features, tested: Sequence[ReadoutPair], known: Sequence[ReadoutPair]) -> list[bool | None]:
    """Each tested pair against the other pairs with the same two answers, whose differences are turned alike."""
    usable = set(known)
    by_answers: defaultdict[tuple[str, ...], list[ReadoutPair]] = defaultdict(list)
    for pair in known:
        by_answers[tuple(sorted(pair.answers))].append(pair)
    turned = {pair: _turned(features, pair) for pair in known}
    verdicts: list[bool | None] = []
    for pair in tested:
        others = [
            turned[other]
            for other in by_answers[tuple(sorted(pair.answers))]
            if pair in usable and not set(other.image_ids) & set(pair.image_ids)
        ]
        if not others:
            verdicts.append(None)
            continue
        cosines = np.stack(others) @ turned[pair]
        nearest = cosines[np.argsort(-np.abs(cosines), kind="stable")[:NEIGHBOURS]]
        verdicts.append(bool(nearest.sum() > 0))
    return verdicts


def _turned(features: Features, pair: ReadoutPair) -> Floats:
    """The unit difference of the unmatched patches, of the image with the first answer in the alphabet minus the other.

    Only labels of other pairs decide: the same turn of a tested pair is right by its own label, or wrong.
    """
    rows = [features.rows[key] for key in pair.image_ids]
    ordered = rows if pair.answers[0] <= pair.answers[1] else rows[::-1]
    one, other = (features.patches[row].astype(np.float32) for row in ordered)  # (N, AXES) each
    units = [patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-12) for patches in (one, other)]
    matches = units[0] @ units[1].T  # (N, N), cosines from -1 to 1
    count = max(1, len(one) // UNMATCHED)
    first = one[np.argsort(matches.max(axis=1), kind="stable")[:count]].mean(axis=0)
    second = other[np.argsort(matches.max(axis=0), kind="stable")[:count]].mean(axis=0)
    difference: Floats = first - second
    return difference / np.float32(max(float(np.linalg.norm(difference)), 1e-12))


def _rates(verdicts: Sequence[_Verdicts]) -> PatternReadout:
    """Pairs that share images count as one trial in the interval, those of different patterns as several."""
    groups = [(number, group) for number, one in enumerate(verdicts) for group in one.groups]
    pooled, patches, nearest = (
        list(chain.from_iterable(getattr(one, name) for one in verdicts)) for name in ("pooled", "patches", "nearest")
    )
    return PatternReadout(_rate(pooled, groups), _rate(patches, groups), _rate(nearest, groups), len(groups))


def _rate(verdicts: Sequence[bool | None], groups: Sequence[tuple[int, int]]) -> Rate:
    sizes: defaultdict[tuple[int, int], int] = defaultdict(int)
    for verdict, group in zip(verdicts, groups, strict=True):
        sizes[group] += verdict is not None
    tried = [verdict for verdict in verdicts if verdict is not None]
    return rate_of(tried, effective_count(np.array(list(sizes.values()))))
