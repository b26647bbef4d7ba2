"""Both axes of the paper for the demo's runs: pair accuracy on blind pairs, beside how well instructions are followed.

A bare `blindpairs eval` of the demo's own benchmark also asks its runs the suite `following`. Promises: what is
answered is not asked again, and a run whose files have not changed is not loaded for it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blindpairs.cli.eval_report import Evaluated
from blindpairs.cli.eval_suites import open_following
from blindpairs.cli.eval_suites_report import raise_what_is_missing, shown_figure, suite_fields
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.benchmark import Benchmark
    from blindpairs.evaluate.answering import Conditions, Planned
    from blindpairs.evaluate.following import FollowingScores
    from blindpairs.evaluate.session import Asked, Entry, Session
    from blindpairs.evaluate.suite_session import SuiteEntry
    from blindpairs.progress import Progress

HEADING = ("both axes, %", "blind pairs", "instructions, exact", "in the form", "category named")


def of_the_demo(benchmark: "Benchmark", shard: tuple[int, int]) -> bool:
    """Whether a benchmark is the demo's and all of it is asked: both axes belong to it alone."""
    return benchmark.name == "blindpairs-demo" and shard == (0, 1)


class BothAxes:
    """The instructions of the demo, asked of the runs that `session` asks about pairs."""

    def __init__(self, session: "Session", conditions: "Conditions", space: Workspace) -> None:
        from blindpairs.evaluate.suite_session import SuiteSession

        # The model that the session has just asked is there still.
        self._session = SuiteSession(space.results, open_following(space), conditions, session.model)
        self._entries: dict[str, SuiteEntry] = {}

    def plan(self, one: "Asked") -> "Planned":
        """What asking a run would take."""
        return self._session.plan(self._session.respondent(one.spec))

    def answer(self, spec: str, checkpoint: Path, bar: "Callable[[str, str], Progress]") -> None:
        """Ask a run what is missing, and score it. Raises what loading raises for a checkpoint without a model."""
        from blindpairs.evaluate.asked_runs import answer_suite_of_run

        if spec not in self._entries:  # it may be asked about pairs in both orders of their options
            entry = answer_suite_of_run(self._session, spec, checkpoint, bar(f"{spec}, instructions", "questions"))
            self._session.score(entry, (self._session.suite.usual_rule,))
            self._entries[spec] = entry

    def beside(self, entries: "Sequence[Entry]") -> list[Evaluated]:
        """A line a run: its pair accuracy among `entries`, and its score on instructions. Empty without a run."""
        from blindpairs.evaluate.overview import aligned

        if not self._entries:
            return []
        first = {one.setup.model: one for one in reversed(entries) if not one.setup.exchanged}
        pairs = {spec: first[spec] for spec in self._entries}
        lines = aligned([HEADING, *(_row(pairs[spec], one) for spec, one in self._entries.items())])
        lines.append(f"answers to instructions: {self._session.folder}")
        return [Evaluated("axes", lines, [_fields(pairs[spec], one) for spec, one in self._entries.items()])]

    def raise_what_is_missing(self) -> None:
        """End with the error of a run that ended early, or with the code for questions that got no answer."""
        raise_what_is_missing(list(self._entries.values()))


def _row(pairs: "Entry", instructions: "SuiteEntry") -> tuple[str, ...]:
    from blindpairs.evaluate.overview import shown_rate

    blind = pairs.summary.blind if pairs.summary else None
    accuracy = shown_rate(blind.pair_accuracy) if blind else "incomplete"
    scores = _scores(instructions)
    if scores is None:
        return (pairs.setup.title, accuracy, f"incomplete: {instructions.missing:,} without an answer")
    figures = (scores.together.exact, scores.together.form, scores.category.exact)
    return (pairs.setup.title, accuracy, *map(shown_figure, figures))


def _fields(pairs: "Entry", instructions: "SuiteEntry") -> dict[str, Any]:
    from blindpairs.evaluate.summary import rate_fields

    blind = pairs.summary.blind if pairs.summary else None
    accuracy = rate_fields(blind.pair_accuracy) if blind else None
    return {"model": pairs.setup.model, "pair_accuracy": accuracy, "following": suite_fields(instructions)}


def _scores(entry: "SuiteEntry") -> "FollowingScores | None":
    from blindpairs.evaluate.following import FollowingScores

    return next((one for one in entry.scores if isinstance(one, FollowingScores)), None)
