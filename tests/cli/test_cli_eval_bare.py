"""Bare `blindpairs eval` evaluates what is there, and `--table` shows models side by side."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hub_folders import OPENAI, READER, save_open_clip
from pictured_pairs import benchmark_of
from typer.testing import CliRunner, Result

from blindpairs import vlm
from blindpairs.benchmark.hub import export_hub
from blindpairs.cli import app
from blindpairs.vlm import Answerer, open_model


def call(work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "--work", str(work), *map(str, arguments)])


def parsed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture
def doors(tmp_path: Path) -> Path:
    """The folder of a benchmark of two pairs."""
    export_hub(benchmark_of(2, second=None), tmp_path / "doors")
    return tmp_path / "doors"


@pytest.fixture
def stated(tmp_path: Path) -> Path:
    """The folder of a benchmark of three pairs with statements and no questions."""
    export_hub(benchmark_of(3, question=None, second=None), tmp_path / "stated")
    return tmp_path / "stated"


def test_runs_are_asked_and_those_without_a_model_are_named(tmp_path: Path, doors: Path, llava: Path) -> None:
    runs = tmp_path / "work" / "runs"
    shutil.copytree(llava, runs / "mof" / "checkpoint-3")
    shutil.copytree(llava, runs / "odd name" / "checkpoint-3")
    shutil.copytree(llava, runs / "broken" / "checkpoint-3")
    (runs / "broken" / "checkpoint-3" / "model.safetensors").write_bytes(b"cut off")
    shutil.copytree(llava, runs / "young" / "checkpoint-3").joinpath("model.safetensors").unlink()
    (runs / "empty").mkdir()
    (runs / ".hidden").mkdir()
    (runs / "notes.txt").write_text("not a run")
    given = ("--benchmark", doors, "--json")
    result = call(tmp_path / "work", *given)
    models = {one["model"]: one for one in parsed(result)["models"]}
    assert set(models) == {"random", "first", "run:mof"}
    assert (models["run:mof"]["complete"], models["run:mof"]["answered_now"]) == (True, 4)
    left_out = [line for line in result.stderr.splitlines() if line.startswith("left out: ")]
    assert [next(name for name in ("broken", "empty", "odd name", "young") if name in line) for line in left_out] == [
        "empty",
        "odd name",
        "young",
        "broken",
    ]
    assert "run:young: " in left_out[2]
    assert "has no complete checkpoint yet" in left_out[2]
    again = call(tmp_path / "work", *given)
    assert {one["model"]: one["answered_now"] for one in parsed(again)["models"]}["run:mof"] == 0
    assert "<td>mof (ours)" in (next(tmp_path.glob("work/results/*")) / "report.html").read_text("utf-8")


def test_run_is_loaded_again_only_where_its_checkpoint_changed(
    tmp_path: Path, doors: Path, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "mof"
    shutil.copytree(llava, run / "checkpoint-3")
    opened: list[str] = []

    def counted(spec: str, **options: Any) -> Answerer:
        opened.append(spec)
        return open_model(spec, **options)

    monkeypatch.setattr(vlm, "open_model", counted)

    def models() -> list[str]:
        opened.clear()
        return [one["folder"] for one in parsed(call(tmp_path, "--benchmark", doors, "--json"))["models"]]

    first = models()
    assert opened == ["run:mof"]
    assert (models(), opened) == (first, [])
    shutil.copytree(llava, run / "checkpoint-4")  # the same weights under a new step
    assert (models(), opened) == (first, ["run:mof"])
    assert (models(), opened) == (first, [])
    config = run / "checkpoint-4" / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"repetition_penalty": 1.5}))
    assert (len(models()), opened) == (len(first) + 1, ["run:mof"])
    (other,) = (folder for folder in models() if folder not in first)
    (answers,) = tmp_path.glob(f"results/*/{other}/answers.jsonl")
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[:-1]))
    assert (len(models()), opened) == (len(first) + 1, ["run:mof"])  # for the one answer that is missing


def test_plan_of_a_bare_command_counts_what_runs_are_asked(tmp_path: Path, doors: Path, llava: Path) -> None:
    shutil.copytree(llava, tmp_path / "runs" / "mof" / "checkpoint-3")
    plans = parsed(call(tmp_path, "--benchmark", doors, "--plan", "--json"))["plans"]
    assert {one["model"]: one["requests"] for one in plans} == {"random": 0, "first": 0, "run:mof": 4}


def test_run_that_is_named_must_be_there(tmp_path: Path, doors: Path) -> None:
    (tmp_path / "runs" / "young").mkdir(parents=True)
    result = call(tmp_path, "--benchmark", doors, "--model", "run:young")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "has no complete checkpoint yet" in result.stderr


def test_nobody_to_evaluate_is_one_error_with_and_without_json(tmp_path: Path, stated: Path) -> None:
    for more in ((), ("--json",), ("--table",)):
        result = call(tmp_path / "work", "--benchmark", stated, *more)
        assert (result.exit_code, result.stdout) == (3, ""), result.output
        assert "there are no results on doors" in result.stderr
        assert "with --model for a benchmark of statements alone" in result.stderr


def test_bare_command_shows_clip_style_models_that_were_measured_before(tmp_path: Path, stated: Path) -> None:
    work = tmp_path / "work"
    assert call(work, "--benchmark", stated, "--model", "demo:clip").exit_code == 0
    found = parsed(call(work, "--benchmark", stated, "--json"))
    assert found["models"] == []
    assert [one["settings"]["model"] for one in found["similarity"]] == ["demo:clip"]
    page = next(work.glob("results/*")) / "report.html"
    shown = page.read_bytes()
    assert CliRunner().invoke(app, ["report", "--work", str(work), "--benchmark", str(stated)]).exit_code == 0
    assert page.read_bytes() == shown


def test_table_of_three_clips_and_their_sizes(tmp_path: Path, doors: Path) -> None:
    for name, size, layers in (("small", 32, 1), ("large", 64, 2)):
        (tmp_path / name).mkdir()
        vision = {"image_size": size, "width": 64, "patch_size": 16, "head_width": 32, "layers": layers}
        save_open_clip(tmp_path / name, READER | {"vision_cfg": vision}, OPENAI)
    folders = [f"open_clip:local-dir:{tmp_path / name}" for name in ("small", "large")]
    named = [part for spec in (*folders, "demo:clip", "first") for part in ("--model", spec)]
    given = ("--benchmark", doors, *named, "--table")
    result = call(tmp_path / "work", *given)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("doors: 2 pairs, fingerprint ")
    titles = [place for place, line in enumerate(lines) if not line]
    assert [lines[place + 1] for place in titles] == [
        "CLIP-style models, % of pairs: image score, with 95 % intervals",
        "models that answer, % of pairs right about both images, with 95 % intervals",
        "CLIP-style models by size",
    ]
    by_size = lines[titles[2] + 4 : titles[2] + 7]
    assert [float(line.split()[1]) for line in by_size] == sorted(float(line.split()[1]) for line in by_size)
    assert [int(line.split()[2]) for line in by_size] == [32, 64, 64]
    assert lines[-2].startswith("  a doubling of parameters goes with ")
    assert lines[-1].startswith("  a doubling of resolution goes with ")
    assert "over 3 models" in lines[-1]
    found = parsed(call(tmp_path / "work", *given, "--json"))["table"]
    assert [one["resolution"] for one in found["scaling"]] == [32, 64, 64]
    assert [(one["against"], one["models"]) for one in found["trends"]] == [("parameters", 3), ("resolution", 3)]
    assert {one["model"] for one in found["asked"]} == {"first"}
    whole = [one for one in found["clip_style"] if one["pattern"] == "all"]
    assert [(one["count"], one["model"]) for one in whole] == [(2, spec) for spec in (*folders, "demo:clip")]


def test_published_tables_stand_below_ours_and_impossible_values_are_named(tmp_path: Path, doors: Path) -> None:
    given = ("--benchmark", doors, "--model", "first", "--table", "--published")
    lines = call(tmp_path, *given).stdout.splitlines()
    assert "published: CLIP-style models by size" in lines
    assert any(line.split()[:3] == ["EVA02", "ViT-bigE-14+", "224"] for line in lines)
    assert any(line.startswith("Human, 95.7 %: left out, because no count of 150 pairs prints so") for line in lines)
    found = parsed(call(tmp_path, *given, "--json"))["table"]
    assert len(found["published"]["scaling"]) == 10
    assert found["scaling"] == []


def test_incomplete_models_are_named_below_the_tables(tmp_path: Path, doors: Path) -> None:
    assert call(tmp_path, "--benchmark", doors, "--model", "first", "--shard", "0/2").exit_code == 0
    result = call(tmp_path, "--benchmark", doors, "--model", "recorded:first-not-asked-x", "--table")
    assert result.exit_code == 3
    (folder,) = tmp_path.glob("results/*/first-*")
    shown = call(tmp_path, "--benchmark", doors, "--model", f"recorded:{folder.name}", "--table")
    assert shown.stdout.splitlines()[-1] == "first: incomplete: 2 of 4 questions have no answer"
