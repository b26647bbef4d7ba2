"""`blindpairs export`."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindpairs.access import present
from blindpairs.cli.app import WORK, Json, Work, command, counted, named_folder, print_json, say
from blindpairs.cli.benchmark import (
    MOST_LISTED,
    check_replaceable,
    described,
    open_benchmark,
    pattern_counts,
    print_findings,
)
from blindpairs.cli.draft import read_patterns, tell_notice
from blindpairs.cli.export_options import Contents, Format, refuse_ignored
from blindpairs.cli.groups import grouped
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blindpairs.benchmark import Benchmark
    from blindpairs.benchmark.checks import Finding
    from blindpairs.benchmark.foreign import Exported


TO_DECIDE = "decide on the drafts with `author`, or with `export --format csv` and `import`"
TO_NAME = (
    "name the taxonomy that they were drafted with, --patterns FILE, or assign another to them: "
    "`blindpairs patterns --model SPEC --patterns FILE --accept NAME`"
)


_TO_RETURN = {
    Format.csv: "write accept or reject into the column decision, then blindpairs import {place} --annotator NAME",
    Format.label_studio: "decide in Label Studio with labeling-config.xml beside it, export as JSON, and import that",
}


@command
@grouped
def export(
    contents: Contents,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            rich_help_panel="Output",
            help="hf: Parquet and card, for datasets.load_dataset. mmvp, mmvp-vlm, naturalbench: the layouts of these "
            "benchmarks. vlmevalkit, lmms-eval: for these harnesses. csv, label-studio: drafts, to decide on.",
        ),
    ] = Format.hf,
    benchmark: Annotated[
        str,
        typer.Option(
            rich_help_panel="Corpus",
            help="A benchmark in any format that `import` knows. [default: what people accepted, else the one in the "
            "work folder, else the demo's]",
        ),
    ] = "",
    output: Annotated[
        str,
        typer.Option(
            rich_help_panel="Output",
            help="Folder, or file for csv. [default: benchmark/, benchmark/exports/FORMAT or decisions.csv in the work "
            "folder]",
        ),
    ] = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Write the accepted pairs as a benchmark, in the format of a tool that reads it; or the drafts, to decide on.

    What a check or a format refuses is listed with its reason.
    """
    space = Workspace(work)
    target = named_folder("--output", output) if output else None
    collected = not benchmark and present(space.authoring)
    refuse_ignored(format_, contents, benchmark, collected=collected)
    if format_ in (Format.csv, Format.label_studio):
        _export_drafts(space, format_, target, contents, as_json=as_json)
        return
    given = named_folder("--benchmark", benchmark) if benchmark else None
    found, findings = _collected(space, contents) if collected else _benchmark(space, given)
    found = found.with_ground_truth(contents.ground_truth or found.ground_truth)
    if not found.pairs:
        raise ConfigError(why_nothing(findings))
    if format_ is Format.hf and target is None:
        check_replaceable(space, found)
    written = write_format(found, format_, target or default_folder(space, format_), contents, findings)
    if as_json:
        fields: dict[str, Any] = {"folder": str(written.folder), "format": format_, "pairs": written.pairs}
        fields |= {"fingerprint": found.fingerprint, "patterns": pattern_counts(found)}
        fields |= {"refused": dict(written.refused), "findings": [vars(finding) for finding in findings]}
        print_json({**fields, "notes": written.notes})
    else:
        _print(found, findings, written)


def why_nothing(findings: "Sequence[Finding]") -> str:
    """The message for an export without a pair: how many were refused for what, and what helps most of them."""
    counts = Counter(finding.check for finding in findings if finding.refuses)
    if not counts:
        return "no pair can be exported (nothing was drafted): run `blindpairs draft` first"
    if counts["unknown_pattern"]:  # these were accepted already
        advice = TO_NAME
    elif counts["unreadable_image"]:
        advice = "were the images moved? `blindpairs embed NEW-PATH` finds them again"
    elif counts["unreviewed"]:
        advice = TO_DECIDE
    else:
        advice = "correct them with `export --format csv` and `import`; --json lists each with its reason"
    return f"no pair can be exported ({counted(counts)}): {advice}"


def default_folder(space: Workspace, format_: Format) -> Path:
    """Where a format goes in the work folder."""
    return space.benchmark if format_ is Format.hf else space.exports / format_


def write_format(
    benchmark: "Benchmark", format_: Format, folder: Path, contents: Contents, findings: "Sequence[Finding]"
) -> "Exported":
    """Write a benchmark in one format."""
    if format_ is Format.hf:
        from blindpairs.benchmark.hub import export_hub

        return export_hub(benchmark, folder, images=contents.images, findings=findings)
    if format_ is Format.mmvp:
        from blindpairs.benchmark.mmvp import export_mmvp

        return export_mmvp(benchmark, folder)
    if format_ is Format.mmvp_vlm:
        from blindpairs.benchmark.mmvp_vlm import export_mmvp_vlm

        return export_mmvp_vlm(benchmark, folder, per_pattern=contents.per_pattern or None)
    if format_ is Format.naturalbench:
        from blindpairs.benchmark.naturalbench import export_naturalbench

        return export_naturalbench(benchmark, folder)
    if format_ is Format.vlmevalkit:
        from blindpairs.benchmark.vlmevalkit import export_vlmevalkit

        return export_vlmevalkit(benchmark, folder)
    from blindpairs.benchmark.lmms_eval import export_lmms_eval

    return export_lmms_eval(benchmark, folder)


def _benchmark(space: Workspace, given: Path | None) -> "tuple[Benchmark, list[Finding]]":
    """The benchmark to export without its refused pairs, and every finding."""
    from dataclasses import replace

    from blindpairs.benchmark.checks import check, without_refused

    found = open_benchmark(space, given)
    findings = check(found)
    return replace(found, pairs=without_refused(found.pairs, findings)), findings


def _collected(space: Workspace, contents: Contents) -> "tuple[Benchmark, list[Finding]]":
    from blindpairs.author import collecting
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.store import Store, images_of

    taxonomy, licenses = tuple(read_patterns(contents.patterns)), _licenses(contents.license or [])
    wanted = collecting.Contents(contents.name or "blindpairs", taxonomy, licenses)
    store = Store.open(space.embeddings)
    with AuthoringDatabase(space.authoring) as database:
        return collecting.collect(database, partial(images_of, store), wanted)


def _licenses(given: list[str]) -> dict[str, str]:
    """`CC-BY-4.0` and `/photos=CC0` -> by prefix of the path; "" is every path."""
    licenses: dict[str, str] = {}
    for text in given:
        prefix, found, name = text.partition("=")
        if not (name if found else prefix):
            raise ConfigError(f"--license {text!r} names no licence: give CC-BY-4.0, or /photos=CC-BY-4.0")
        licenses[prefix if found else ""] = name if found else prefix
    return licenses


def _export_drafts(
    space: Workspace, format_: Format, target: Path | None, contents: Contents, *, as_json: bool
) -> None:
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.decisions import is_open, standings

    if not present(space.authoring):
        raise ConfigError(f"there are no drafts at {space.authoring}: run `blindpairs draft` first")
    left_out: dict[str, str] = {}
    annotator = contents.annotator
    with AuthoringDatabase(space.authoring) as database:
        tell_notice(database)
        if format_ is Format.csv:
            from blindpairs.author.csv_file import write_csv

            place = target or space.root / "decisions.csv"
            write_csv(database, place, annotator)
        else:
            from blindpairs.author.label_studio import write_tasks
            from blindpairs.store import Store, images_of

            place = target or space.root / "label-studio.json"
            images, patterns = partial(images_of, Store.open(space.embeddings)), tuple(read_patterns(contents.patterns))
            left_out = write_tasks(database, place, images, patterns, annotator)
        states = [is_open(one, annotator) for one in standings(database) if one.pair.pair_id not in left_out]
    count, open_ = len(states), sum(states)
    if as_json:
        fields = {"pairs": count, "undecided": open_, "left_out": left_out}
        print_json({"path": str(place), "format": format_, **fields})
        return
    whose = f" by {annotator}" if annotator else ""
    typer.echo(f"{place}: {count:,} pairs, {open_:,} of them not decided{whose}")
    typer.echo(f"  {_TO_RETURN[format_].format(place=place)}")
    for pair_id, reason in list(left_out.items())[:MOST_LISTED]:
        typer.echo(f"  left out: {pair_id}, {reason}")


def _print(benchmark: "Benchmark", findings: "list[Finding]", written: "Exported") -> None:
    typer.echo(f"{written.folder}: {described(benchmark)}, fingerprint {benchmark.fingerprint}")
    for name, count in pattern_counts(benchmark).items():
        typer.echo(f"  {name:40} {count:5,} pairs")
    print_findings(findings)
    listed = {finding.pair_id for finding in findings if finding.refuses}
    lost = {pair_id: reason for pair_id, reason in written.refused.items() if pair_id not in listed}
    if lost:
        typer.echo(f"  this format cannot carry {len(lost):,} pairs:")
    for pair_id, reason in list(lost.items())[:MOST_LISTED]:
        typer.echo(f"    {pair_id:18} {reason}")
    if any(finding.check == "unknown_pattern" for finding in findings):
        say(f"note: pairs have patterns that the taxonomy lacks: {TO_NAME}")
    for note in written.notes:
        say(f"note: {note}")
