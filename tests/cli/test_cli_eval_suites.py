"""`blindpairs eval --suite` and `--readout`: the demo's small suites end to end, and errors that say what to do."""

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, Received, Response, completion, error
from pictured_pairs import benchmark_of
from typer.testing import CliRunner, Result

from blindpairs import vlm
from blindpairs.benchmark.hub import export_hub
from blindpairs.cli import app
from blindpairs.demo.small_suites import demo_llava_bench, demo_pope
from blindpairs.vlm import Answerer, open_model
from blindpairs.vlm.endpoint import Endpoint


def call(work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "--work", str(work), *map(str, arguments)])


def models(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["models"]
    return found


def asked_text(received: Received) -> str:
    """The texts of the user turn of a request, joined."""
    content = received.body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def yes_to_all(number: int, received: Received) -> Response:
    return completion("Yes")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small suites: four images each."""
    folder = tmp_path_factory.mktemp("suites")
    demo_pope(folder / "pope", images=4)
    demo_llava_bench(folder / "bench", images=4)
    return folder


def test_bare_pope_scores_both_baselines_on_the_scenes_of_the_demo(tmp_path: Path) -> None:
    result = call(tmp_path, "--suite", "pope")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("pope: 240 questions about 40 images, fingerprint ")
    assert [line for line in lines if line and not line.startswith(" ")][1:] == ["random", "yes"]
    split = "50.0 [35, 65] 50.0 100.0 66.7 100.0 [91, 100] 0 of 80"
    assert [" ".join(line.split()) for line in lines[-4:-1]] == [
        f"{name} {split}" for name in ("random", "popular", "adversarial")
    ]
    assert "this is a small pope of the demo's scenes" in result.stderr
    again = models(call(tmp_path, "--suite", "pope", "--json"))
    assert [(one["model"], one["answered_now"], one["answered"]) for one in again] == [
        ("random", 0, 240),
        ("yes", 0, 240),
    ]
    assert again[1]["scores"]["llava"]["mean"]["yes_ratio"]["share"] == 1.0


def test_pope_is_asked_once_and_read_by_every_rule(tmp_path: Path, made: Path) -> None:
    arguments = ("--suite", "pope", "--data", made / "pope", "--read", "ours", "--read", "lmms-eval", "--json")
    with FakeEndpoint(yes_to_all) as endpoint:
        plan = call(tmp_path, *arguments, "--model", endpoint.spec, "--plan")
        (first,) = models(call(tmp_path, *arguments, "--model", endpoint.spec))
        asked = len(endpoint.received)
        (second,) = models(call(tmp_path, *arguments, "--model", endpoint.spec))
        assert len(endpoint.received) == asked
    assert (first["answered"], first["answered_now"], second["answered_now"]) == (24, 24, 0)
    assert [one["requests"] for one in json.loads(plan.stdout)["plans"]] == [asked]
    assert asked < 24  # splits share questions, which are asked once
    assert first["scores"] == second["scores"]
    assert [one["mean"]["yes_ratio"]["share"] for one in first["scores"].values()] == [1.0, 0.5]
    names = [one["model"] for one in models(call(tmp_path, "--suite", "pope", "--data", made / "pope", "--json"))]
    assert names[:2] == ["random", "yes"]
    assert names[2:] == [first["model"]]
    (folder,) = tmp_path.glob("results/pope-*/tiny-pope-*")
    assert json.loads((folder / "scores.json").read_text())["scores"]["llava"]["mean"]["questions"] == 24


def test_model_without_images_has_a_folder_of_its_own(tmp_path: Path, made: Path) -> None:
    with FakeEndpoint(yes_to_all) as endpoint:
        both = ("--model", endpoint.spec, "--model", f"blind:{endpoint.spec}")
        found = models(call(tmp_path, "--suite", "pope", "--data", made / "pope", *both, "--json"))
        pictured = ["image_url" in str(one.body["messages"]) for one in endpoint.received]
    assert [one["model"].partition("tiny")[0] for one in found] == ["", "blind:"]
    assert [one["answered_now"] for one in found] == [24, 24]
    assert set(pictured) == {True, False}


def test_spent_budget_and_failures_keep_what_was_answered(tmp_path: Path, made: Path) -> None:
    data = ("--suite", "pope", "--data", made / "pope")
    with FakeEndpoint(lambda number, _: error(400, "too odd") if number == 5 else completion("No.")) as endpoint:
        plan = call(tmp_path, *data, "--model", endpoint.spec, "--plan")
        assert (plan.exit_code, endpoint.received) == (0, [])
        assert "tiny (pope): " in plan.stdout
        spent = call(tmp_path, *data, "--model", endpoint.spec, "--max-requests", 3)
        assert (spent.exit_code, len(endpoint.received)) == (3, 3)
        assert "the budget of 3 requests is spent" in spent.stderr
        assert "incomplete, so without scores: " in spent.stdout
        failed = call(tmp_path, *data, "--model", endpoint.spec)
        assert failed.exit_code == 4
        assert "questions got no answer: run the same command again" in failed.stderr
        assert "failed: bad_request, such as " in failed.stdout
        (whole,) = models(call(tmp_path, *data, "--model", endpoint.spec, "--json"))
    assert (whole["complete"], whole["answered"]) == (True, 24)


def test_dead_endpoint_ends_with_its_code(tmp_path: Path, made: Path) -> None:
    with FakeEndpoint(lambda number, _: error(401, "no key")) as endpoint:
        result = call(tmp_path, "--suite", "pope", "--data", made / "pope", "--model", endpoint.spec)
    assert result.exit_code == 6
    assert "incomplete, so without scores: 24 questions" in result.stdout


def test_model_that_says_nothing_is_not_asked_again(tmp_path: Path, made: Path) -> None:
    with FakeEndpoint(lambda number, _: completion("")) as endpoint:
        command = ("--suite", "pope", "--data", made / "pope", "--read", "ours", "--json", "--model", endpoint.spec)
        (found,) = models(call(tmp_path, *command))
        asked = len(endpoint.received)
        models(call(tmp_path, *command))
        assert len(endpoint.received) == asked
    assert found["scores"]["ours"]["mean"]["unreadable"] == 24


def test_local_model_answers_pope(tmp_path: Path, made: Path, llava: Path) -> None:
    small = tmp_path / "two images"
    demo_pope(small, images=1)
    (found,) = models(call(tmp_path, "--suite", "pope", "--data", small, "--model", f"hf:{llava}", "--json"))
    assert (found["complete"], found["answered"]) == (True, 6)


def test_bench_of_the_demo_is_judged_by_its_rule(tmp_path: Path) -> None:
    with FakeEndpoint(lambda number, _: completion("A cat at the beach, facing left.")) as endpoint:
        first = call(tmp_path, "--suite", "llava-bench", "--model", endpoint.spec)
        assert first.exit_code == 0, first.output
        assert len(endpoint.received) == 72
        again = call(tmp_path, "--suite", "llava-bench", "--judge", "rule")
        assert len(endpoint.received) == 72
    assert again.stdout == first.stdout
    assert "judged by the demo's rule" in first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].startswith("llava-bench: 72 questions about 24 images, fingerprint ")
    assert lines[3].split()[:6] == ["judged", "by", "demo-rule,", "read", "by", "ours"]
    assert [line.split()[0] for line in lines[4:]] == ["conv", "detail", "complex", "all"]
    assert lines[7].endswith("0 of 72")


def test_bench_is_judged_once_and_unreadable_reviews_are_counted_apart(tmp_path: Path, made: Path) -> None:
    def reply(number: int, received: Received) -> Response:
        if "[Assistant 1]" not in (text := asked_text(received)):
            return completion("A cat.")
        return completion("8 4\nShort." if "Describe" in text else "I cannot say.")

    with FakeEndpoint(reply) as endpoint:
        data = ("--suite", "llava-bench", "--data", made / "bench", "--judge", endpoint.spec)
        plan = call(tmp_path, *data, "--model", endpoint.spec, "--plan", "--json")
        (planned,) = json.loads(plan.stdout)["plans"]
        assert (planned["requests"], planned["judge"]["requests"], endpoint.received) == (12, 12, [])
        (found,) = models(
            call(tmp_path, *data, "--model", endpoint.spec, "--read", "ours", "--read", "llava", "--json")
        )
        assert len(endpoint.received) == 24
        models(call(tmp_path, *data, "--json"))
        assert len(endpoint.received) == 24
    ours, llava = found["scores"]["ours"], found["scores"]["llava"]
    assert (ours["all"]["relative"], ours["all"]["failed"], ours["all"]["reviews"]) == (50.0, 8, 12)
    assert ours["categories"]["conv"]["relative"] is None
    assert llava["all"]["reference"] == pytest.approx((8 * 4 - 8) / 12)


def test_recorded_answers_and_reviews_of_llava_are_scored(tmp_path: Path, made: Path) -> None:
    answers, reviews = tmp_path / "answers.jsonl", tmp_path / "reviews.jsonl"
    lines = [json.dumps({"question_id": number, "text": "a cat", "model_id": "llava-7b"}) for number in range(12)]
    answers.write_text("\n".join(lines))
    reviews.write_text("\n".join(json.dumps({"question_id": n, "content": "10 5\nx"}) for n in range(12)))
    data = ("--suite", "llava-bench", "--data", made / "bench", "--answers", answers, "--judge", reviews, "--json")
    (found,) = models(call(tmp_path, *data))
    assert (found["model"], found["scores"]["ours"]["all"]["relative"]) == ("llava-7b", 50.0)


def test_file_without_answers_and_reviews_without_scores_are_said(tmp_path: Path, made: Path) -> None:
    answers, reviews = tmp_path / "answers.jsonl", tmp_path / "reviews.jsonl"
    answers.write_text("\n")
    reviews.write_text("\n".join(json.dumps({"question_id": n, "content": "0 5\nx"}) for n in range(12)))
    data = ("--suite", "llava-bench", "--data", made / "bench", "--answers", answers, "--judge", reviews)
    empty = call(tmp_path, *data)
    assert (empty.exit_code, empty.stdout) == (3, "")
    assert f"{answers} holds no answers to llava-bench" in empty.stderr
    answers.write_text("\n".join(json.dumps({"question_id": n, "text": "a cat"}) for n in range(12)))
    lines = call(tmp_path, *data).stdout.splitlines()
    assert lines[-2].endswith("12 of 12")
    assert lines[-1] == "  12 of 12 reviews give no two scores; they are left out."


def test_model_that_is_named_twice_is_asked_once(tmp_path: Path, made: Path) -> None:
    named = ("--model", "yes", "--model", "yes")
    assert len(models(call(tmp_path, "--suite", "pope", "--data", made / "pope", *named, "--json"))) == 1


def test_models_of_a_suite_are_opened_one_after_the_other(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Endpoint] = weakref.WeakSet()
    most: list[int] = []

    def counted(spec: str, **options: Any) -> Answerer:
        opened = open_model(spec, **options)
        assert isinstance(opened, Endpoint)
        alive.add(opened)
        gc.collect()
        most.append(len(alive))
        return opened

    monkeypatch.setattr(vlm, "open_model", counted)
    with FakeEndpoint(yes_to_all) as one, FakeEndpoint(yes_to_all) as two, FakeEndpoint(yes_to_all) as three:
        named = [part for endpoint in (one, two, three) for part in ("--model", endpoint.spec)]
        assert len(models(call(tmp_path, "--suite", "pope", "--data", made / "pope", *named, "--json"))) == 3
    assert max(most) <= 2  # the next one, and the last one until its variable is reused


def test_recorded_answers_to_pope_need_the_list_of_their_ids(tmp_path: Path, made: Path) -> None:
    folder = shutil.copytree(made / "pope", tmp_path / "pope")
    asked: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for split in ("random", "popular", "adversarial"):
        for line in (folder / f"coco_pope_{split}.json").read_text().splitlines():
            one = json.loads(line)
            number = len(asked)
            asked.append({**one, "question_id": number, "category": split})
            said.append({"question_id": number, "text": one["label"].title(), "model_id": "llava-7b"})
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(map(json.dumps, said)))
    command = ("--suite", "pope", "--data", folder, "--answers", answers, "--json")
    lacking = call(tmp_path, *command)
    assert lacking.exit_code == 3
    assert "llava_pope_test.jsonl is missing" in lacking.stderr
    (folder / "llava_pope_test.jsonl").write_text("\n".join(map(json.dumps, asked)))
    (found,) = models(call(tmp_path, *command))
    assert (found["model"], found["scores"]["llava"]["mean"]["accuracy"]["share"]) == ("llava-7b", 1.0)


def test_incomplete_folder_is_described_before_anything_is_asked(tmp_path: Path, made: Path) -> None:
    folder = shutil.copytree(made / "pope", tmp_path / "pope")
    (folder / "coco_pope_popular.json").unlink()
    next((folder / "val2014").iterdir()).unlink()
    with FakeEndpoint(yes_to_all) as endpoint:
        result = call(tmp_path, "--suite", "pope", "--data", folder, "--model", endpoint.spec)
        assert endpoint.received == []
    assert result.exit_code == 3
    assert "is not a complete POPE" in result.stderr
    assert "coco_pope_popular.json is missing" in result.stderr
    assert "1 of 4 images are not in val2014" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--suite", "mme"), 2, "mme"),
        (("--data", "POPE"), 3, "say which, --suite pope"),
        (("--suite", "pope", "--data", "nowhere"), 3, "there is no folder nowhere"),
        (("--suite", "pope", "--swap", "--free-form"), 3, "leave --swap, --free-form out"),
        (("--suite", "pope", "--judge", "rule"), 3, "leave --judge out"),
        (("--suite", "pope", "--read", "official"), 3, "'official' is no rule of a suite"),
        (("--suite", "pope", "--model", "first"), 3, "'first' is not a model that answers"),
        (("--suite", "llava-bench"), 3, "nobody has answered llava-bench yet: name a model"),
        (("--suite", "llava-bench", "--data", "bench"), 3, "LLaVA-Bench needs a judge"),
        (("--suite", "llava-bench", "--data", "bench", "--judge", "rule"), 3, "knows the demo's scenes only"),
        (("--layer", "3"), 3, "--layer is for --readout"),
        (("--readout", "auto", "--suite", "pope"), 3, "leave --suite out"),
        (("--readout", "clip"), 3, "no such column, there is no store in"),
        (("--readout", "demo:eye"), 3, "'demo:eye' is not an encoder spec"),
    ],
)
def test_mistake_is_answered_with_what_to_do(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    result = call(tmp_path, *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.glob("results/*"))
    errors = result.stderr[result.stderr.find("error: ") :].splitlines()
    assert code == 2 or len(errors) <= 2


def test_readout_of_a_small_benchmark_stands_beside_exchanged_answers(tmp_path: Path) -> None:
    doors = tmp_path / "doors"
    export_hub(benchmark_of(6, second=None), doors)
    command = ("--benchmark", doors, "--readout", "demo:dino", "--readout", "demo:dino", "--layer", 1)
    result = call(tmp_path, *command)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("doors: 6 pairs, fingerprint ")
    assert lines[3].startswith("% right, demo:dino, layer 1")
    assert [line.partition("  ")[0] for line in lines[4:]] == ["State and Condition (6 pairs)", "all (6 pairs)"]
    (found,) = json.loads(call(tmp_path, *command, "--json").stdout)["readouts"]
    assert (found["layer"], found["patterns"]["State and Condition"]["pairs"]) == (1, 6)
    assert [found["all"][name]["count"] for name in ("pooled", "patches", "nearest")] == [6, 6, 6]
    assert [found["shuffled"]["all"][name]["count"] for name in ("pooled", "patches", "nearest")] == [6, 6, 6]


def test_readout_of_one_pair_says_that_it_was_not_tried(tmp_path: Path) -> None:
    export_hub(benchmark_of(1, second=None), tmp_path / "one")
    result = call(tmp_path, "--benchmark", tmp_path / "one", "--readout", "demo:dino")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("  1 of 1 pairs are not tried: no other pair has their answers")


def test_readout_takes_the_columns_of_the_store(tmp_path: Path, scenes: Path) -> None:
    doors = tmp_path / "doors"
    export_hub(benchmark_of(4, second=None), doors)
    (tmp_path / "embeddings").symlink_to(scenes / "embeddings")
    result = call(tmp_path, "--benchmark", doors, "--readout", "auto", "--readout", "clip", "--json")
    assert result.exit_code == 0, result.output
    assert [one["encoder"] for one in json.loads(result.stdout)["readouts"]] == ["demo:clip", "demo:dino"]
    wrong = call(tmp_path, "--benchmark", doors, "--readout", "eye")
    assert "no such column, the store has clip, dino" in wrong.stderr
