"""A saved run answers the same in this process and behind `transformers serve`, which has only its folder."""

from dataclasses import replace
from pathlib import Path

from drawn_pictures import picture
from served_llava import serving
from tiny_mof import demo_mof, save_language_model

from blindpairs.mof.building import save_mof
from blindpairs.vlm import Ask, Reply, ask_all, open_cache, open_model

ASKS = [
    Ask("one", (picture(3), "What is it?"), max_tokens=12),
    Ask("other", (picture(4), "What is it?"), max_tokens=12),
    Ask("two", ("Image 1:", picture(1), "Image 2:", picture(2), "Are they the same?"), max_tokens=12),
    Ask("text", ("Say a word.",), max_tokens=12),
    Ask("told", (picture(3), "What is it?"), "Answer in one word.", max_tokens=12),
]


def test_run_answers_the_same_behind_an_endpoint_and_in_this_process(tmp_path: Path) -> None:
    language_model = save_language_model(tmp_path / "language-model")
    run = tmp_path / "runs" / "both" / "checkpoint-1"
    save_mof(*demo_mof(language_model, mode="interleaved", feature_norm="layernorm"), run)
    with serving(run, "--trust-remote-code") as spec, open_cache(None) as cache:
        remote = {one.key: one for one in ask_all(open_model(spec, work=tmp_path), ASKS, cache=cache)}
        local = {one.key: one for one in ask_all(open_model("run:both", work=tmp_path), ASKS, cache=cache)}
    for ask in ASKS:
        ours, theirs = local[ask.key], remote[ask.key]
        assert isinstance(ours, Reply), ours
        assert isinstance(theirs, Reply), theirs
        assert replace(ours, seconds=0) == replace(theirs, seconds=0)
    assert len({one.text for one in local.values() if isinstance(one, Reply)}) == len(ASKS)
