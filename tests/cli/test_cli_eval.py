"""`blindpairs eval`: baselines on what ships, models on what is given, and errors that say what to do."""

import json
from pathlib import Path

import pytest
from fake_endpoint import FakeEndpoint, completion, error
from pictured_pairs import benchmark_of
from typer.testing import CliRunner, Result

from blindpairs.benchmark.hub import export_hub
from blindpairs.benchmark.native import read_native
from blindpairs.cli import app
from blindpairs.evaluate.study import Study
from blindpairs.workspace import Workspace


def call(work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "--work", str(work), *map(str, arguments)])


@pytest.fixture
def doors(tmp_path: Path) -> Path:
    """The folder of a benchmark of four pairs."""
    export_hub(benchmark_of(4, second=None), tmp_path / "doors")
    return tmp_path / "doors"


def test_bare_command_scores_the_baselines_on_the_demo(tmp_path: Path) -> None:
    result = call(tmp_path / "work")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("blindpairs-demo: 144 pairs and 144 controls, fingerprint ")
    assert lines[1:3] == ["  ground truth original", "  read by blindpairs' own rule"]
    assert lines[5].split() == ["guessing,", "on", "average", "25.0", "50.0", "50.0", "0.0", "50.0"]
    assert lines[7].split() == "first 0.0 [0, 3] 50.0 [50, 50] 100.0 [97, 100] 0.0 [0, 3] 100.0 [97, 100]".split()
    assert lines[11].split() == "first 0.0 [0, 3] 0.0 [0, 3] +0.0 [-3, 3]".split()
    assert [line.split()[-2:] for line in lines[14:23]] == [["[0,", "19]"]] * 9
    assert "this is the demo's" in result.stderr
    again = call(tmp_path / "work", "--json")
    models = json.loads(again.stdout)["models"]
    assert [(one["model"], one["answered_now"], one["answered_before"]) for one in models] == [
        ("random", 0, 1152),
        ("first", 0, 1152),
    ]
    assert models[1]["scores"]["question_accuracy"]["share"] == 0.5


def test_endpoint_is_asked_in_both_orders_and_its_answers_are_listed_later(tmp_path: Path, doors: Path) -> None:
    with FakeEndpoint(lambda number, _: completion("(a)")) as endpoint:
        result = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec, "--swap", "--json")
        assert result.exit_code == 0, result.output
        assert len(endpoint.received) == 16
    given, other = json.loads(result.stdout)["models"]
    assert (given["protocol"]["exchanged"], other["protocol"]["exchanged"]) == (False, True)
    same = other["both_orders"]["same_option"]
    assert (same["hits"], same["count"]) == (0, 8)
    bare = call(tmp_path, "--benchmark", doors)
    rows = [line.split("  ")[0] for line in bare.stdout.splitlines()]
    at = rows.index("% of blind pairs")
    assert rows[at + 1 : at + 6] == ["guessing, on average", "random", "first", "tiny (ours)", "tiny, exchanged (ours)"]


def test_failing_endpoint_ends_with_its_code_and_the_table_says_incomplete(tmp_path: Path) -> None:
    doors = tmp_path / "more doors"
    export_hub(benchmark_of(10, second=None), doors)
    with FakeEndpoint(lambda number, _: completion("(a)") if number < 3 else error(401, "no key")) as endpoint:
        result = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec)
    assert result.exit_code == 6
    assert "tiny (ours)" in result.stdout
    assert "incomplete: " in result.stdout
    assert "questions have no answer" in result.stdout
    part = call(tmp_path, "--benchmark", doors, "--json")
    assert part.exit_code == 0
    recorded = json.loads(part.stdout)["models"][-1]
    assert (recorded["complete"], recorded["scores"]) == (False, None)
    assert recorded["counts"]["answered"] == 3


def test_question_without_an_answer_ends_with_code_4(tmp_path: Path, doors: Path) -> None:
    with FakeEndpoint(lambda number, _: error(400, "too odd") if number == 2 else completion("(a)")) as endpoint:
        result = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec)
        assert result.exit_code == 4
        assert "1 questions got no answer: run the same command again" in result.stderr
        partly = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec, "--complete-pairs")
    assert partly.exit_code == 0, partly.output  # the second call asked the one question again
    assert "incomplete" not in partly.stdout


def test_plan_asks_nothing_and_later_knows_the_time(tmp_path: Path, doors: Path) -> None:
    with FakeEndpoint(lambda number, _: completion("(a)")) as endpoint:
        first = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec, "--plan")
        assert endpoint.received == []
        assert "tiny (ours): 8 requests with 8 images, about 8,192 tokens of prompts" in first.stdout
        spent = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec, "--max-requests", 3)
        assert (spent.exit_code, len(endpoint.received)) == (3, 3)
        assert "the budget of 3 requests is spent" in spent.stderr
        second = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec, "--plan", "--json")
    (plan,) = json.loads(second.stdout)["plans"]
    assert (plan["requests"], plan["answered"]) == (5, 3)
    assert plan["seconds"] > 0


def test_shards_of_different_processes_add_up(tmp_path: Path, doors: Path) -> None:
    with FakeEndpoint(lambda number, _: completion("(b)")) as endpoint:
        for shard in ("1/2", "0/2"):
            result = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec, "--shard", shard, "--json")
            assert result.exit_code == 0
        assert len(endpoint.received) == 8
    (model,) = json.loads(result.stdout)["models"]
    assert (model["complete"], model["scores"]["first_option"]["hits"]) == (True, 0)


def test_other_readers_and_their_differences_are_printed(tmp_path: Path, doors: Path) -> None:
    with FakeEndpoint(lambda number, _: completion("From the camera it is (b)")) as endpoint:
        read = ("--read", "lmms-eval", "--explain")
        result = call(tmp_path, "--benchmark", doors, "--model", endpoint.spec, *read)
    assert result.exit_code == 0, result.output
    assert "  read by lmms-eval: mmvp_accuracy 0.5, mmvp_pair_accuracy 0" in result.stdout
    assert "'From the camera it is (b)' is wrong for ours, right" in result.stdout


def test_people_of_a_study_are_scored_and_compared_like_models(tmp_path: Path, doors: Path) -> None:
    benchmark = read_native(doors)
    with Study(Workspace(tmp_path).results, benchmark) as study:
        for name in ("Ann", "Ben"):
            for item in study.next_items(name, 99):
                study.answer(name, item.token, 0, 3.0)
    refused = call(tmp_path, "--benchmark", doors, "--model", "human:Ann", "--swap")
    assert (refused.exit_code, "--swap is for a model that is asked" in refused.stderr) == (3, True)
    result = call(tmp_path, "--benchmark", doors, "--model", "human:Ann", "--json")
    assert result.exit_code == 0, result.output
    (person,) = json.loads(result.stdout)["models"]
    assert (person["model"], person["complete"], person["protocol"]["name"]) == ("human:Ann", True, "study")
    assert person["scores"]["question_accuracy"]["share"] == 0.5
    table = call(tmp_path, "--benchmark", doors)
    assert [line.split()[0] for line in table.stdout.splitlines() if line.startswith("human:")][:2] == [
        "human:Ann",
        "human:Ben",
    ]
    compared = call(tmp_path, "--benchmark", doors, "--compare", "human:Ann", "--compare", "human:Ben")
    assert compared.exit_code == 0, compared.output
    assert "human:Ben" in compared.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--free-form",), 3, "need a judge: name a model, --judge SPEC"),
        (("--free-form", "--swap", "--judge", "hf:x"), 3, "goes neither with --ask nor with --swap"),
        (("--explain",), 3, "--explain needs the reader"),
        (("--model", "gpt"), 3, "'gpt' is not a model that answers"),
        (("--model", "first", "--model", "blind:gpt"), 3, "'gpt' is not a model that answers"),
        (("--model", "human:ada"), 3, "human:ada: no answers are recorded"),
        (("--model", "recorded:x"), 3, "no such folder"),
        (("--ground-truth", "mine"), 3, "has no ground truth 'mine'"),
        (("--shard", "2/2"), 3, "--shard '2/2' is not i/n"),
        (("--answers", "nowhere.jsonl"), 3, "nowhere.jsonl"),
        (("--benchmark", "nowhere"), 3, "nowhere does not exist"),
        (("--ask", "gpt"), 2, "gpt"),
        (("--read", "gpt", "--model", "first"), 3, "there is no reader 'gpt'"),
        (("--read", "official"), 3, "--read official needs a judge"),
        (("--free-form", "--judge", "gpt", "--model", "openai:x@http://localhost:1/v1"), 3, "'gpt' is not a model"),
    ],
)
def test_mistake_is_answered_with_what_to_do(
    tmp_path: Path, doors: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    where = () if "--benchmark" in arguments else ("--benchmark", doors)
    result = call(tmp_path, *where, *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "results").exists()
