"""`blindpairs train-mof` and `chat`: from files to a run that eval, draft and chat ask by its name."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from pictured_pairs import benchmark_of
from PIL import Image
from small_run import write_data
from typer.testing import CliRunner, Result

from blindpairs.benchmark.hub import export_hub
from blindpairs.cli import app
from blindpairs.cli.chat import _typed as typed_questions
from blindpairs.cli.train_progress import figures

STEPS = ["--set", "stage1.steps=2", "--set", "stage2.steps=2", "--set", "stage1.batch=4", "--set", "stage2.batch=4"]
SMALL = [*STEPS, "--set", "stage1.micro_batch=4", "--set", "stage2.micro_batch=4", "--set", "stage2.template=vicuna_v1"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def call(command: str, *arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [command, *map(str, arguments)], input=typed)


def parts(folder: Path) -> list[object]:
    """The options that name the small data, towers and language model in `folder`."""
    given = {"--data": folder / "data.json", "--images": folder / "images", "--lm": folder / "lm"}
    return [*(word for pair in given.items() for word in pair), "--clip", "demo:clip", "--dino", "demo:dino"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with a run, `mine`, and its data beside it."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    result = call("train-mof", *parts(folder), *SMALL, "--run", "mine", "--work", folder / "work")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("mine: 4 steps; loss ")
    return folder / "work"


def test_run_is_asked_by_eval_under_its_name(work: Path) -> None:
    export_hub(benchmark_of(2, second=None), work / "doors")
    result = call("eval", "--benchmark", work / "doors", "--model", "run:mine", "--work", work, "--json")
    assert result.exit_code == 0, result.output
    (model,) = json.loads(result.stdout)["models"]
    assert model["model"] == "run:mine"
    assert model["answered_now"] == 4


def test_chat_answers_about_an_image_and_keeps_to_the_question(work: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "red.png")
    asked = ["mine", tmp_path / "red.png", "--max-tokens", 4, "--work", work]
    result = call("chat", *asked, "--question", "what?", "--question", "which?", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["model"] == "run:mine"
    assert [one["question"] for one in told["answers"]] == ["what?", "which?"]
    typed = call("chat", *asked, typed="what?\n\nwhich?\n")
    assert typed.stdout.splitlines() == [one["answer"] for one in told["answers"]]


class Terminal(StringIO):
    """Standard input as a person types it."""

    def isatty(self) -> bool:
        return True


def test_empty_line_ends_what_is_typed_and_not_what_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    for source, asked in ((Terminal, ["what?"]), (StringIO, ["what?", "and then?"])):
        monkeypatch.setattr("sys.stdin", source("what?\n\n and then? \n"))
        assert list(typed_questions(Path("a.png"))) == asked


def test_chat_says_what_is_no_run_and_no_image(work: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    wrong = call("chat", "mine", tmp_path / "text.png", "--question", "?", "--work", work)
    assert wrong.exit_code == 3
    assert "text.png is no image that can be read (not_image" in wrong.stderr
    folder = call("chat", "mine", tmp_path, "--question", "?", "--work", work)
    assert f"{tmp_path} is a folder: name an image file in it" in folder.stderr
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    other = call("chat", "yours", tmp_path / "black.png", "--question", "?", "--work", work)
    assert other.exit_code == 3
    assert "run:yours: there is no such run, there are mine" in other.stderr


def test_same_command_again_does_nothing_and_another_recipe_is_refused(work: Path) -> None:
    again = call("train-mof", *parts(work.parent), *SMALL, "--run", "mine", "--work", work)
    assert again.stdout.startswith("mine: was done already; loss ")
    other = call("train-mof", *parts(work.parent), *SMALL, "--mode", "clip", "--run", "mine", "--work", work)
    assert other.exit_code == 3
    assert "fusion.mode was 'interleaved', is 'clip'\nname another run, with --run NAME" in other.stderr


def test_skip_of_a_recipe_holds_unless_the_option_says_otherwise(work: Path) -> None:
    given = [*parts(work.parent), *SMALL, "--stage", "1", "--set", "skip=unusable", "--work", work, "--json"]
    of_recipe = json.loads(call("train-mof", *given, "--run", "skips").stdout)["runs"]
    assert [run["recipe"]["skip"] for run in of_recipe] == ["unusable"]
    of_option = json.loads(call("train-mof", *given, "--run", "odd", "--skip", "odd").stdout)["runs"]
    assert [run["recipe"]["skip"] for run in of_option] == ["odd"]


def test_sweep_is_one_run_a_value_and_tells_its_results_as_json(work: Path) -> None:
    sweep = ["--sweep", "mode=clip,concat", "--run", "swept", "--stage", "1", "--json"]
    result = call("train-mof", *parts(work.parent), *SMALL, *sweep, "--work", work)
    assert result.exit_code == 0, result.output
    runs = json.loads(result.stdout)["runs"]
    assert [(run["name"], run["steps"], list(run["losses"])) for run in runs] == [
        ("swept-clip", 2, ["stage1"]),
        ("swept-concat", 2, ["stage1"]),
    ]
    assert [run["recipe"]["fusion.mode"] for run in runs] == ["clip", "concat"]


def test_scores_of_eval_make_the_card_and_tell_what_each_encoder_is_worth(work: Path) -> None:
    sweep = ["--sweep", "mode=clip,dino,interleaved", "--run", "worth"]
    given = [*parts(work.parent), *SMALL, *sweep, "--work", work]
    first = call("train-mof", *given)
    assert first.exit_code == 0, first.output
    assert "capacity" not in first.stdout
    names = [f"worth-{mode}" for mode in ("clip", "dino", "interleaved")]
    assert "ask them: blindpairs eval " + " ".join(f"--model run:{name}" for name in names) in first.stderr
    export_hub(benchmark_of(2, second=None), work / "worth")
    models = [word for name in names for word in ("--model", f"run:{name}")]
    told = json.loads(call("eval", "--benchmark", work / "worth", *models, "--work", work, "--json").stdout)["models"]
    card = (work / "runs" / "worth-clip" / "README.md").read_text()
    assert "pair accuracy " in card  # as soon as eval has asked
    assert "Not evaluated yet" not in card
    clip, dino, both = (one["scores"]["pair_accuracy"]["share"] for one in told)
    lines = [line.strip() for line in call("train-mof", *given).stdout.splitlines()]
    assert f"clip alone (capacity): {clip:.3f}" in lines
    assert f"dino alone (capacity): {dino:.3f}" in lines
    assert f"interleaved without it loses (necessity): {both - dino:.3f}" in lines
    card = (work / "runs" / "worth-clip" / "README.md").read_text()
    assert f"pair accuracy {100 * clip:.1f} % [" in card


def test_plan_prints_what_it_will_take_and_trains_nothing(tmp_path: Path) -> None:
    result = call("train-mof", "--plan", "--preset", "llava-1.5-7b-336", "--work", tmp_path / "w", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    first, second = told["plans"]["llava-1.5-7b-336"]
    assert (first["steps"], second["steps"]) == (2181, 5198)
    assert not (tmp_path / "w" / "runs").exists()
    shown = call("train-mof", "--plan", "--preset", "llava-1.5-7b-336", "--work", tmp_path / "w").stdout
    assert "stage 1: 558,128 samples, as of LLaVA-1.5's data; 21.0 M weights trained; 2,181 steps, 9," in shown
    assert "this does not fit: a smaller micro_batch, LoRA, or more devices" in shown


def test_check_lists_what_is_wrong_with_data_and_with_images_of_the_benchmark(work: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_data(folder)
    benchmark = benchmark_of(2, second=None)
    export_hub(benchmark, tmp_path / "work" / "benchmark")
    (_, known), *_ = benchmark.images(benchmark.image_ids)
    assert isinstance(known, bytes)
    (folder / "images" / "5.png").write_bytes(known)
    (folder / "images" / "6.png").unlink()
    result = call("train-mof", "--check", *parts(folder), *SMALL, "--work", tmp_path / "work", "--stage", "2", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)["checked"]["stage2"]
    codes = {(row["id"], row["code"]) for row in found["left_out"]}
    assert {("5", "in_benchmark"), ("6", "missing")} <= codes
    assert not (tmp_path / "work" / "runs").exists()
    rows = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps([*rows, *([5] * 30)]))
    (folder / "lm" / "model.safetensors").write_bytes(b"weights, which are not needed")
    listed = call("train-mof", "--check", *parts(folder), *SMALL, "--work", tmp_path / "work", "--stage", "2")
    assert listed.stdout.count("it is a number, not an object") == 30  # every one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "llava"], "there is no preset 'llava': there are demo, demo-sweep, "),
        (["--preset", "own"], "own: mode interleaved needs a tower `clip`: give --clip SPEC"),
        (["--preset", "llava-1.5-7b-336"], "the recipe names no data: give --data FILE and --images FOLDER"),
        (["--images", "x"], "--images, --captions and --caption-images go with --data FILE"),
        (["--set", "clip_weight"], "--set clip_weight: give NAME=VALUE, such as clip_weight=0.75"),
        (["--set", "clip_wait=1"], "there is no setting 'clip_wait': did you mean fusion.clip_weight"),
        (["--sweep", "clip_weight"], "--sweep clip_weight: give NAME=VALUE,VALUE,..."),
        (["--run", ".."], "--run ..: the name of a run has letters, digits, dots, dashes and underscores only"),
        (["--run", "a/b"], "--run a/b: the name of a run has letters, digits"),
        (["--mode", "both"], "mode=both: 'both' is not one of clip, dino, additive, interleaved, concat"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = call("train-mof", *arguments, "--work", tmp_path)
    assert result.exit_code == 3, result.output
    assert message in result.stderr


def test_figures_of_a_step_are_told_in_words() -> None:
    row = {"loss": 0.41234, "tokens_per_second": 12345.6, "flops_utilisation": 0.314}
    assert figures(row) == "loss 0.412, 12,346 tokens/s, 31% of the device"
