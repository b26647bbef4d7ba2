"""The readout: what captions omit is in DINOv2's tokens, exchanged labels are in none, and no image leaks."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from pictured_pairs import benchmark_of

from blindpairs.benchmark import HeldImages
from blindpairs.demo.benchmark import demo_benchmark
from blindpairs.demo.labelled_pairs import labelled_pairs
from blindpairs.encoders import Layer, load_encoder
from blindpairs.errors import ConfigError
from blindpairs.evaluate import readout
from blindpairs.evaluate.readout import (
    PENALTIES,
    Labelled,
    PatternReadout,
    ReadoutPair,
    images_of,
    labelled,
    of_features,
    read_out,
    ridge_scores,
    shuffled,
)
from blindpairs.evaluate.token_features import Features, token_features
from blindpairs.mine.patches import AXES
from blindpairs.statistics import Rate

Readouts = dict[tuple[str, int], tuple[dict[str, PatternReadout], PatternReadout]]
Read = dict[tuple[str, int], Features]
SHUFFLES = 5


@pytest.fixture(scope="module")
def pairs() -> tuple[Labelled, Labelled]:
    """To be tested, and to be trained on."""
    return labelled(demo_benchmark()), labelled_pairs(16)


@pytest.fixture(scope="module")
def read(pairs: tuple[Labelled, Labelled]) -> Read:
    """The features of two layers of both encoders of the demo."""
    layers = [Layer(2), Layer(-1)]
    return {
        (spec, layer.index): features
        for spec in ("demo:clip", "demo:dino")
        for layer, features in zip(
            layers, token_features(load_encoder("tested", spec), layers, images_of(*pairs)), strict=True
        )
    }


@pytest.fixture(scope="module")
def readouts(read: Read, pairs: tuple[Labelled, Labelled]) -> Readouts:
    """By pattern, and of all."""
    return {key: of_features(features, pairs[0].pairs, pairs[1].pairs) for key, features in read.items()}


def bounds(rate: Rate) -> tuple[float, float]:
    assert rate.interval is not None
    return rate.interval


@pytest.mark.parametrize("layer", [2, -1])
def test_dinos_tokens_tell_what_captions_omit(readouts: Readouts, layer: int) -> None:
    patterns, found = readouts["demo:dino", layer]
    assert [one.pairs for one in patterns.values()] == [16] * 9
    for rate in (found.pooled, found.patches, found.nearest):
        assert rate.count == 144
        assert bounds(rate)[0] > readout.CHANCE


@pytest.mark.parametrize("layer", [2, -1])
def test_clips_class_token_tells_less_than_its_patches_and_than_dinos(readouts: Readouts, layer: int) -> None:
    clip, dino = (readouts[spec, layer][1] for spec in ("demo:clip", "demo:dino"))
    assert bounds(clip.pooled)[1] < bounds(dino.pooled)[0]
    assert bounds(clip.pooled)[1] < bounds(clip.patches)[0]


@pytest.mark.parametrize("spec", ["demo:clip", "demo:dino"])
def test_exchanged_labels_bring_every_readout_to_chance(
    read: Read, pairs: tuple[Labelled, Labelled], spec: str
) -> None:
    tested, training = pairs
    found = [
        of_features(read[spec, -1], shuffled(tested, seed).pairs, shuffled(training, 100 + seed).pairs)[1]
        for seed in range(SHUFFLES)
    ]
    # A tested pair's own label is a toss that decides nothing else of its verdict, so the hits are about those of a
    # fair coin: its four standard errors. An image that leaks gives shares near 1.
    allowed = 4 * 0.5 / math.sqrt(SHUFFLES * 144)
    for way in ("pooled", "patches", "nearest"):
        share = sum(getattr(one, way).hits for one in found) / (SHUFFLES * 144)
        assert abs(share - readout.CHANCE) < allowed


def test_ridge_scores_are_those_of_the_slow_way() -> None:
    random = np.random.default_rng(0)
    known, targets = random.normal(size=(12, 5)), random.normal(size=(12, 2))
    asked = random.normal(size=(3, 5))
    centred, aimed = known - known.mean(0), targets - targets.mean(0)
    scale = (centred**2).sum() / len(known)

    def weights(rows: np.ndarray, aims: np.ndarray, penalty: float) -> np.ndarray:
        return np.asarray(np.linalg.solve(rows.T @ rows + penalty * scale * np.eye(5), rows.T @ aims))

    def left_out(penalty: float) -> float:
        errors = []
        for row in range(len(known)):
            others = np.arange(len(known)) != row
            guess = centred[row] @ weights(centred[others], aimed[others], penalty)
            errors.append(((guess - aimed[row]) ** 2).sum())
        return float(sum(errors))

    best = min(PENALTIES, key=left_out)
    expected = (asked - known.mean(0)) @ weights(centred, aimed, best) + targets.mean(0)
    given = [values.astype(np.float32) for values in (known, targets, asked)]
    assert ridge_scores(*given) == pytest.approx(expected, abs=1e-4)


def test_no_image_is_in_training_and_test(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = labelled(demo_benchmark())
    some = [pair for pair in tested.pairs if pair.pattern == tested.pairs[0].pattern]
    folds = []

    def watched(
        values: object, rows: object, trained: list[ReadoutPair], held: list[ReadoutPair]
    ) -> dict[ReadoutPair, bool]:
        folds.append((trained, held))
        return dict.fromkeys(held, True)

    monkeypatch.setattr(readout, "_linear", watched)
    # Every tested pair is among the training pairs as well.
    (found,) = read_out(
        load_encoder("tested", "demo:dino"), Labelled(some, tested.images), Labelled(some, HeldImages({}))
    )
    assert found.all.patches.count == len(some)
    for trained, held in folds:
        images = [{key for pair in pairs for key in pair.image_ids} for pairs in (trained, held)]
        assert images[0].isdisjoint(images[1])


def features_of(patches: np.ndarray) -> Features:
    rows = {str(row): row for row in range(len(patches))}
    return Features(rows, patches.mean(1).astype(np.float32), patches.astype(np.float16))


def test_one_patch_that_tells_is_found_wherever_it_is() -> None:
    # Sixteen patches that all images share, in another order in each, and one for `left` or for `right`.
    random = np.random.default_rng(1)
    shared, left, right = random.normal(size=(16, AXES)), *random.normal(size=(2, AXES))
    patches = [
        random.permutation(np.concatenate([shared + random.normal(scale=0.05, size=shared.shape), one[None]]))
        for _ in range(6)
        for one in (left, right)
    ]
    pairs = [ReadoutPair(f"p{n}", "side", (str(2 * n), str(2 * n + 1)), ("left", "right")) for n in range(6)]
    exchanged = [ReadoutPair(f"q{n}", "side", (str(2 * n + 1), str(2 * n)), ("left", "right")) for n in range(5, 6)]
    features = features_of(np.stack(patches))
    assert readout._nearest(features, pairs, pairs) == [True] * 6
    assert readout._nearest(features, exchanged, [*pairs[:5], *exchanged]) == [False]


def test_pairs_whose_answers_do_not_recur_and_images_that_cannot_be_read_are_not_tried() -> None:
    made = benchmark_of(6)
    encoder = load_encoder("tested", "demo:dino")
    tested = labelled(made)
    odd = ReadoutPair("odd", "State and Condition", tested.pairs[0].image_ids, ("ajar", "locked"))
    lost = ReadoutPair("lost", "State and Condition", ("x", "y"), ("open", "closed"))
    (found,) = read_out(encoder, Labelled([*tested.pairs[1:], odd, lost], made.images))
    assert (found.all.pairs, found.all.pooled.count, found.all.patches.count, found.all.nearest.count) == (7, 5, 5, 5)


def test_benchmark_gives_its_blind_pairs_with_the_texts_of_their_answers() -> None:
    made = benchmark_of(1)
    (pair,) = made.pairs
    assert labelled(made).pairs == [
        ReadoutPair(pair.pair_id, "State and Condition", pair.image_ids, ("open", "closed"))
    ]
    assert labelled(benchmark_of(1, control_of="00")).pairs == []
    assert labelled(benchmark_of(1, question=None)).pairs == []


def test_pairs_that_share_images_count_as_one_trial() -> None:
    chain = [ReadoutPair(str(n), "p", (str(n), str(n + 1)), ("a", "b")) for n in range(4)]
    apart = ReadoutPair("x", "p", ("8", "9"), ("a", "b"))
    assert readout._groups([chain[0], chain[2], apart, chain[1], chain[3]]) == [0, 0, 1, 0, 0]
    assert readout._rate([True] * 4, [(0, 0)] * 4).interval == readout._rate([True], [(0, 0)]).interval


def test_features_do_not_depend_on_what_else_is_read() -> None:
    made = benchmark_of(2)
    encoder = load_encoder("tested", "demo:clip")

    def images(count: int) -> Iterator[tuple[str, bytes]]:
        for key, data in list(made.images(made.image_ids))[:count]:
            assert isinstance(data, bytes)
            yield key, data

    (whole,) = token_features(encoder, [Layer(-1)], images(4))
    assert (whole.patches.shape, whole.pooled.shape) == ((4, 64, AXES), (4, 128))
    (part,) = token_features(encoder, [Layer(-1)], images(2))
    assert whole.pooled[:2] == pytest.approx(part.pooled, abs=1e-5)
    nothing = Rate(0, 0, None)
    assert read_out(encoder, Labelled([], made.images))[0].all == PatternReadout(nothing, nothing, nothing, 0)


def test_a_layer_that_is_not_there_is_named() -> None:
    made = benchmark_of(2)
    with pytest.raises(ConfigError, match="layer"):
        read_out(load_encoder("tested", "demo:dino"), labelled(made), layers=[Layer(9)])
