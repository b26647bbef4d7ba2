"""Waiting is what the endpoint asks for, or random within bounds that double; failures in a row open the breaker."""

import time
from email.utils import formatdate

import pytest

from blindpairs.vlm import Failure, Reply, RetryPolicy
from blindpairs.vlm.retries import Breaker, retry_after_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("1.5", 1.5), ("-3", None), ("inf", None), ("nan", None), ("soon", None), ("", None)],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(value) == seconds


def test_retry_after_as_a_date() -> None:
    wait = retry_after_seconds(formatdate(time.time() + 100, usegmt=True))
    assert wait is not None
    assert 98 <= wait <= 100
    assert retry_after_seconds(formatdate(time.time() - 100, usegmt=True)) == 0
    assert retry_after_seconds(None) is None


def test_waits_are_spread_below_a_bound_that_doubles_up_to_a_limit() -> None:
    retry_policy = RetryPolicy(first_wait=1, longest_wait=5)
    for attempt, bound in ((1, 1), (2, 2), (3, 4), (4, 5), (100, 5)):
        waits = [retry_policy.wait(attempt) for _ in range(500)]
        assert 0 <= min(waits) < bound / 4
        assert bound * 3 / 4 < max(waits) <= bound


def test_only_failures_of_the_endpoint_in_a_row_open_the_breaker() -> None:
    down, refused = Failure("k", "server", "HTTP 500"), Failure("k", "refused", "no")
    for between in (Reply("k", "yes", 0.1, 1, 1, "stop"), refused):  # it answers, so it is up
        breaker = Breaker(2)
        for outcome in (down, between, down):
            breaker.record(outcome)
        assert not breaker.open
        breaker.record(down)
        assert breaker.open
        breaker.record(between)
        assert breaker.open
        breaker.record(Failure("k", "unreachable", "the endpoint failed before this was asked"))
        assert breaker.last == down
