"""`blindpairs study`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, print_json
from blindpairs.cli.benchmark import GivenBenchmark, open_benchmark
from blindpairs.cli.groups import grouped
from blindpairs.cli.serving import Serving, access_for, named_people, people_of, serve
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blindpairs.evaluate.study import StudyScores
    from blindpairs.statistics import Rate


@dataclass(frozen=True)
class Asked:
    """Who is asked how much."""

    participant: Annotated[list[str] | None, named_people("Who answers")] = None
    limit: Annotated[
        int, typer.Option(min=0, rich_help_panel="Selection", help="Ask about so many pairs only; 0 asks about all.")
    ] = 0


@command
@grouped
def study(
    asked: Asked,
    serving: Serving,
    benchmark: GivenBenchmark = "",
    scores: Annotated[
        bool, typer.Option("--scores", rich_help_panel="Output", help="Print how right people were, and stop.")
    ] = False,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Serve the page where people answer the benchmark's questions, one image at a time, until Ctrl-C.

    The answers are recorded as those of a model human:NAME, which `eval` scores beside the others.
    """
    from blindpairs.evaluate.results import benchmark_folder
    from blindpairs.evaluate.study import Study, spec_of, study_scores

    space = Workspace(work)
    found = open_benchmark(space, named_folder("--benchmark", benchmark) if benchmark else None)
    folder = benchmark_folder(space.results, found)
    if not scores:
        from blindpairs.evaluate.study_pages import StudyPages

        people = people_of(asked.participant or [], "participant")
        for name in people:
            spec_of(name)  # refuses a name before anybody has an address
        access = access_for(serving, people, space, "study")
        with Study(space.results, found, limit=asked.limit or None) as going:
            pages = StudyPages(going, found, access)
            serve(pages.application, access, serving, as_json=as_json, hint=_hint(going.questions, asked.limit))
        if as_json:
            return
    told = study_scores(found, folder)
    if as_json:
        print_json({"benchmark": found.name, "participants": {name: _as_json(one) for name, one in told.items()}})
    else:
        _print(told)


def _hint(questions: int, limit: int) -> str:
    """What whoever starts a study is in for, and how to ask less of people where that is much."""
    from blindpairs.evaluate.study import FEWER, LONG, SECONDS, duration, minutes_for

    minutes = minutes_for(questions)
    fewer = f"; --limit {FEWER} asks about {FEWER} pairs only" if not limit and minutes > LONG else ""
    takes = f"about {duration(minutes)} at {SECONDS:g} s each"
    return f"open it in a browser and answer: {questions:,} questions, {takes}{fewer}"


def _print(told: "Mapping[str, StudyScores]") -> None:
    if not told:
        typer.echo("nobody has answered yet")
    for name, one in told.items():
        label = name or "all together"
        if name or len(told) > 2:
            typer.echo(f"{label:24} questions {_rate(one.questions)}   pairs {_rate(one.pairs)}{_pace(one)}")
    for name in told:
        if name:
            typer.echo(f"  in the table of models: blindpairs eval --model '{name}'")


def _rate(rate: "Rate") -> str:
    if not rate.count:
        return "none whole yet"
    shown = f"{rate.hits}/{rate.count} {rate.share:.1%}"
    return shown if rate.interval is None else f"{shown} ({rate.interval[0]:.1%} to {rate.interval[1]:.1%})"


def _pace(one: "StudyScores") -> str:
    return f"   {one.seconds:.1f} s a question" if one.seconds is not None else ""


def _as_json(one: "StudyScores") -> dict[str, object]:
    rates = {"questions": one.questions, "pairs": one.pairs}
    return {
        **{name: {"right": rate.hits, "of": rate.count, "interval": rate.interval} for name, rate in rates.items()},
        "seconds": one.seconds,
    }
