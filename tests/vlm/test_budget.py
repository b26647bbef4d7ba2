"""The plan counts what asking takes; the budget is never exceeded by what the plan knows."""

import pytest

from blindpairs.errors import ConfigError
from blindpairs.vlm import Ask, Budget, Failure, Picture, Plan, Reply, plan
from blindpairs.vlm.budget import Meter

PICTURE = Picture(b"", "image/png")


def test_plan_counts_requests_images_and_tokens() -> None:
    asks = [Ask("a", ("12345", PICTURE, PICTURE, "678"), "9", max_tokens=100), Ask("b", ("",), max_tokens=7)]
    assert plan(iter(asks)) == Plan(requests=2, images=2, prompt_tokens=2003, answer_tokens=107)
    assert str(plan(asks)) == (
        "2 requests with 2 images, about 2,003 tokens of prompts (1,000 an image) and at most 107 of answers"
    )


def test_requests_stop_exactly_at_their_limit() -> None:
    meter = Meter(Budget(max_requests=2))
    assert [meter.begin(Ask(key, ("?",))) for key in "abc"] == [True, True, False]
    assert Meter(Budget(max_requests=0)).begin(Ask("a", ("?",))) is False


def test_request_begins_only_if_its_largest_answer_fits() -> None:
    meter = Meter(Budget(max_tokens=250))
    asks = [Ask(key, ("1234",), max_tokens=99) for key in "abcd"]  # at most 100 tokens each
    assert [meter.begin(ask) for ask in asks[:3]] == [True, True, False]
    meter.end(Reply("a", "yes", 0.1, 2, 3, "stop"))  # 145 are left beside the second one's reservation
    assert meter.begin(asks[2])
    assert not meter.begin(asks[3])


def test_what_failed_or_was_not_counted_keeps_its_reservation() -> None:
    meter = Meter(Budget())
    for key in "abc":
        meter.begin(Ask(key, ("1234",), max_tokens=99))
    meter.end(Failure("a", "timeout", "no"))
    meter.end(Reply("b", "yes", 0.1, None, 3, "stop"))
    assert (meter.tokens, meter.under_way) == (200, True)
    meter.end(Reply("c", "yes", 0.1, 1, 3, "stop"))
    assert (meter.tokens, meter.under_way) == (204, False)


def test_negative_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_tokens is -1: a budget cannot be negative"):
        Budget(max_tokens=-1)
