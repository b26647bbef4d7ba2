"""`blindpairs eval --suite following`, and both axes side by side in a bare `blindpairs eval` of the demo."""

import base64
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answering_model import AnsweringModel
from fake_endpoint import FakeEndpoint, Received, Response, completion
from pictured_pairs import benchmark_of
from typer.testing import CliRunner, Result

from blindpairs import vlm
from blindpairs.benchmark.hub import export_hub
from blindpairs.cli import app
from blindpairs.demo.following import demo_following
from blindpairs.errors import InputError
from blindpairs.vlm import Ask

IMAGES = 4
QUESTIONS = 7 * IMAGES


def call(work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "--work", str(work), *map(str, arguments)])


def parsed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the suite, of a few images."""
    folder = tmp_path_factory.mktemp("following")
    demo_following(folder, images=IMAGES)
    return folder


@pytest.fixture
def work(tmp_path: Path, made: Path) -> Path:
    """A work folder in which the suite is made already."""
    shutil.copytree(made, tmp_path / "work" / "suites" / "following")
    return tmp_path / "work"


def known(work: Path) -> dict[tuple[bytes, str], str]:
    """The right answers, by image and text."""
    questions = demo_following(work / "suites" / "following")
    return {(Path(one.uri).read_bytes(), one.text): one.answer for one in questions}


def test_exactness_and_form_stand_beside_each_other_and_nothing_is_asked_twice(work: Path) -> None:
    answers = known(work)

    def reply(number: int, received: Received) -> Response:
        parts = received.body["messages"][-1]["content"]
        text = "".join(part.get("text", "") for part in parts)
        (url,) = (part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        if "list" in text.lower():
            return completion("- Yak\n- moon")
        return completion(answers[base64.b64decode(url.partition(",")[2]), text])

    with FakeEndpoint(reply) as endpoint:
        command = ("--suite", "following", "--model", endpoint.spec)
        plan = call(work, *command, "--plan", "--json")
        assert (json.loads(plan.stdout)["plans"][0]["requests"], endpoint.received) == (QUESTIONS, [])
        spent = call(work, *command, "--max-requests", 3)
        assert (spent.exit_code, len(endpoint.received)) == (3, 3)
        assert f"incomplete, so without scores: {QUESTIONS - 3} questions" in spent.stdout
        shown = call(work, *command)
        assert len(endpoint.received) == QUESTIONS
        (found,) = parsed(call(work, *command, "--json"))["models"]
        assert len(endpoint.received) == QUESTIONS
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"following: {QUESTIONS} questions about {IMAGES} images, fingerprint ")
    table = {line.split("  ")[1]: line for line in lines[3:]}
    assert [line.split("  ")[1] for line in lines[3:]] == [
        "%, read to the letter",
        "category",
        "sentence",
        "capitals",
        "json",
        "list",
        "comma",
        "four",
        "all forms",
    ]
    assert table["list"].split()[1:4] == ["0.0", "[0,", "49]"]
    assert table["all forms"].split()[2:] == ["83.3", "[36,", "98]", "100.0", "[51,", "100]", "0", "of", "24"]
    scores = found["scores"]["ours"]
    assert (scores["forms"]["list"]["exact"]["share"], scores["forms"]["list"]["form"]["share"]) == (0.0, 1.0)
    assert scores["category"]["exact"]["share"] == 1.0
    assert found["answered_now"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "x"), "scenes of the demo alone, so leave --data out"),
        (("--answers", "x.jsonl"), "nobody else asks its questions, so leave --answers out"),
        (("--read", "llava"), "leave --read out"),
        (("--judge", "hf:x"), "leave --judge out"),
        (("--model", "random"), "'random' is not a model that answers"),
        ((), "nobody has answered following yet: name a model"),
    ],
)
def test_what_it_has_no_use_for_is_refused(work: Path, arguments: tuple[str, ...], words: str) -> None:
    refused = call(work, "--suite", "following", *arguments)
    assert (refused.exit_code, refused.stdout) == (3, ""), refused.output
    assert words in refused.stderr
    assert not list(work.glob("results/*"))


@pytest.fixture
def asked(work: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two runs whose model follows every instruction and knows nothing else; which were loaded, in order."""
    answers = known(work)
    opened: list[str] = []
    for name in ("clip", "interleaved"):
        checkpoint = work / "runs" / name / "checkpoint-3"
        checkpoint.mkdir(parents=True)
        (checkpoint / "config.json").write_text("{}")
        (checkpoint / "model.safetensors").write_bytes(name.encode())

    def answer(ask: Ask) -> str | None:
        return answers.get((ask.pictures[0].data, ask.texts[0]), "(a)")

    def scripted(spec: str, **_: object) -> AnsweringModel:
        opened.append(spec)
        if spec == "run:broken":
            raise InputError("run:broken: its weights are cut off")
        model = AnsweringModel(answer)
        model.name = spec
        model.settings = {"kind": "run", "spec": spec}
        return model

    monkeypatch.setattr(vlm, "open_model", scripted)
    return opened


@pytest.fixture
def small_demo(tmp_path: Path) -> Path:
    """A benchmark of two pairs that is called as the demo's."""
    export_hub(replace(benchmark_of(2, second=None), name="blindpairs-demo"), tmp_path / "blindpairs-demo")
    return tmp_path / "blindpairs-demo"


def axes(work: Path, *arguments: object) -> Mapping[str, Any]:
    return {one["model"]: one for one in parsed(call(work, *arguments, "--json"))["axes"]}


def test_bare_command_puts_both_axes_of_each_run_beside_each_other(
    work: Path, small_demo: Path, asked: list[str]
) -> None:
    given = ("--benchmark", small_demo)
    plans = parsed(call(work, *given, "--plan", "--json"))["plans"]
    runs = [(one["model"], one["requests"]) for one in plans if one["model"].startswith("run:")]
    assert sorted(runs) == sorted(
        (f"run:{name}", count) for name in ("clip", "interleaved") for count in (4, QUESTIONS)
    )
    assert not list(work.glob("results/*/*/answers.jsonl"))
    asked.clear()
    first = axes(work, *given)
    assert asked == ["run:clip", "run:interleaved"]  # once each, for both axes
    assert set(first) == set(asked)
    one = first["run:clip"]
    assert (one["pair_accuracy"]["hits"], one["pair_accuracy"]["count"]) == (0, 2)
    assert one["following"]["scores"]["ours"]["together"]["exact"]["share"] == 1.0
    assert one["following"]["answered_now"] == QUESTIONS
    asked.clear()
    again = axes(work, *given)
    assert asked == []
    assert again["run:clip"]["following"] == {**one["following"], "answered_now": 0}
    lines = call(work, *given).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("both axes, %"))
    assert [line.split("  ")[0] for line in lines[start + 1 : start + 3]] == ["clip", "interleaved"]
    assert "100.0 [51, 100]" in lines[start + 1]
    (file,) = work.glob("results/following-*/clip-*/answers.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert axes(work, *given)["run:clip"]["following"]["complete"]
    assert asked == ["run:clip"]  # for the one answer that is missing


def test_changed_checkpoint_is_asked_both_again(work: Path, small_demo: Path, asked: list[str]) -> None:
    first = axes(work, "--benchmark", small_demo)
    asked.clear()
    (work / "runs" / "clip" / "checkpoint-3" / "config.json").write_text("{} ")
    assert axes(work, "--benchmark", small_demo).keys() == first.keys()
    assert asked == ["run:clip"]


def test_run_that_cannot_be_loaded_is_left_out_of_both_axes(work: Path, small_demo: Path, asked: list[str]) -> None:
    for name in ("clip", "interleaved"):
        shutil.rmtree(work / "runs" / name / "checkpoint-3")
    checkpoint = work / "runs" / "broken" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "model.safetensors").write_bytes(b"cut off")
    result = call(work, "--benchmark", small_demo)
    assert result.exit_code == 0, result.output
    assert asked == ["run:broken"]
    assert "left out: run:broken: its weights are cut off" in result.stderr
    assert "both axes" not in result.stdout


def test_other_benchmarks_named_models_and_shards_have_one_axis(
    work: Path, small_demo: Path, tmp_path: Path, asked: list[str]
) -> None:
    export_hub(benchmark_of(2, second=None), tmp_path / "doors")
    assert "axes" not in parsed(call(work, "--benchmark", tmp_path / "doors", "--json"))
    assert "axes" not in parsed(call(work, "--benchmark", small_demo, "--model", "run:clip", "--json"))
    assert "axes" not in parsed(call(work, "--benchmark", small_demo, "--shard", "0/2", "--json"))
    assert not list(work.glob("results/following-*"))


def test_spent_budget_leaves_the_axis_incomplete_and_says_so(work: Path, small_demo: Path, asked: list[str]) -> None:
    spent = call(work, "--benchmark", small_demo, "--max-requests", 4 + 3)
    assert spent.exit_code == 3
    assert "the budget of 7 requests is spent" in spent.stderr
    assert f"incomplete: {QUESTIONS - 3} without an answer" in spent.stdout
    assert call(work, "--benchmark", small_demo).exit_code == 0
