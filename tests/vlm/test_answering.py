"""`ask_all` asks each question once, keeps to the budget, repairs broken replies once, and loses nothing."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import QUICK, FakeEndpoint, Received, Response, completion, error, some_asks

from blindpairs.errors import BudgetSpent
from blindpairs.vlm import Ask, Budget, Cache, Failure, Reply, RetryPolicy, ask_all, open_cache, open_model
from blindpairs.vlm.asking import Keep, keep_nothing

SCHEMA = {"type": "object", "properties": {"answer": {"enum": ["a", "b"]}}, "required": ["answer"]}


class Model:
    """Answers at once, by a function of the texts; counts what it is asked."""

    name = "test"
    settings: Mapping[str, Any] = {"kind": "test"}

    def __init__(self, answer: Callable[[list[str]], str], tokens: int = 5) -> None:
        self.asked: list[list[str]] = []
        self._answer = answer
        self._tokens = tokens

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
        for ask in asks:
            self.asked.append(ask.texts)
            text = self._answer(ask.texts)
            if text == "fail":
                yield Failure(ask.key, "server", "HTTP 500")
            else:
                yield Reply(ask.key, text, 0.5, 10, self._tokens, "stop")


@pytest.fixture
def cache() -> Iterator[Cache]:
    with open_cache(None) as opened:
        yield opened


def echo(texts: list[str]) -> str:
    return texts[0].upper()


def test_every_ask_has_one_outcome_under_its_own_key(cache: Cache) -> None:
    model = Model(lambda texts: "fail" if "3" in texts[0] else echo(texts))
    outcomes = list(ask_all(model, some_asks(5), cache=cache))
    assert outcomes == [
        Failure(f"key-{number}", "server", "HTTP 500")
        if number == 3
        else Reply(f"key-{number}", f"QUESTION {number}?", 0.5, 10, 5, "stop")
        for number in range(5)
    ]


def test_second_run_asks_nothing_but_what_failed(cache: Cache) -> None:
    list(ask_all(Model(lambda texts: "fail" if "3" in texts[0] else echo(texts)), some_asks(5), cache=cache))
    again = Model(echo)
    outcomes = {one.key: one for one in ask_all(again, some_asks(5), cache=cache)}
    assert again.asked == [["Question 3?"]]
    assert [outcomes[f"key-{number}"].cached for number in range(5)] == [  # type: ignore[union-attr]
        True,
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("text", ["yes", "fail"])
def test_equal_asks_are_asked_once_whether_together_or_one_after_the_other(cache: Cache, text: str) -> None:
    class Slow(Model):
        def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
            yield from super().ask(list(asks), keep=keep)  # draws everything before it answers

    asks = [replace(some_asks(1)[0], key=key) for key in "abc"]
    for kind in (Model, Slow):
        with open_cache(None) as fresh:
            model = kind(lambda texts: text)
            outcomes = list(ask_all(model, asks, cache=fresh))
        assert len(model.asked) == 1
        assert [one.key for one in outcomes] == ["a", "b", "c"]
        if text == "yes":
            assert [one.cached for one in outcomes if isinstance(one, Reply)] == [False, True, True]


def test_asks_are_drawn_as_they_are_needed(cache: Cache) -> None:
    drawn: list[str] = []

    def endless() -> Iterator[Ask]:
        for number in range(10**9):
            drawn.append(str(number))
            yield Ask(str(number), (f"Question {number}?",))

    outcomes = ask_all(Model(echo), endless(), cache=cache)
    assert [next(outcomes).key for _ in range(3)] == ["0", "1", "2"]
    assert len(drawn) <= 4


def test_budget_of_requests_is_kept_exactly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with FakeEndpoint(lambda number, received: completion(f"answer {number}")) as endpoint:
        answered: list[str] = []
        for left in (60, 20):
            with open_cache(tmp_path / "replies.sqlite") as opened:
                model = open_model(endpoint.spec, work=tmp_path)
                got: list[Reply | Failure] = []
                with pytest.raises(BudgetSpent) as spent:
                    got.extend(ask_all(model, some_asks(100), cache=opened, budget=Budget(max_requests=40)))
                answered += [one.key for one in got if isinstance(one, Reply) and not one.cached]
            assert len(got) == 100 - left
            assert len(endpoint.received) == 100 - left
            assert str(spent.value) == (
                f"the budget of 40 requests is spent (40 requests, 480 tokens) and {left} questions are not answered "
                "yet;\nrun the same command again to go on, with a larger budget or the same: what is answered is not "
                "asked again"
            )
        with open_cache(tmp_path / "replies.sqlite") as opened:
            outcomes = list(ask_all(model, some_asks(100), cache=opened, budget=Budget(max_requests=20)))
        assert len(endpoint.received) == 100
        assert [type(outcome) for outcome in outcomes] == [Reply] * 100
    assert len(set(answered)) == 80


def test_budget_of_tokens_uses_what_cheap_answers_leave(cache: Cache) -> None:
    asks = [Ask(str(number), ("1234",) * number, max_tokens=99) for number in range(1, 30)]
    model = Model(echo, tokens=5)  # 15 tokens each, though 100 and more must be reserved
    with pytest.raises(BudgetSpent, match=r"the budget of 400 tokens is spent \(\d+ requests, (\d+) tokens\)") as spent:
        list(ask_all(model, asks, cache=cache, budget=Budget(max_tokens=400)))
    assert len(model.asked) == 19  # 19 * 15 = 285, and the twentieth may take 119
    assert "(19 requests, 285 tokens) and 10 questions" in str(spent.value)


def test_budget_of_tokens_is_not_exceeded_by_requests_at_once(tmp_path: Path) -> None:
    with FakeEndpoint(lambda number, received: completion()) as endpoint, open_cache(None) as opened:
        model = open_model(endpoint.spec, work=tmp_path, retry_policy=RetryPolicy(concurrency=8))
        asks = [Ask(str(number), (f"Is it {number:04d}?",), max_tokens=96) for number in range(60)]  # at most 100 each
        with pytest.raises(BudgetSpent):
            list(ask_all(model, asks, cache=opened, budget=Budget(max_tokens=340)))
    # 12 tokens each: 20 requests take 240, and a request may begin while 100 are left.
    assert len(endpoint.received) == 21


def test_spent_budget_still_gives_what_is_cached_and_counts_every_caller(cache: Cache) -> None:
    asks = some_asks(4)
    list(ask_all(Model(echo), asks[3:], cache=cache))
    twins = [replace(ask, key=f"twin of {ask.key}") for ask in asks]
    got: list[Reply | Failure] = []
    with pytest.raises(BudgetSpent, match="and 4 questions are not answered yet"):
        got.extend(ask_all(Model(echo), asks + twins, cache=cache, budget=Budget(max_requests=1)))
    assert [one.key for one in got] == ["key-0", "key-3", "twin of key-0", "twin of key-3"]


def structured(count: int) -> list[Ask]:
    return [replace(ask, schema=SCHEMA) for ask in some_asks(count)]


def test_broken_reply_is_repaired_once_and_the_reply_counts_both_turns(cache: Cache) -> None:
    model = Model(lambda texts: '{"answer": "a"}' if "already been asked" in texts[-1] else "I think a.")
    (outcome,) = ask_all(model, structured(1), cache=cache)
    assert outcome == Reply("key-0", '{"answer":"a"}', 1.0, 20, 10, "stop")
    assert [len(texts) for texts in model.asked] == [2, 3]
    assert "replied:\nI think a.\n\nThat reply cannot be used: it holds no JSON object." in model.asked[1][2]


def test_reply_that_stays_broken_is_a_failure_and_is_not_paid_again(cache: Cache) -> None:
    model = Model(lambda texts: '{"answer": "c"}')
    broken = Failure("key-0", "broken_json", "its reply cannot be used: $.answer: 'c' is not one of ['a', 'b']")
    for _ in range(2):
        assert list(ask_all(model, structured(1), cache=cache)) == [broken]
    assert len(model.asked) == 2


def test_good_structured_reply_is_asked_once_and_its_text_is_json(cache: Cache) -> None:
    model = Model(lambda texts: 'Well: ```json\n{"answer": "b", "more": "é"}\n```')
    for cached in (False, True):
        (outcome,) = ask_all(model, structured(1), cache=cache)
        assert outcome == Reply("key-0", '{"answer":"b","more":"\\u00e9"}', 0.5, 10, 5, "stop", cached)
    assert len(model.asked) == 1


def test_repairs_count_against_the_budget(cache: Cache) -> None:
    model = Model(lambda texts: "I think a.")
    with pytest.raises(BudgetSpent, match="and 2 questions are not answered yet"):
        list(ask_all(model, structured(3), cache=cache, budget=Budget(max_requests=3)))
    assert len(model.asked) == 3


def test_broken_replies_at_once_are_all_repaired(tmp_path: Path) -> None:
    def stubborn(number: int, received: Received) -> Response:
        texts = [part["text"] for part in received.body["messages"][0]["content"] if part["type"] == "text"]
        return completion('{"answer": "a"}' if "already been asked" in texts[-1] else "no JSON")

    with FakeEndpoint(stubborn) as endpoint, open_cache(None) as opened:
        outcomes = list(ask_all(open_model(endpoint.spec, work=tmp_path), structured(20), cache=opened))
    assert sorted(one.key for one in outcomes if isinstance(one, Reply)) == sorted(f"key-{n}" for n in range(20))
    assert len(endpoint.received) == 40


def test_reply_is_on_disk_before_the_caller_has_it_and_while_it_is_busy(tmp_path: Path) -> None:
    path, stored = tmp_path / "replies.sqlite", threading.Event()

    class Watched(Cache):
        def put(self, *args: Any) -> None:
            super().put(*args)
            self.count = getattr(self, "count", 0) + 1
            if self.count == 8:
                stored.set()

    opened = Watched(path)
    with FakeEndpoint(lambda number, received: completion()) as endpoint:
        outcomes = ask_all(open_model(endpoint.spec, work=tmp_path), some_asks(8), cache=opened)
        next(outcomes)
        assert stored.wait(20)  # all eight, of which the caller has taken one
    opened.close()


def test_progress_counts_what_is_done_and_what_failed(cache: Cache) -> None:
    reports: list[tuple[int, int, int]] = []
    model = Model(lambda texts: "fail" if "1" in texts[0] else "yes")
    list(ask_all(model, some_asks(3), cache=cache, progress=lambda *counts: reports.append(counts)))
    assert reports == [(1, 3, 0), (1, 3, 1), (2, 3, 1)]
    reports.clear()
    list(ask_all(model, iter(some_asks(3)), cache=cache, progress=lambda *counts: reports.append(counts), total=3))
    assert reports[-1] == (2, 3, 1)


def test_failures_leave_the_other_asks_alone(tmp_path: Path) -> None:
    def moody(number: int, received: Received) -> Response:
        question = received.body["messages"][0]["content"][0]["text"]
        return error(400, "bad image") if question.endswith("7?") else completion("yes")

    with FakeEndpoint(moody) as endpoint, open_cache(None) as opened:
        model = open_model(endpoint.spec, work=tmp_path, retry_policy=QUICK)
        outcomes = list(ask_all(model, some_asks(30), cache=opened))
    kinds = Counter((type(one), one.key.endswith("7")) for one in outcomes)
    assert kinds == {(Reply, False): 27, (Failure, True): 3}
