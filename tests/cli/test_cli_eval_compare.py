"""`blindpairs eval` on several models together: who is better, what all say, and mistakes that say what to do."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_folders import OPENAI, READER, save_open_clip
from PIL import Image
from stated_pairs import few_of
from typer.testing import CliRunner, Result

from blindpairs.benchmark import Benchmark, BenchmarkPair
from blindpairs.benchmark.hub import export_hub
from blindpairs.benchmark.recognise import read_benchmark
from blindpairs.cli import app
from blindpairs.demo.benchmark import demo_benchmark
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import OFFICIAL, OURS, Asking, exchanged
from blindpairs.evaluate.contenders import similarity_folder
from blindpairs.evaluate.power import pairs_needed
from blindpairs.evaluate.results import Setup, benchmark_folder, record_imported
from blindpairs.evaluate.study import setup_of as setup_of_person
from blindpairs.workspace import demo_folder

VISION: dict[str, Any] = {"image_size": 64, "width": 64, "patch_size": 16, "head_width": 32}
Solves = Callable[[int], bool | None]  # place of a pair -> right, wrong about one image, or None: exactly exchanged


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Benchmark]:
    """18 blind pairs of the demo's benchmark, two of each pattern, and controls of some: its folder, and itself."""
    folder = tmp_path_factory.mktemp("few") / "few"
    export_hub(few_of(demo_benchmark()), folder)
    return folder, read_benchmark(folder).benchmark


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of three CLIPs of random weights."""
    root = tmp_path_factory.mktemp("checkpoints")
    folders = {name: root / name for name in ("base", "tuned", "other")}
    for layers, folder in enumerate(folders.values(), 1):
        folder.mkdir()
        save_open_clip(folder, READER | {"vision_cfg": VISION | {"layers": layers}}, OPENAI)
    return folders


@pytest.fixture(scope="module")
def work(few: tuple[Path, Benchmark], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with both baselines, three models, one of them with exchanged options, and one without images."""
    folder, benchmark = few
    made = tmp_path_factory.mktemp("work")
    assert CliRunner().invoke(app, ["eval", "--work", str(made), "--benchmark", str(folder)]).exit_code == 0
    # Pair 0 has a wrong key as good models see it, and nobody solves pair 1.
    record(made, benchmark, GOOD, lambda place: None if place == 0 else place > 1)
    record(made, benchmark, setup_of("better"), lambda place: None if place == 0 else place > 1)
    record(made, benchmark, WEAK, lambda place: None if place == 0 else place > 12)
    record(made, benchmark, EXCHANGED, lambda place: None if place == 0 else place > 12)
    record(made, benchmark, setup_of("blind:good", images=False), lambda place: place == 17)
    return made


def setup_of(model: str, asking: Asking = OURS, *, options_exchanged: bool = False, images: bool = True) -> Setup:
    return Setup(model, {"kind": "imported", "model": model}, asking, options_exchanged, images)


GOOD, WEAK, EXCHANGED = setup_of("good"), setup_of("weak"), setup_of("weak", options_exchanged=True)


def record(work: Path, benchmark: Benchmark, setup: Setup, solves: Solves) -> None:
    """Record the answers of a model that solves these blind pairs, and all controls."""
    shown = exchanged(benchmark) if setup.exchanged else benchmark
    blind = [pair.pair_id for pair in shown.pairs if pair.control_of is None]
    answers = [
        answer
        for pair in shown.pairs
        for answer in said(pair, solves(blind.index(pair.pair_id)) if pair.pair_id in blind else True)
    ]
    record_imported(benchmark_folder(work / "results", benchmark) / setup.folder_name, setup, shown, answers)


def said(pair: BenchmarkPair, solved: bool | None) -> list[Answer]:
    assert pair.question
    first, other = pair.question.answers
    options = (first, other) if solved else (other, first) if solved is None else (first, first)
    answers = [Answer((pair.pair_id, side, "first"), f"({'ab'[one]})") for side, one in zip("ab", options, strict=True)]
    if pair.second:
        answers += [Answer((pair.pair_id, side, "second"), "(a)") for side in "ab"]
    return answers


def call(work: Path, few: tuple[Path, Benchmark], *arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "--work", str(work), "--benchmark", str(few[0]), *map(str, arguments)])


def parsed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_two_asked_models_are_compared_overall_and_by_pattern(work: Path, few: tuple[Path, Benchmark]) -> None:
    arguments = ("--compare", f"recorded:{WEAK.folder_name}", "--compare", GOOD.folder_name, "--power", 5)
    result = call(work, few, *arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[2:4] == [
        "weak (ours): right about both images 27.8 [12, 51] %",
        "good (ours): right about both images 88.9 [67, 97] %",
    ]
    assert lines[4].startswith("good (ours) is better by 61.1 points (")
    assert lines[5] == "confusion, the same for both images: 66.7 % and 5.6 % of the pairs"
    assert sum(line.startswith("  ") and ", 2 pairs: " in line for line in lines) == 9
    assert "where 61.1 % of the pairs are solved by one of two models only (as the first two compared do)" in lines[-3]
    found = parsed(call(work, few, *arguments, "--json"))
    (one,) = found["compare"]["comparisons"]
    assert (one["right"], one["gained"], one["lost"], one["told"]) == ([5, 16], 11, 0, True)
    assert one["discordance"] == one["difference"] == 11 / 18
    assert len(one["patterns"]) == 9
    assert found["power"]["pairs"] == 18
    assert found["power"]["observed"] is True


def test_power_without_models_says_what_it_assumes(work: Path, few: tuple[Path, Benchmark]) -> None:
    result = call(work, few, "--power", 10)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[2:] == [
        "power 80 % at p < 0.05, where 20.0 % of the pairs are solved by one of two models only (assumed)",
        f"  a gain of 10 points needs {pairs_needed(0.1, 0.2):,} pairs",
        "  the 18 pairs of this benchmark detect no gain",
    ]


def test_checkpoints_are_evaluated_once_and_classify_images(
    work: Path, few: tuple[Path, Benchmark], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    for number, name in enumerate(["tabby_cat", "teapot", "ship"]):
        (tmp_path / name).mkdir()
        for seed in range(3):
            cells = np.random.default_rng([number, seed]).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(cells).save(tmp_path / name / f"{seed}.png")
    names = ("--compare", checkpoints["base"], "--compare", checkpoints["tuned"], "--zero-shot", tmp_path)
    found = parsed(call(work, few, *names, "--json"))
    assert [side["name"] for side in found["compare"]["sides"]] == ["base", "tuned"]
    assert (found["zero_shot"]["classes"], found["zero_shot"]["images"]) == (["ship", "tabby cat", "teapot"], 9)
    base, tuned = found["zero_shot"]["models"]
    assert (base["top1"]["count"], base["pair_accuracy"]["count"]) == (9, 18)
    gap = tuned["against_the_first"]["difference"]
    assert gap == pytest.approx(tuned["top1"]["share"] - base["top1"]["share"])
    similarities = benchmark_folder(work / "results", few[1]).glob("*/similarities.parquet")
    before = {path: path.stat().st_mtime_ns for path in similarities}
    again = call(work, few, *names)
    assert again.exit_code == 0, again.output
    assert "zero-shot: 9 images of 3 classes" in again.stdout
    assert "can move images away from texts" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    folder, *_ = (path.parent.name for path in before if path.parent.name.startswith("open-clip-local-dir"))
    kept = parsed(call(work, few, "--compare", folder, "--compare", "demo:clip", "--json"))
    assert kept["compare"]["sides"][1]["name"] == "demo:clip"


def test_seeds_of_a_side_are_compared_as_seeds(
    work: Path, few: tuple[Path, Benchmark], checkpoints: dict[str, Path]
) -> None:
    seeds = f"{checkpoints['base']},{checkpoints['tuned']}"
    found = parsed(call(work, few, "--compare", "demo:clip", "--compare", seeds, "--json"))
    (one,) = found["compare"]["comparisons"]
    assert (one["names"], one["runs"]) == (["demo:clip", "base, 2 runs"], [1, 2])
    accuracies = [[run["pair_accuracy"]["share"] for run in side["runs"]] for side in found["compare"]["sides"]]
    assert one["difference"] == pytest.approx(np.mean(accuracies[1]) - np.mean(accuracies[0]))
    assert len(one["patterns"]) == 9
    assert all(one["p"] <= one["adjusted_p"] for one in one["patterns"].values())
    lines = call(work, few, "--compare", "demo:clip", "--compare", seeds).stdout.splitlines()
    assert sum(line.startswith("  ") and ", 2 pairs: " in line for line in lines) == 9


def test_one_model_under_two_names_is_no_second_seed_and_is_said_to_be_one(
    work: Path, few: tuple[Path, Benchmark], checkpoints: dict[str, Path]
) -> None:
    other = f"open_clip:local-dir:{demo_folder() / 'clip'}"  # the weights of demo:clip
    for side in (f"demo:clip,{other}", f"{GOOD.folder_name},recorded:{GOOD.folder_name}"):
        result = call(work, few, "--compare", side, "--compare", checkpoints["base"])
        assert (result.exit_code, result.stdout) == (3, "")
        assert "has one model twice, as " in result.stderr
    shown = call(work, few, "--compare", "demo:clip", "--compare", other)
    assert shown.exit_code == 0, shown.output
    assert "note: a model of each side has the same weights, and measures the same" in shown.stdout


def test_seeds_of_a_side_are_asked_alike(work: Path, few: tuple[Path, Benchmark]) -> None:
    for one, other in ((WEAK, EXCHANGED), (GOOD, setup_of("blind:good", images=False))):
        side = f"{one.folder_name},{other.folder_name}"
        result = call(work, few, "--compare", side, "--compare", setup_of("better").folder_name)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "joins models that were asked or measured in different ways" in result.stderr


def test_power_of_a_gain_beyond_what_two_models_differ_by_says_what_it_assumes(
    work: Path, few: tuple[Path, Benchmark]
) -> None:
    arguments = ("--compare", GOOD.folder_name, "--compare", setup_of("better").folder_name, "--power", 10)
    lines = call(work, few, *arguments).stdout.splitlines()
    assert lines[-3].endswith("(the least that such a gain takes; of the first two compared 0.0 %)")
    assert "where 10.0 % of the pairs are solved by one of two models only" in lines[-3]


def test_two_wordings_of_one_model_are_two_sides(work: Path, few: tuple[Path, Benchmark]) -> None:
    assert call(work, few, "--model", "demo:clip", "--template", "{}").exit_code == 0
    folder = similarity_folder(work / "results", few[1], "demo:clip", ["{}"])
    found = parsed(call(work, few, "--compare", "demo:clip", "--compare", folder.name, "--json"))["compare"]
    shutil.rmtree(folder)
    assert found["comparisons"][0]["names"] == ["demo:clip", "demo:clip ('{}')"]
    assert "measured in different words" in found["comparisons"][0]["notes"][0]


def test_asked_model_beside_a_clip_is_said_to_have_another_task(work: Path, few: tuple[Path, Benchmark]) -> None:
    result = call(work, few, "--compare", "demo:clip", "--compare", GOOD.folder_name)
    assert result.exit_code == 0, result.output
    assert "the tasks differ" in result.stdout
    joined = call(work, few, "--compare", f"demo:clip,{GOOD.folder_name}", "--compare", WEAK.folder_name)
    assert (joined.exit_code, joined.stdout) == (3, "")
    assert "joins models that were asked with CLIP-style ones" in joined.stderr


def test_models_asked_in_different_words_are_compared_with_a_note(work: Path, few: tuple[Path, Benchmark]) -> None:
    other = setup_of("reworded", OFFICIAL)
    record(work, few[1], other, lambda place: True)
    reworded = call(work, few, "--compare", other.folder_name, "--compare", GOOD.folder_name)
    shutil.rmtree(benchmark_folder(work / "results", few[1]) / other.folder_name)
    assert "asked in different words" in reworded.stdout


def test_exchanged_answers_count_like_any_others(work: Path, few: tuple[Path, Benchmark]) -> None:
    arguments = ("--compare", EXCHANGED.folder_name, "--compare", GOOD.folder_name)
    (one,) = parsed(call(work, few, *arguments, "--json"))["compare"]["comparisons"]
    assert one["right"] == [5, 16]


def test_correlation_names_its_clip_and_counts_its_patterns(work: Path, few: tuple[Path, Benchmark]) -> None:
    found = parsed(call(work, few, "--compare", "demo:clip", "--correlation", "--json"))["correlation"]["models"]
    models = {one["model"] for one in found}
    assert {"good (ours)", "better (ours)", "weak (ours)"} <= models
    assert not {"random", "first"} & models
    assert {(one["clip"], len(one["patterns"])) for one in found} == {("demo:clip", 9)}
    shown = call(work, few, "--compare", "demo:clip", "--correlation").stdout
    assert "  good (ours) and demo:clip over 9 patterns: Pearson r = " in shown


def test_items_name_what_all_fail_and_keys_that_may_be_wrong(work: Path, few: tuple[Path, Benchmark]) -> None:
    found = parsed(call(work, few, "--items", "--json"))["items"]
    blind = [pair.pair_id for pair in few[1].pairs if pair.control_of is None]
    assert found["models"] == ["better (ours)", "good (ours)", "weak (ours)"]
    assert sorted(found["unsolved"]) == sorted(blind[:2])
    assert found["suspected"] == blind[:1]
    assert found["solved_blind"] == {"blind:good (ours)": [blind[17]]}
    lines = call(work, few, "--items").stdout.splitlines()
    assert lines[2] == "items: 18 pairs in the eyes of 3 models"
    assert lines[3].startswith("  all models fail 2 pairs; ")
    assert lines[-1] == "  blind:good (ours), without the images, solves 1 pairs"


def test_published_numbers_stand_beside_ours_and_impossible_ones_are_flagged(
    work: Path, few: tuple[Path, Benchmark]
) -> None:
    lines = call(work, few, "--published").stdout.splitlines()
    rows = [line.split() for line in lines]
    assert ["first", "few", "0.0", "[0,", "18]", "here"] in rows
    assert any(row[:5] == ["Human", "(accuracy)", "MMVP", "95.7", "(impossible:"] for row in rows)
    found = parsed(call(work, few, "--published", "--json"))["published"]
    assert sum(one["possible"] is False for one in found["published"]) == int(lines[-2].split()[0])
    assert [one["share"] for one in found["ours"] if one["model"] == "first"] == [0.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--compare", "demo:clip"), "--compare demo:clip names one side: give the other with a second --compare"),
        (("--compare", "gpt", "--compare", "demo:clip"), "'gpt' is nobody to compare: name recorded:FOLDER"),
        (("--compare", "recorded:x", "--compare", "demo:clip"), "recorded:x: no such folder in "),
        (("--compare", "demo:clip", "--compare", "demo:clip"), "demo:clip is on both sides: name two models"),
        (("--compare", "demo:clip,demo:clip", "--compare", "first"), "names demo:clip twice"),
        (("--compare", "demo:clip,", "--compare", "first"), "has an empty name"),
        (("--compare", "demo:clip", "--compare", "demo:dino"), "demo:dino: this encoder has no text side"),
        (("--compare", "x" * 300, "--compare", "demo:clip"), "File name too long"),
        (("--compare", ",".join(["y" * 200] * 2 + ["z"]), "--compare", "demo:clip"), "yyy twice: each seed"),
        (("--zero-shot", "photos"), "--zero-shot needs the CLIP-style models that classify"),
        (("--compare", "demo:clip", "--zero-shot", "nowhere"), "nowhere is not a folder: name one with a sub-folder"),
        (("--power", "0"), "--power 0 is not a gain in points"),
        (("--items", "--model", "first"), "--items is about what is recorded, and asks nobody: leave --model out"),
        (("--items",), "--items needs complete answers of 3 models at least, and 0 are recorded"),
        (("--correlation",), "--correlation needs a CLIP-style model: name one"),
        (("--compare", "demo:clip", "--correlation"), "--correlation needs recorded answers of a model"),
    ],
)
def test_mistake_is_answered_with_what_to_do(
    tmp_path: Path, few: tuple[Path, Benchmark], arguments: tuple[str, ...], words: str
) -> None:
    result = call(tmp_path, few, *arguments)
    assert result.exit_code == 3, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
    assert result.stdout == ""


def test_folder_may_be_named_by_its_path_but_not_one_of_another_benchmark(
    work: Path, few: tuple[Path, Benchmark], tmp_path: Path
) -> None:
    folder = benchmark_folder(work / "results", few[1]) / GOOD.folder_name
    named = parsed(call(work, few, "--compare", folder, "--compare", WEAK.folder_name, "--json"))
    assert named["compare"]["comparisons"][0]["right"] == [16, 5]
    other = replace(few[1], pairs=few[1].pairs[:18], name="other")
    record(tmp_path, other, GOOD, lambda place: True)
    foreign = benchmark_folder(tmp_path / "results", other) / GOOD.folder_name
    result = call(work, few, "--compare", foreign, "--compare", WEAK.folder_name)
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"{foreign} holds answers to another revision" in result.stderr


def test_incomplete_answers_are_compared_with_nothing(work: Path, few: tuple[Path, Benchmark]) -> None:
    setup = Setup("partly", {"kind": "imported"}, OURS)
    folder = benchmark_folder(work / "results", few[1]) / setup.folder_name
    record_imported(folder, setup, few[1], said(few[1].pairs[0], True))
    result = call(work, few, "--compare", "demo:clip", "--compare", folder.name)
    listed = parsed(call(work, few, "--items", "--json"))["items"]["models"]
    shutil.rmtree(folder)
    assert result.exit_code == 3
    assert f"{folder.name}: " in result.stderr
    assert "answers of 17 pairs are missing" in result.stderr
    assert ": the command that asked, run again, asks for them; `blindpairs eval --model " in result.stderr
    assert f"recorded:{folder.name} --complete-pairs` scores the pairs that are whole" in result.stderr
    assert "partly (ours)" not in listed


def test_unfinished_study_is_compared_with_nothing_and_the_commands_that_go_on_are_named(
    work: Path, few: tuple[Path, Benchmark]
) -> None:
    setup = setup_of_person("Ada L.")
    folder = benchmark_folder(work / "results", few[1]) / setup.folder_name
    record_imported(folder, setup, few[1], said(few[1].pairs[0], True))
    result = call(work, few, "--compare", "human:Ada L.", "--compare", GOOD.folder_name)
    named = call(work, few, "--model", "human:Ada L.", "--complete-pairs")
    shutil.rmtree(folder)
    assert (result.exit_code, named.exit_code) == (3, 0)
    assert "(first question): `blindpairs study --participant 'Ada L.'` goes on; " in result.stderr
    assert "`blindpairs eval --model 'human:Ada L.' --complete-pairs` scores the pairs that are whole" in result.stderr
    assert "human:Ada L. (study) (1 complete pairs)" in named.stdout
