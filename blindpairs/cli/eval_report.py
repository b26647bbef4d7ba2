"""What `blindpairs eval` prints."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from blindpairs.cli.app import print_json, say
from blindpairs.cli.benchmark import MOST_LISTED, described, identity
from blindpairs.errors import TooManyFailures

if TYPE_CHECKING:
    from blindpairs.benchmark import Benchmark
    from blindpairs.evaluate.answering import Planned
    from blindpairs.evaluate.session import Entry


@dataclass(frozen=True)
class Evaluated:
    """What an evaluator found: lines to print, and the same as JSON under its name."""

    name: str
    lines: Sequence[str]
    fields: Any


SHOWN_TEXT = 60  # characters of an answer in a list


def print_plans(benchmark: "Benchmark", plans: "Sequence[Planned]", compared: Sequence[str], *, as_json: bool) -> None:
    """What asking would take, a line a model; `compared` are CLIP-style models, which are not asked."""
    if as_json:
        fields = {"plans": [plan_fields(one) for one in plans], "not_asked": list(compared)}
        print_json({**identity(benchmark), **fields})
        return
    typer.echo(f"{benchmark.name}: {described(benchmark)}, fingerprint {benchmark.fingerprint}")
    for one in plans:
        typer.echo(plan_line(one))
    for spec in compared:
        typer.echo(f"  {spec}: not asked, it compares statements with images")


def plan_fields(one: "Planned") -> dict[str, Any]:
    """What asking one model would take, as JSON."""
    return {"model": one.setup.model, "answered": one.answered, "seconds": one.seconds, **vars(one.plan)}


def plan_line(one: "Planned") -> str:
    """The same as a line."""
    hours = one.plan.requests * one.seconds / 3600 if one.seconds else None
    took = "" if hours is None else f"; {hours:.2g} hours, one after the other, at {one.seconds:.2g} s each until now"
    before = f", {one.answered:,} are answered" if one.answered else ""
    return f"  {one.setup.title} ({one.setup.asking.name}): {one.plan}{took}{before}"


def print_report(
    folder: Path, benchmark: "Benchmark", entries: "Sequence[Entry]", others: Sequence[Evaluated], *, as_json: bool
) -> None:
    """The scores of every entry, and what other evaluators found."""
    from blindpairs.evaluate.overview import provenance
    from blindpairs.evaluate.session import entry_fields
    from blindpairs.pages.safety import visible_text

    if as_json:
        print_json(
            {
                "folder": str(folder),
                "benchmark": identity(benchmark),
                "models": [entry_fields(one) for one in entries],
                **{one.name: one.fields for one in others},
            }
        )
        return
    typer.echo(f"{benchmark.name}: {described(benchmark)}, fingerprint {benchmark.fingerprint}")
    for line in (
        f"ground truth {benchmark.ground_truth}",
        *provenance([one.summary for one in entries if one.summary]),
    ):
        typer.echo(f"  {line}")
    _print_tables(entries)
    for entry in entries:
        _print_more(entry)
    for other in others:
        typer.echo()
        for line in other.lines:
            typer.echo(visible_text(line))
    say(f"answers and scores: {folder}")


def print_tables(benchmark: "Benchmark", tables: Evaluated) -> None:
    """The tables alone, under the benchmark that they are about."""
    from blindpairs.pages.safety import visible_text

    typer.echo(f"{benchmark.name}: {described(benchmark)}, fingerprint {benchmark.fingerprint}")
    typer.echo(f"  ground truth {benchmark.ground_truth}")
    for line in tables.lines:
        typer.echo(visible_text(line))


def _print_tables(entries: "Sequence[Entry]") -> None:
    from blindpairs.evaluate.overview import control_table, model_table, pattern_table

    summaries = [one.summary for one in entries if one.summary]
    for lines in (model_table(summaries), control_table(summaries), pattern_table(summaries)):
        if lines:
            typer.echo()
        for line in lines:
            typer.echo(line)


def _print_more(entry: "Entry") -> None:
    """What else there is about one entry: the other order, other readers, failures and notes."""
    from blindpairs.evaluate.overview import endings, shown_rate, titled
    from blindpairs.pages.safety import visible_text

    lines: list[str] = []
    if entry.both_orders:
        right, same = shown_rate(entry.both_orders.pair_accuracy), shown_rate(entry.both_orders.same_option)
        lines.append(f"right about both images in both orders {right} %; the same option in both {same} %")
    for readout in entry.readouts:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in readout.headline.items())
        lines.append(f"read by {readout.reader}: {numbers or 'no numbers'}")
        lines += [f"  {note}" for note in readout.notes]
        lines += _differences(entry, readout.reader)
    if entry.summary:
        lines += endings(entry.summary)
        lines += [f"{count:,} questions without an answer: {code}" for code, count in entry.summary.failures.items()]
    if entry.report:
        examples = {one.code: one.message for one in entry.report.failures.values()}
        lines += [f"  {code}, such as {message}" for code, message in examples.items()]
    lines += entry.notes
    if lines and entry.summary:
        typer.echo(f"\n{titled(entry.summary)}")
    for line in lines:
        typer.echo(f"  {visible_text(line)}")  # a server's words may command a terminal


def _differences(entry: "Entry", reader: str) -> list[str]:
    found = entry.differences.get(reader, [])
    reasons = Counter(one.reason for one in found)
    lines = [f"  {count:,} answers scored otherwise: {reason}" for reason, count in reasons.most_common()]
    for one in found[:MOST_LISTED]:
        said = " ".join(one.answered.text.split())[:SHOWN_TEXT]
        place = f"{one.answered.key[0]} image {one.answered.key[1]}"
        lines.append(f"    {place}: {said!r} is {one.ours.outcome} for ours, {one.theirs.outcome} ({one.reason})")
    if len(found) > MOST_LISTED:
        lines.append(f"    and {len(found) - MOST_LISTED:,} more: --json lists all")
    return lines


def raise_what_failed(entries: "Sequence[Entry]") -> None:
    """End with the error of a run that ended early, or with the code for questions that got no answer."""
    from blindpairs.evaluate.session import first_error

    if (stopped := first_error(entries)) is not None:
        raise stopped
    failed = sum(len(one.report.failures) for one in entries if one.report)
    if failed:
        raise TooManyFailures(
            f"{failed:,} questions got no answer: run the same command again to ask them again, or score what is "
            "complete with --complete-pairs"
        )
