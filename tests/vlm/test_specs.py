"""A spec names one model in one place; a wrong one says what is right, and shows no password."""

from pathlib import Path

import pytest

from blindpairs.errors import ConfigError
from blindpairs.vlm import open_model
from blindpairs.vlm.specs import SERVICES, parse_model_spec


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.mark.parametrize(
    ("text", "model", "base_url"),
    [
        ("openai:llava@http://gpu:8000", "llava", "http://gpu:8000/v1"),
        ("openai:llava@http://gpu:8000/v1/", "llava", "http://gpu:8000/v1"),
        ("openai:llava@https://gpu/v1/chat/completions", "llava", "https://gpu/v1"),
        ("openai:g@https://cloud.example/v1beta/openai/", "g", "https://cloud.example/v1beta/openai"),
        ("openai:org/model@main@http://[::1]:8000", "org/model@main", "http://[::1]:8000/v1"),
        ("openai:/models/llava@transformers", "/models/llava", "http://localhost:8000/v1"),
        ("openai:llava:7b@ollama", "llava:7b", "http://localhost:11434/v1"),
        ("openai:gpt-9", "gpt-9", "https://api.openai.com/v1"),
    ],
)
def test_endpoint_is_a_model_and_a_base_address(text: str, model: str, base_url: str) -> None:
    parsed = parse_model_spec(text)
    assert (parsed.kind, parsed.target, parsed.base_url) == ("openai", model, base_url)


def test_address_that_is_left_out_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu:8000/v1")
    assert parse_model_spec("openai:llava").base_url == "http://gpu:8000/v1"


def test_model_of_transformers_and_run_are_taken_as_they_are() -> None:
    assert parse_model_spec("hf:llava-hf/llava-1.5-7b-hf").target == "llava-hf/llava-1.5-7b-hf"
    assert parse_model_spec(" run:mof-1.5_a ").target == "mof-1.5_a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llava", f"'llava' is not a model that answers: give hf:REPO_OR_FOLDER, .*{', '.join(SERVICES)}"),
        ("openai:", "'openai:' is not a model that answers"),
        ("run:../secrets", "run:../secrets: the name of a run has letters"),
        ("openai:llava@nowhere", "openai:llava@nowhere: 'nowhere' is neither an address .* nor one of vllm, "),
        ("openai:llava@http://", "http:// is not an address: it names no host"),
        ("openai:llava@http:///v1", "http:///v1 is not an address: it names no host"),
        ("openai:llava@http://gpu:high/v1", r"http://gpu:high/v1 is not an address \("),
        ("openai:llava@http://gpu/v1?key=1", "give the base address only, without [?] and #"),
        ("openai:llava@http://me:secret@gpu/v1", r"http://...@gpu/v1: no password in an address; put a key into"),
        ("openai:@http://gpu/v1", "openai:@http://gpu/v1 names no model"),
    ],
)
def test_wrong_spec_says_what_is_right(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}") as refused:
        parse_model_spec(text)
    assert "secret@" not in str(refused.value)


def test_opening_an_endpoint_asks_it_nothing() -> None:
    model = open_model("openai:llava@http://127.0.0.1:9/v1", work=Path())
    assert model.name == "llava@127.0.0.1:9"
    assert model.settings == {"kind": "openai", "model": "llava", "base_url": "http://127.0.0.1:9/v1"}
