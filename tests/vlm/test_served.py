"""A real endpoint, `transformers serve`: the same model answers the same behind it and in this process."""

from dataclasses import replace
from pathlib import Path

from drawn_pictures import picture

from blindpairs.vlm import Ask, Failure, Reply, RetryPolicy, ask_all, open_cache, open_model

ASKS = [
    Ask("two", ("Image 1:", picture(1), "Image 2:", picture(2), "Are they the same?"), max_tokens=24),
    Ask("one", (picture(3), "What is it?"), max_tokens=24),
    Ask("other", (picture(4), "What is it?"), max_tokens=24),
    Ask("text", ("Say a word.",), max_tokens=24),
    Ask("told", (picture(3), "What is it?"), "Answer in one word.", max_tokens=24),
]


def test_same_model_answers_the_same_behind_an_endpoint_and_in_this_process(served: str, llava: Path) -> None:
    with open_cache(None) as cache:
        remote = {one.key: one for one in ask_all(open_model(served, work=Path()), ASKS, cache=cache)}
        local = {one.key: one for one in ask_all(open_model(f"hf:{llava}", work=Path()), ASKS, cache=cache)}
    assert sorted(remote) == sorted(ask.key for ask in ASKS)
    for key, theirs in remote.items():
        ours = local[key]
        assert isinstance(theirs, Reply), theirs
        assert isinstance(ours, Reply), ours
        assert replace(ours, seconds=0) == replace(theirs, seconds=0)
    assert len({one.text for one in remote.values() if isinstance(one, Reply)}) == len(ASKS)


def test_usage_is_counted_with_the_tokens_of_both_images(served: str) -> None:
    text = "USER: Image 1:Image 2:Are they the same? ASSISTANT:"
    (reply,) = open_model(served, work=Path()).ask(ASKS[:1])
    assert isinstance(reply, Reply)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.finish) == (len(text) + 2 * 16, 24, "length")


def test_broken_json_of_a_real_model_ends_in_one_failure_after_one_repair(served: str) -> None:
    ask = replace(ASKS[1], schema={"type": "object", "required": ["answer"]})
    with open_cache(None) as cache:
        (outcome,) = ask_all(open_model(served, work=Path()), [ask], cache=cache)
    assert outcome == Failure(
        "one", "broken_json", "its reply cannot be used: it holds no JSON object (it was cut at max_tokens=24)"
    )


def test_image_that_is_none_is_a_failure_and_the_server_lives(served: str) -> None:
    broken = Ask("broken", (replace(picture(1), data=b"no image"), "What is it?"), max_tokens=4)
    model = open_model(
        served, work=Path(), retry_policy=RetryPolicy(attempts=2)
    )  # its word for a bad image is status 500
    outcomes = {one.key: one for one in model.ask([broken, ASKS[1]])}
    assert isinstance(outcomes["broken"], Failure)
    assert isinstance(outcomes["one"], Reply)
