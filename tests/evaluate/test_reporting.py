"""The report gets the scores of the table, and which pairs a model is right about."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from scripted_models import with_controls

from blindpairs.evaluate import report, reporting
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import FREE_FORM, OURS, exchanged
from blindpairs.evaluate.figures import encoded
from blindpairs.evaluate.report import write_report
from blindpairs.evaluate.reported import ReportedModel, ReportedRun
from blindpairs.evaluate.reporting import reported_models, with_distinct_names, write_results
from blindpairs.evaluate.results import Setup
from blindpairs.evaluate.scores import questions_of
from blindpairs.evaluate.summary import summarise
from blindpairs.statistics import Rate

BENCHMARK = with_controls(3)


def answers(wrong: int, *, other: bool = False) -> list[Answer]:
    """Wrong about the first questions, in the given order of the options or the other."""
    shown = exchanged(BENCHMARK) if other else BENCHMARK
    truth = {key: question.answers["ab".index(key[1])] for key, question in questions_of(shown).items()}
    return [
        Answer(key, f"({'ab'[1 - right if place < wrong else right]})")
        for place, (key, right) in enumerate(truth.items())
    ]


def test_reported_model_has_the_scores_of_its_summary_and_the_pairs_that_are_right(tmp_path: Path) -> None:
    given = [answers(3), answers(3, other=True), answers(0)[:-1]]
    setups = [Setup("m@host", {}, OURS), Setup("m@host", {}, OURS, exchanged=True), Setup("x@host", {}, OURS)]
    summaries = [summarise(setup, BENCHMARK, some) for setup, some in zip(setups, given, strict=True)]
    one, other, third = reported_models(BENCHMARK, summaries, given)
    blind = summaries[0].blind
    assert blind
    assert (one.name, one.kind, one.incomplete) == ("m (ours)", "answers", "")
    assert one.pair_accuracy == blind.pair_accuracy
    assert one.patterns == {"State and Condition": blind.pair_accuracy}
    assert one.rates == {
        "questions": blind.question_accuracy,
        "same answer": blind.confusion,
        "unreadable": blind.invalid,
        "first option": blind.first_option,
    }
    assert one.controls
    assert one.controls.hits == 3
    assert list(one.right.values()) == [False, False, True, True, True, True]
    assert one.said[BENCHMARK.pairs[0].pair_id] == ("(b)", "(a)")
    assert one.protocol == {
        "model": "m@host",
        "asked as": f"ours ({OURS.hash[:8]}), greedy, at most 512 tokens",
        "prompt": OURS.template,
        "read by": "ours",
    }
    assert "options" in other.protocol  # or its (a) would be taken for the first of the pair's
    assert (other.name, other.right, other.pair_accuracy) == ("m, exchanged (ours)", one.right, one.pair_accuracy)
    assert (third.pair_accuracy.count, third.incomplete[:11]) == (0, "incomplete:")
    run = ReportedRun("doors", BENCHMARK.fingerprint, "original", list(BENCHMARK.patterns), [one, other])
    write_report(tmp_path / "report.html", BENCHMARK, run)
    assert "m, exchanged (ours)" in (tmp_path / "report.html").read_text("utf-8")


def test_page_marks_a_pair_by_the_judges_verdict_and_shows_what_the_model_said() -> None:
    verdicts = answers(2)
    said = [replace(one, text="the door is ajar") for one in verdicts]
    summary = summarise(Setup("m", {}, FREE_FORM), BENCHMARK, verdicts, reader="judge j")
    (got,) = reported_models(BENCHMARK, [summary], [said], [verdicts])
    assert sum(got.right[pair.pair_id] for pair in BENCHMARK.pairs[:3]) == got.pair_accuracy.hits == 2
    assert set(got.said.values()) == {("the door is ajar", "the door is ajar")}


def test_wordings_of_one_clip_style_model_have_names_of_their_own() -> None:
    rate = Rate(1, 4, None)
    one, two = (
        ReportedModel("demo:clip", "similarity", rate, {}, protocol={"wording": words}) for words in ("'{}'", "'a {}'")
    )
    other = ReportedModel("first", "answers", rate, {})
    assert [model.name for model in with_distinct_names([one, two, other])] == [
        "demo:clip ('{}')",
        "demo:clip ('a {}')",
        "first",
    ]
    assert with_distinct_names([one, other]) == [one, other]


def test_complete_pairs_of_incomplete_answers_are_reported_as_such() -> None:
    some = answers(0)[:-1]
    (got,) = reported_models(BENCHMARK, [summarise(Setup("m", {}, OURS), BENCHMARK, some, complete_pairs=True)], [some])
    assert got.incomplete == "incomplete: 1 of 12 questions have no answer"
    assert len(got.right) == 5


def test_each_plot_is_encoded_once_in_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(figure: Figure, kind: str) -> bytes:
        asked.append(kind)
        return encoded(figure, kind)

    monkeypatch.setattr(report, "encoded", counted)
    monkeypatch.setattr(reporting, "encoded", counted)
    summary = summarise(Setup("m", {}, OURS), BENCHMARK, answers(3))
    write_results(tmp_path, BENCHMARK, reported_models(BENCHMARK, [summary], [answers(3)]))
    plots = {path.stem for path in (tmp_path / "report").iterdir()} - {"table"}
    assert sorted(asked) == sorted(["svg", "png", "pdf"] * len(plots))
    shown = (tmp_path / "report.html").read_text("utf-8")
    for name in plots:
        assert base64.b64encode((tmp_path / "report" / f"{name}.svg").read_bytes()).decode() in shown
