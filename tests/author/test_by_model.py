"""Drafts by a model: what it sees, what becomes of its replies, and what a run costs."""

import io
import json
from collections.abc import Collection, Iterator

import numpy as np
import pytest
from answering_model import AnsweringModel
from PIL import Image

from blindpairs.author.by_model import LONGEST_SIDE, ModelDrafter
from blindpairs.author.drafts import Draft, MinedPair, NotDrafted
from blindpairs.errors import BudgetSpent, Undecodable
from blindpairs.images.samples import Pixels
from blindpairs.mine.maps import DifferenceMap
from blindpairs.vlm import Budget, Cache, Picture, open_cache

PATTERNS = ("Color and Appearance", "Text")
REPLY = {
    "found": True,
    "question": "What colour is it?",
    "option_1": "red",
    "option_2": "blue",
    "answer_a": 1,
    "answer_b": 2,
    "pattern": "Color and Appearance",
    "statement_a": "a red one",
    "statement_b": "a blue one",
}
COLOURS = {"red": (200, 0, 0), "blue": (0, 0, 200), "grey": (90, 90, 90)}
PAIRS = [MinedPair(f"pair{number}", "red", "blue", "/r", "/b", 0.97, 0.4, rank=number) for number in range(3)]


def pixels(image_ids: Collection[str]) -> Iterator[tuple[str, Pixels | Undecodable]]:
    for key in image_ids:
        size = (1000, 2000, 3) if key == "large" else (300, 400, 3)
        known = COLOURS.get(key)
        yield key, Undecodable("missing", "no such file") if known is None else np.full(size, known, np.uint8)


@pytest.fixture
def cache() -> Iterator[Cache]:
    with open_cache(None) as opened:
        yield opened


def drafter(model: AnsweringModel, cache: Cache, **fields: object) -> ModelDrafter:
    return ModelDrafter(model, pixels, cache, PATTERNS, **fields)  # type: ignore[arg-type]


def colour(picture: Picture) -> tuple[int, ...]:
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    return tuple(np.asarray(image).reshape(-1, 3).mean(0).round(-1).astype(int))


def test_model_sees_both_images_in_order_and_the_draft_is_its_reply(cache: Cache) -> None:
    model = AnsweringModel(lambda _: json.dumps(REPLY))
    drafts = dict(drafter(model, cache).draft(PAIRS[:1], second=False))
    (draft,) = drafts.values()
    assert isinstance(draft, Draft)
    assert draft.question
    assert [draft.question.options[answer] for answer in draft.question.answers] == ["red", "blue"]
    (ask,) = model.asked
    assert [colour(picture) for picture in ask.pictures] == [COLOURS["red"], COLOURS["blue"]]
    assert ask.texts[:2] == ["Image A:", "Image B:"]
    assert all(name in ask.texts[-1] for name in PATTERNS)


def test_where_a_map_is_both_images_are_shown_again_with_it(cache: Cache) -> None:
    model = AnsweringModel(lambda _: json.dumps(REPLY))
    somewhere = np.zeros((4, 4), np.float32)
    somewhere[0] = 1
    maps = {"pair1": DifferenceMap(somewhere, somewhere)}
    list(drafter(model, cache, maps=maps).draft(PAIRS[:2], second=False))
    with_map = next(ask for ask in model.asked if len(ask.pictures) == 4)
    assert len(model.asked) == 2
    red = [np.asarray(Image.open(io.BytesIO(one.data)).convert("RGB"), int) for one in with_map.pictures[2:]]
    assert all(one[:60, :, 0].mean() > one[200:, :, 2].mean() for one in red)
    assert red[1][:60, :, 0].mean() > red[1][200:, :, 0].mean() + 100  # the blue image is red where it differs


def test_large_images_are_scaled_down_and_keep_their_shape(cache: Cache) -> None:
    COLOURS["large"] = (10, 200, 10)
    model = AnsweringModel(lambda _: json.dumps(REPLY))
    list(drafter(model, cache).draft([MinedPair("p", "large", "red", "", "")], second=False))
    shown = Image.open(io.BytesIO(model.asked[0].pictures[0].data))
    assert shown.size == (LONGEST_SIDE, LONGEST_SIDE // 2)


def test_image_that_cannot_be_read_fails_its_pair_alone(cache: Cache) -> None:
    model = AnsweringModel(lambda _: json.dumps(REPLY))
    pairs = [PAIRS[0], MinedPair("gone", "red", "nowhere", "", "")]
    drafts = dict(drafter(model, cache).draft(pairs, second=False))
    assert isinstance(drafts["pair0"], Draft)
    assert drafts["gone"] == NotDrafted("missing", "an image cannot be read: no such file")
    assert len(model.asked) == 1


@pytest.mark.parametrize(("reply", "code", "requests"), [(None, "server", 1), ("no JSON at all", "broken_json", 2)])
def test_failures_keep_their_word_and_a_broken_reply_is_asked_once_more(
    cache: Cache, reply: str | None, code: str, requests: int
) -> None:
    model = AnsweringModel(lambda _: reply)
    (outcome,) = dict(drafter(model, cache).draft(PAIRS[:1], second=False)).values()
    assert isinstance(outcome, NotDrafted)
    assert (outcome.code, len(model.asked)) == (code, requests)


def test_equal_pairs_are_paid_once_and_a_second_run_pays_nothing(cache: Cache) -> None:
    model = AnsweringModel(lambda _: json.dumps(REPLY))
    first = dict(drafter(model, cache).draft(PAIRS, second=False))
    assert len(model.asked) == 1  # the same two images three times
    assert dict(drafter(model, cache).draft(PAIRS, second=False)) == first
    assert len(model.asked) == 1


def test_plan_counts_what_is_asked_and_reads_no_image(cache: Cache) -> None:
    model = AnsweringModel(lambda _: json.dumps(REPLY))
    made = drafter(model, cache, maps={"pair1": DifferenceMap(*np.zeros((2, 2, 2), np.float32))})
    unread = [MinedPair(f"pair{number}", "x", "y", "", "") for number in range(3)]
    plan = made.plan(unread, second=False)
    assert (plan.requests, plan.images) == (3, 2 + 4 + 2)
    assert plan.answer_tokens >= 3 * 100
    assert model.asked == []


def test_budget_ends_the_run_after_what_it_paid_for(cache: Cache) -> None:
    model = AnsweringModel(lambda _: json.dumps(REPLY))
    pairs = [MinedPair(f"p{number}", "red", other, "", "") for number, other in enumerate(("blue", "grey"))]
    drafts = drafter(model, cache, budget=Budget(max_requests=1)).draft(pairs, second=False)
    assert isinstance(next(drafts)[1], Draft)
    with pytest.raises(BudgetSpent):
        next(drafts)
