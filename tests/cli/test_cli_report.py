"""`eval` and `report` from the command line: the demo's benchmark, its CLIP, the baselines, and the page of them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pictured_pairs import benchmark_of
from typer.testing import CliRunner, Result

from blindpairs.benchmark.hub import export_hub
from blindpairs.cli import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder after the bare `eval`."""
    folder = tmp_path_factory.mktemp("eval") / "work"
    done = call("eval", "--work", folder)
    assert done.exit_code == 0, done.output
    assert "this is the demo's, which ships" in done.stderr
    assert "demo:clip on blindpairs-demo: 144 pairs" in done.stdout
    return folder


def results(work: Path) -> Path:
    (folder,) = (work / "results").iterdir()
    return folder


def test_bare_eval_evaluates_the_demos_clip_and_the_baselines_and_writes_a_page(work: Path) -> None:
    page = (results(work) / "report.html").read_text("utf-8")
    assert all(f"<td>{name}" in page for name in ("demo:clip", "random", "first"))
    assert {path.suffix for path in (results(work) / "report").iterdir()} == {".svg", ".png", ".pdf", ".csv", ".tex"}
    rows = list(csv.DictReader((results(work) / "report" / "table.csv").read_text("utf-8").splitlines()))
    assert {row["model"] for row in rows} == {"demo:clip", "random", "first"}


def test_report_asks_nobody_and_writes_the_same_page(work: Path) -> None:
    before = (results(work) / "report.html").read_bytes()
    done = call("report", "--json", "--work", work)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["page"] == str(results(work) / "report.html")
    assert (results(work) / "report.html").read_bytes() == before


def test_report_without_results_says_what_to_run(tmp_path: Path) -> None:
    done = call("report", "--work", tmp_path / "work")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "run `blindpairs eval`" in done.stderr


def test_clip_style_model_is_told_from_models_that_are_asked(work: Path) -> None:
    done = call("eval", "--model", "demo:clip", "--model", "first", "--json", "--work", work)
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert [one["model"] for one in shown["models"]] == ["first"]
    assert [one["settings"]["model"] for one in shown["similarity"]] == ["demo:clip"]


def test_report_by_a_correction_shows_the_clip_style_model_that_was_evaluated_by_it(tmp_path: Path) -> None:
    made = benchmark_of(2, second=None)
    fixed = {made.pairs[0].pair_id: (1, 0)}
    export_hub(replace(made, corrections={"fixed": fixed}), tmp_path / "doors")
    given = ("--benchmark", tmp_path / "doors", "--work", tmp_path / "work")
    truths: tuple[tuple[str, ...], ...] = ((), ("--ground-truth", "fixed"))
    for truth in truths:
        done = call("eval", *given, *truth, "--model", "demo:clip", "--model", "first")
        assert done.exit_code == 0, done.output
        shown = call("report", *given, *truth, "--json")
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.stdout)["benchmark"]["ground_truth"] == ("fixed" if truth else "original")
        page = Path(json.loads(shown.stdout)["page"]).read_text("utf-8")
        assert all(f"<td>{name}" in page for name in ("demo:clip", "first"))


def test_several_wordings_show_their_spread(work: Path) -> None:
    wordings = ("--template", "a photo of {}", "--template", "{}")
    done = call("eval", "--model", "demo:clip", *wordings, "--work", work)
    assert done.exit_code == 0, done.output
    assert "over 2 wordings:" in done.stdout


def test_benchmark_of_statements_alone_has_nothing_to_ask(tmp_path: Path) -> None:
    export_hub(benchmark_of(3, question=None, second=None), tmp_path / "stated")
    done = call("eval", "--benchmark", tmp_path / "stated", "--model", "random", "--work", tmp_path / "work")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "has statements and no questions: there is nothing to ask random" in done.stderr
