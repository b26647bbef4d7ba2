"""An endpoint may fail in every way: each ask ends in a Reply or a typed Failure, in bounded time, and no key leaks."""

import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import PICTURE, QUICK, Behaviour, FakeEndpoint, Response, completion, error, some_asks

from blindpairs.errors import ConfigError, EndpointFailed
from blindpairs.vlm import Ask, Failure, Reply, RetryPolicy, ask_all, open_cache, open_model

WHICH = Ask("one", ("Which?", PICTURE))
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def quick(**changes: Any) -> RetryPolicy:
    return RetryPolicy(**(vars(QUICK) | changes))


def outcome_of(behaviour: Behaviour, ask: Ask = WHICH, **retry_policy: Any) -> Reply | Failure:
    with FakeEndpoint(behaviour) as endpoint:
        (outcome,) = open_model(endpoint.spec, work=Path(), retry_policy=quick(**retry_policy)).ask([ask])
    return outcome


def failure_of(behaviour: Behaviour, **retry_policy: Any) -> tuple[str, str]:
    outcome = outcome_of(behaviour, **retry_policy)
    assert isinstance(outcome, Failure)
    assert outcome.key == "one"
    return outcome.code, outcome.message


def always(response: Response) -> Behaviour:
    return lambda number, received: response


def first(*responses: Response) -> Behaviour:
    """These responses, then a good one for ever."""
    return lambda number, received: responses[number] if number < len(responses) else completion("fine")


def test_request_has_the_model_the_texts_and_the_image_as_data_in_their_order() -> None:
    with FakeEndpoint(always(completion("A dog."))) as endpoint:
        ask = Ask("one", ("First:", PICTURE, "Is it a dog?"), system="Be brief.", max_tokens=7, temperature=0.5)
        (reply,) = open_model(endpoint.spec, work=Path()).ask([ask])
    (received,) = endpoint.received
    image = "data:image/png;base64,iVBORyBub3QgbG9va2VkIGF0IGJ5IHRoZSBjbGllbnQ="
    assert received.path == "/v1/chat/completions"
    assert received.body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "First:"},
                    {"type": "image_url", "image_url": {"url": image}},
                    {"type": "text", "text": "Is it a dog?"},
                ],
            },
        ],
        "max_tokens": 7,
        "temperature": 0.5,
    }
    assert isinstance(reply, Reply)
    assert reply == Reply("one", "A dog.", reply.seconds, 10, 2, "stop", cached=False)


PAGE = "it returned a web page; is the base address right, with /v1 at its end?"
SPENT = "the model said nothing; max_tokens=512 was used up before it said anything"


@pytest.mark.parametrize(
    ("response", "code", "message"),
    [
        (error(401, "Incorrect API key"), "unauthorised", "HTTP 401: Incorrect API key"),
        (error(404, "The model `tiny` does not exist"), "not_found", "HTTP 404: The model `tiny` does not exist"),
        (error(400, "bad image"), "bad_request", "HTTP 400: bad image"),
        (error(413), "too_large", "HTTP 413: no"),
        (Response(b"<html>Bad gateway</html>", 502), "server", "HTTP 502: no reason given"),
        (Response(b'{"detail": "x\\u001b[31m\\ny"}', 422), "bad_request", "HTTP 422: x [31m y"),
        (Response(b"<!DOCTYPE html><title>Welcome</title>"), "not_an_api", PAGE),
        (Response(b'{"models": []}'), "not_an_api", "its response is JSON, but not a chat completion"),
        (Response(b'{"choices": [{"mess'), "server", "its response is cut off or not JSON"),
        (Response(b"[" * 100_000), "server", "its response is cut off or not JSON"),
        (Response(b'{"error": {"message": "overloaded"}}'), "server", "overloaded"),
        (completion(""), "empty", "the model said nothing"),
        (completion(" \n"), "empty", "the model said nothing"),
        (completion(None, "length"), "empty", SPENT),
        (completion(None, refusal="I cannot."), "refused", "the model refused: I cannot."),
        (completion("", "content_filter"), "refused", "the model refused: content_filter"),
        (error(400, "content_policy_violation"), "refused", "HTTP 400: content_policy_violation"),
        (error(429, "insufficient_quota"), "quota", "HTTP 429: insufficient_quota"),
        (error(429), "rate_limited", "HTTP 429: no"),
        (error(408), "timeout", "HTTP 408: no"),
        (Response(b"x" * 20_000_001), "too_large", "its response is larger than 20 MB"),
    ],
)
def test_response_without_an_answer_is_a_typed_failure(response: Response, code: str, message: str) -> None:
    total = 0.1 if code == "rate_limited" else 10
    assert failure_of(always(response), attempts=2, attempt_timeout=10, total_timeout=total) == (code, message)


def test_connection_refused_is_a_failure_after_all_attempts() -> None:
    with socket.socket() as held:  # bound and not listening: nobody else takes the port
        held.bind(("127.0.0.1", 0))
        spec = f"openai:tiny@http://127.0.0.1:{held.getsockname()[1]}"
        (outcome,) = open_model(spec, work=Path(), retry_policy=QUICK).ask([Ask("one", ("Which?",))])
    assert isinstance(outcome, Failure)
    assert outcome.code == "unreachable"


def test_stall_and_endless_stream_end_at_the_time_limit() -> None:
    assert failure_of(always(Response(pause=20)), attempts=1) == ("timeout", "no response within 0.5 s")
    drip = Response(b'{"choices": [', stream=b" ")
    assert failure_of(always(drip), attempts=1) == ("timeout", "no response within 0.5 s")


def test_response_cut_off_by_the_other_side_is_asked_again() -> None:
    cut = Response(b'{"choices": [', promised=4000)
    assert failure_of(always(cut), attempts=2)[0] == "server"
    outcome = outcome_of(first(cut))
    assert isinstance(outcome, Reply)
    assert outcome.text == "fine"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_passing_trouble_is_waited_out(status: int) -> None:
    outcome = outcome_of(first(error(status), error(status)))
    assert isinstance(outcome, Reply)
    assert outcome.text == "fine"


LASTING = [
    error(400),
    error(401),
    error(404),
    error(429, "insufficient_quota"),
    Response(b"<html>"),
    completion(""),
]


@pytest.mark.parametrize("response", LASTING)
def test_lasting_trouble_is_not_asked_again(response: Response) -> None:
    with FakeEndpoint(always(response)) as endpoint:
        (outcome,) = open_model(endpoint.spec, work=Path(), retry_policy=QUICK).ask(some_asks(1))
    assert isinstance(outcome, Failure)
    assert len(endpoint.received) == 1


@pytest.mark.parametrize("header", [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_endpoint_that_says_how_long_to_wait_is_left_alone_by_all_requests(header: Callable[[], str]) -> None:
    def limited(number: int, _: object) -> Response:
        return error(429, retry_after=header()) if number == 0 else Response(completion().body, pause=0.2)

    with FakeEndpoint(limited) as endpoint:
        outcomes = list(open_model(endpoint.spec, work=Path(), retry_policy=quick(concurrency=2)).ask(some_asks(4)))
    assert [type(outcome) for outcome in outcomes] == [Reply] * 4
    first_at, _, *later = [received.at for received in endpoint.received]  # the second one came beside the first
    assert min(later) - first_at >= 0.9  # a date has whole seconds


def test_endpoint_that_asks_for_time_gets_more_than_the_usual_attempts() -> None:
    outcome = outcome_of(first(*[error(429)] * 10), attempts=2)
    assert isinstance(outcome, Reply)


def test_longer_wait_than_the_patience_allows_is_a_failure_at_once() -> None:
    assert failure_of(always(error(429, "later", retry_after="3600"))) == ("rate_limited", "HTTP 429: later")


def test_redirect_is_not_followed_and_its_target_gets_nothing() -> None:
    with FakeEndpoint(always(completion())) as other:
        target = other.url.replace("127.0.0.1", "localhost") + "/chat/completions"
        code, message = failure_of(always(Response(status=307, headers={"Location": target})))
    assert (code, message) == ("redirected", f"it redirects to {target}, which is not followed")
    assert other.received == []


def test_requests_at_once_are_bounded() -> None:
    slow = Response(completion().body, pause=0.02)
    with FakeEndpoint(always(slow)) as endpoint:
        model = open_model(endpoint.spec, work=Path(), retry_policy=quick(concurrency=3))
        assert [type(outcome) for outcome in model.ask(some_asks(30))] == [Reply] * 30
    assert endpoint.most_at_once == 3


def test_requests_at_once_are_halved_by_too_many() -> None:
    at_once: list[int] = []
    together = threading.Barrier(8, timeout=60)  # on a busy machine a pause would be too short for all eight

    def overloaded(number: int, _: object) -> Response:
        if number < 8:
            together.wait()
        at_once.append(endpoint.at_once)
        return error(429) if number < 8 else Response(completion().body, pause=0.02)

    with FakeEndpoint(overloaded) as endpoint:
        model = open_model(endpoint.spec, work=Path(), retry_policy=quick(concurrency=8, attempt_timeout=5))
        assert [type(outcome) for outcome in model.ask(some_asks(12))] == [Reply] * 12
    assert max(at_once[:8]) == 8
    assert max(at_once[16:]) <= 5  # 4, and one more after as many successes


def test_endpoint_that_stays_down_ends_the_run_and_what_it_answered_is_kept(tmp_path: Path) -> None:
    down = [True]

    def dying(number: int, _: object) -> Response:
        return error(503, "shutting down") if down[0] and number >= 7 else completion(f"answer {number}")

    with FakeEndpoint(dying) as endpoint, open_cache(tmp_path / "replies.sqlite") as cache:
        model = open_model(endpoint.spec, work=Path(), retry_policy=quick(consecutive_failures=3, concurrency=1))
        with pytest.raises(EndpointFailed) as failed:
            list(ask_all(model, some_asks(100), cache=cache))
        assert len(endpoint.received) == 7 + 3 * QUICK.attempts
        assert str(failed.value) == (
            f"{model.name} failed 3 times in a row, last with server: HTTP 503: shutting down;\n"
            "look into the server's log; what was answered is kept, and the same command goes on from there"
        )
        down[0] = False
        outcomes = {one.key: one for one in ask_all(model, some_asks(100), cache=cache)}
    assert len(endpoint.received) == 7 + 3 * QUICK.attempts + 93
    assert [isinstance(outcome, Reply) for outcome in outcomes.values()] == [True] * 100


def test_unauthorised_ends_the_run_and_says_which_variable_holds_the_key() -> None:
    with FakeEndpoint(always(error(401))) as endpoint:
        model = open_model(endpoint.spec, work=Path(), retry_policy=RetryPolicy(consecutive_failures=2))
        with pytest.raises(EndpointFailed, match=r"put a valid key into OPENAI_API_KEY \(it is not set\)"):
            list(model.ask(some_asks(50)))
    assert len(endpoint.received) <= 2 + RetryPolicy().concurrency


def test_key_is_sent_and_is_in_no_log_message_setting_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def telling(number: int, received: Any) -> Response:
        shown = received.headers["authorization"]
        return (completion(f"You sent {shown}"), error(401, f"Wrong key: {shown}"))[number % 2]

    caplog.set_level(logging.DEBUG)
    with FakeEndpoint(telling) as endpoint, open_cache(tmp_path / "replies.sqlite") as cache:
        model = open_model(endpoint.spec, work=tmp_path, retry_policy=quick(concurrency=1))
        outcomes = list(ask_all(model, some_asks(2), cache=cache))
        files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [received.headers["authorization"] for received in endpoint.received] == [f"Bearer {KEY}"] * 2
    assert KEY not in repr(outcomes) + caplog.text + repr(model.settings) + model.name
    assert KEY.encode() not in files
    assert b"You sent" in files


def test_no_key_is_sent_where_none_is_set() -> None:
    with FakeEndpoint(always(completion())) as endpoint:
        list(open_model(endpoint.spec, work=Path()).ask(some_asks(1)))
    assert "authorization" not in endpoint.received[0].headers


OPEN = "the key in OPENAI_API_KEY goes to vision.example:8000 unencrypted: use https"


@pytest.mark.parametrize(
    ("address", "warnings"),
    [
        ("http://vision.example:8000/v1", [OPEN]),
        ("https://vision.example/v1", []),
        ("http://127.0.0.2:8000/v1", []),
        ("http://[::1]:8000/v1", []),
        ("http://localhost:8000/v1", []),
    ],
)
def test_key_over_an_open_connection_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, address: str, warnings: list[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    notices: list[str] = []
    open_model(f"openai:tiny@{address}", work=Path(), notice=notices.append)
    assert notices == warnings


def test_damaged_key_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret\nsecond line")
    with pytest.raises(ConfigError) as refused:
        open_model("openai:tiny@vllm", work=Path())
    assert str(refused.value) == "OPENAI_API_KEY holds characters that no key has: set it again"


def test_what_the_endpoint_refuses_is_left_out_from_then_on() -> None:
    def strict(number: int, received: Any) -> Response:
        kind = received.body.get("response_format", {}).get("type")
        if "max_tokens" in received.body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in received.body:
            return error(400, "Unsupported value: 'temperature' does not support 0.0 with this model.")
        return error(400, "response_format is not supported") if kind == "json_schema" else completion('{"a": 1}')

    notices: list[str] = []
    asks = [Ask(str(number), (f"Question {number}?",), schema={"type": "object"}) for number in range(3)]
    with FakeEndpoint(strict) as endpoint:
        model = open_model(endpoint.spec, work=Path(), retry_policy=quick(concurrency=1), notice=notices.append)
        assert [type(outcome) for outcome in model.ask(asks)] == [Reply] * 3
    sent = [
        (
            "max_tokens" in received.body,
            "temperature" in received.body,
            received.body["response_format"]["type"],
        )
        for received in endpoint.received
    ]
    assert sent == [
        (True, True, "json_schema"),
        (False, True, "json_schema"),
        (False, False, "json_schema"),
        *[(False, False, "json_object")] * 3,
    ]
    assert notices == [f"{model.name} takes no temperature: it answers with its own, and not the same each time"]


def test_several_images_that_are_refused_name_the_option_of_the_server() -> None:
    ask = Ask("one", (PICTURE, PICTURE, "Which?"))
    outcome = outcome_of(always(error(400, "At most 1 image(s) may be provided in one request.")), ask)
    assert outcome == Failure(
        "one",
        "bad_request",
        "HTTP 400: At most 1 image(s) may be provided in one request. "
        """(with vLLM, start it with --limit-mm-per-prompt '{"image": N}' (older releases: image=N))""",
    )


def test_compressed_response_is_read_and_only_to_its_limit() -> None:
    body = gzip.compress(completion("fine").body)
    outcome = outcome_of(always(Response(body, headers={"Content-Encoding": "gzip"})))
    assert isinstance(outcome, Reply)
    assert outcome.text == "fine"
    bomb = gzip.compress(b" " * 100_000_000)
    code, _ = failure_of(always(Response(bomb, headers={"Content-Encoding": "gzip"})), attempt_timeout=10)
    assert code == "too_large"


def test_half_a_surrogate_pair_in_an_answer_can_be_stored(tmp_path: Path) -> None:
    body = json.dumps({"choices": [{"message": {"content": "odd \ud800"}}]}).encode()
    with FakeEndpoint(always(Response(body))) as endpoint, open_cache(tmp_path / "replies.sqlite") as cache:
        (outcome,) = ask_all(open_model(endpoint.spec, work=tmp_path), some_asks(1), cache=cache)
    assert isinstance(outcome, Reply)
    assert (outcome.text, outcome.prompt_tokens, outcome.finish) == (r"odd \ud800", None, "stop")


def test_caller_who_stops_half_way_waits_for_nothing() -> None:
    def slow_later(number: int, _: object) -> Response:
        return completion() if number == 0 else Response(pause=60)

    with FakeEndpoint(slow_later) as endpoint:
        outcomes = open_model(endpoint.spec, work=Path(), retry_policy=RetryPolicy(concurrency=4)).ask(some_asks(10))
        began = time.monotonic()
        assert isinstance(next(outcomes), Reply)
        outcomes.close()  # type: ignore[attr-defined]
        assert time.monotonic() - began < 30
