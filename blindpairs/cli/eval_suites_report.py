"""What `blindpairs eval --suite` prints."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from blindpairs.cli.app import print_json, say
from blindpairs.cli.eval_report import plan_fields, plan_line
from blindpairs.errors import TooManyFailures

if TYPE_CHECKING:
    from blindpairs.evaluate.following import FollowingFigures, FollowingScores
    from blindpairs.evaluate.llava_bench import BenchFigures, BenchScores
    from blindpairs.evaluate.pope import PopeFigures, PopeScores
    from blindpairs.evaluate.suite_questions import Suite
    from blindpairs.evaluate.suite_session import SuiteEntry, SuiteRespondent, SuiteScores, SuiteSession
    from blindpairs.evaluate.suites import Figure
    from blindpairs.vlm import Answerer

POPE_COLUMNS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "yes_ratio": "yes ratio",
}


def print_suite_plans(
    session: "SuiteSession",
    respondents: "Iterable[SuiteRespondent]",
    judge: "Answerer | Path | None",
    *,
    as_json: bool,
) -> None:
    """What asking would take, a line a model, and what its judge would take at most."""
    rows, lines = [], []
    for one in respondents:
        planned = session.plan(one)
        fields, line = plan_fields(planned), plan_line(planned)
        # The demo's rule costs nothing.
        if judge is not None and not isinstance(judge, Path) and judge.settings.get("kind") != "demo-rule":
            reviews = session.plan_reviews(planned, judge)
            fields["judge"] = {"model": judge.name, **vars(reviews)}
            line += f"\n    then {judge.name}, the judge, at most: {reviews}"
        rows.append(fields)
        lines.append(line)
    if as_json:
        print_json({**_identity(session.suite), "plans": rows})
        return
    typer.echo(_heading(session.suite))
    for line in lines:
        typer.echo(line)


def print_suite(session: "SuiteSession", entries: "Sequence[SuiteEntry]", *, as_json: bool) -> None:
    """The scores of every entry by every rule."""
    if as_json:
        models = [suite_fields(entry) for entry in entries]
        print_json({"folder": str(session.folder), "suite": _identity(session.suite), "models": models})
        return
    typer.echo(_heading(session.suite))
    for entry in entries:
        typer.echo(f"\n{_title(entry, entries)}")
        for line in _lines(entry):
            typer.echo(f"  {line}")
    say(f"answers and scores: {session.folder}")


def suite_fields(entry: "SuiteEntry") -> dict[str, Any]:
    """An entry as JSON."""
    from blindpairs.evaluate.suite_session import score_fields

    return {
        "folder": entry.folder.name,
        "model": entry.setup.model,
        "settings": dict(entry.setup.settings),
        "answered_now": entry.answered_now,
        "answered": entry.answered,
        "complete": not entry.missing,
        "unanswered": [vars(one) for one in entry.failures],
        "scores": {one.rule: score_fields(one) for one in entry.scores},
    }


def raise_what_is_missing(entries: "Sequence[SuiteEntry]") -> None:
    """End with the error of a run that ended early, or with the code for questions that got no answer."""
    for entry in entries:
        if entry.stopped is not None:
            raise entry.stopped
    if failed := sum(len(entry.failures) for entry in entries):
        raise TooManyFailures(f"{failed:,} questions got no answer: run the same command again to ask them again")


def _identity(suite: "Suite") -> dict[str, Any]:
    return {
        "name": suite.name,
        "data": str(suite.folder),
        "fingerprint": suite.fingerprint,
        "questions": len(suite.questions),
        "images": len({one.image for one in suite.questions}),
    }


def _heading(suite: "Suite") -> str:
    images = len({one.image for one in suite.questions})
    return f"{suite.name}: {len(suite.questions):,} questions about {images:,} images, fingerprint {suite.fingerprint}"


def _title(entry: "SuiteEntry", entries: "Sequence[SuiteEntry]") -> str:
    """The model, and its folder's hash where two have one name."""
    titles = [one.setup.title for one in entries]
    return entry.setup.title + (f" {entry.folder.name[-8:]}" if titles.count(entry.setup.title) > 1 else "")


def _lines(entry: "SuiteEntry") -> list[str]:
    from blindpairs.evaluate.overview import aligned

    lines = []
    if entry.missing:
        lines.append(f"incomplete, so without scores: {entry.missing:,} questions have no answer or no review")
    for code, count in Counter(one.code for one in entry.failures).items():
        example = next(one.message for one in entry.failures if one.code == code)
        lines.append(f"{count:,} failed: {code}, such as {example}")
    for scores in entry.scores:
        lines += aligned(_rows(scores))
        lines += scores.notes
    return lines


def _rows(scores: "SuiteScores") -> list[tuple[str, ...]]:
    from blindpairs.evaluate.llava_bench import BenchScores
    from blindpairs.evaluate.pope import PopeScores

    if isinstance(scores, PopeScores):
        return _pope_rows(scores)
    return _bench_rows(scores) if isinstance(scores, BenchScores) else _following_rows(scores)


def _pope_rows(scores: "PopeScores") -> list[tuple[str, ...]]:
    rows = [(f"%, read by {scores.rule}", *POPE_COLUMNS.values(), "unreadable")]
    return rows + [_pope_row(name, one) for name, one in {**scores.splits, "mean": scores.mean}.items()]


def _pope_row(name: str, figures: "PopeFigures") -> tuple[str, ...]:
    shares = (shown_figure(getattr(figures, column)) for column in POPE_COLUMNS)
    return (name, *shares, f"{figures.unreadable:,} of {figures.questions:,}")


def _following_rows(scores: "FollowingScores") -> list[tuple[str, ...]]:
    rows = [("%, read to the letter", "exact", "in the form", "unreadable")]
    parts = {"category": scores.category, **scores.forms, "all forms": scores.together}
    return rows + [_following_row(name, one) for name, one in parts.items()]


def _following_row(name: str, figures: "FollowingFigures") -> tuple[str, ...]:
    unreadable = f"{figures.unreadable:,} of {figures.questions:,}"
    return (name, shown_figure(figures.exact), shown_figure(figures.form), unreadable)


def shown_figure(figure: "Figure") -> str:
    """`92.8 [78, 98]`, in percent; a dash where nothing was counted."""
    from blindpairs.evaluate.overview import shown_interval

    if math.isnan(figure.share):
        return "-"
    return f"{100 * figure.share:.1f}" + (f" {shown_interval(figure.interval)}" if figure.interval else "")


def _bench_rows(scores: "BenchScores") -> list[tuple[str, ...]]:
    judges = ", ".join(one or "an unnamed judge" for one in scores.judges)
    heading = f"judged by {judges}, read by {scores.rule}"
    rows = [(heading, "relative score, %", "reference", "model", "without scores")]
    return rows + [_bench_row(name, one) for name, one in {**scores.categories, "all": scores.all}.items()]


def _bench_row(name: str, figures: "BenchFigures") -> tuple[str, ...]:
    failed = f"{figures.failed:,} of {figures.reviews:,}"
    if math.isnan(figures.relative):
        return (name, "-", "-", "-", failed)
    relative = f"{figures.relative:.1f}"
    if figures.interval:
        relative += f" [{figures.interval[0]:.0f}, {figures.interval[1]:.0f}]"
    return (name, relative, f"{figures.reference:.2f}", f"{figures.model:.2f}", failed)
