"""`blindpairs benchmark`."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindpairs.cli.app import WORK, Json, Work, command, counted, named_folder, print_json, say
from blindpairs.errors import ConfigError, first_names
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.benchmark import Benchmark
    from blindpairs.benchmark.changes import Changes
    from blindpairs.benchmark.checks import Finding

MOST_LISTED = 20  # lines of one kind; --json has all of them
GivenBenchmark = Annotated[
    str,
    typer.Option(
        rich_help_panel="Corpus",
        help="A benchmark in any format that `import` knows. [default: that of the work folder, else the demo's]",
    ),
]


class Action(StrEnum):
    """What to do with benchmarks."""

    check = "check"
    diff = "diff"
    merge = "merge"


class Prefer(StrEnum):
    """Which benchmark counts where both have a pair with other contents."""

    neither = ""
    first = "first"
    second = "second"


@command
def benchmark(
    action: Annotated[
        Action,
        typer.Argument(help="check: counts and findings. diff: what changed from one to another. merge: both in one."),
    ] = Action.check,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Benchmarks in any format that `import` knows; check takes one, by default that of the work folder.",
        ),
    ] = None,
    prefer: Annotated[
        Prefer,
        typer.Option(rich_help_panel="Selection", help="For merge: whose pair counts where the two differ."),
    ] = Prefer.neither,
    ground_truth: Annotated[
        str, typer.Option(rich_help_panel="Selection", help="For check: original, or the name of a correction.")
    ] = "",
    output: Annotated[str, typer.Option(rich_help_panel="Output", help="For merge: the folder to write.")] = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Check a benchmark, compare two, or merge two into one."""
    given = [named_folder("PATH", path) for path in paths or []]
    space = Workspace(work)
    if action is Action.check:
        _expect(given, 0, 1, "check")
        _print_check(open_benchmark(space, given[0] if given else None), ground_truth, as_json=as_json)
    elif action is Action.diff:
        _expect(given, 2, 2, "diff")
        _print_diff(*(open_benchmark(space, path) for path in given), as_json=as_json)
    else:
        _expect(given, 2, 2, "merge")
        if not output:
            raise ConfigError("merge needs --output FOLDER, the folder to write")
        _merge(given, named_folder("--output", output), space, prefer, as_json=as_json)


def open_benchmark(space: Workspace, given: Path | None) -> "Benchmark":
    """The benchmark at a path, in any known format; else that of the work folder, else the demo's, which is said."""
    from blindpairs.access import present
    from blindpairs.benchmark.native import DATA, read_native

    if given is not None:
        from blindpairs.benchmark.recognise import read_benchmark  # loads torch, which the native file does without

        imported = read_benchmark(given)
        for note in imported.notes:
            say(f"{given}: {note}")
        return imported.benchmark
    if present(space.benchmark / DATA):  # not the folder, which may hold exports of another benchmark only
        return read_native(space.benchmark)
    from blindpairs.demo.benchmark import demo_benchmark

    say(f"no benchmark at {space.benchmark}: this is the demo's, which ships; `blindpairs export` makes one")
    return demo_benchmark()


def check_replaceable(space: Workspace, found: "Benchmark") -> None:
    """ConfigError where the work folder has a benchmark that `export` cannot make again: it may be the only copy."""
    from blindpairs.access import present
    from blindpairs.benchmark.native import DATA, read_native
    from blindpairs.demo.benchmark import demo_benchmark

    if not present(space.benchmark / DATA):
        return
    there = read_native(space.benchmark)
    same = (there.name, there.provenance) == (found.name, found.provenance)
    if same or "made_by" in there.provenance or there.fingerprint in (found.fingerprint, demo_benchmark().fingerprint):
        return
    raise ConfigError(
        f"{space.benchmark} holds another benchmark ({there.name}, {described(there)}), which was imported: give "
        "--output another folder, then join the two with `blindpairs benchmark merge`"
    )


def _expect(paths: list[Path], least: int, most: int, action: str) -> None:
    if not least <= len(paths) <= most:
        wanted = "two benchmarks: BEFORE AFTER" if least == 2 else "at most one benchmark"
        raise ConfigError(f"{action} takes {wanted}; {len(paths)} were given")


def _print_check(benchmark: "Benchmark", ground_truth: str, *, as_json: bool) -> None:
    from blindpairs.benchmark.checks import check

    benchmark = benchmark.with_ground_truth(ground_truth or benchmark.ground_truth)
    findings = check(benchmark)
    counts = pattern_counts(benchmark)
    if as_json:
        found = [vars(finding) for finding in findings]
        print_json({**identity(benchmark), "patterns": counts, "findings": found})
        return
    typer.echo(f"{benchmark.name}: {described(benchmark)}, fingerprint {benchmark.fingerprint}")
    if benchmark.corrections:
        others = ", ".join(f"{name} ({len(answers)} pairs)" for name, answers in benchmark.corrections.items())
        typer.echo(f"  ground truth {benchmark.ground_truth}; also: {others}")
    for name, count in counts.items():
        typer.echo(f"  {name:40} {count:5,} pairs")
    print_findings(findings)


def print_findings(findings: "list[Finding]") -> None:
    """What refuses pairs, then the notes: counts, and a line each of the first; the rarest first, which others hide."""
    for heading, refuses in (("refused", True), ("noted", False)):
        some = [finding for finding in findings if finding.refuses is refuses]
        counts = Counter(finding.check for finding in some)
        if some:
            pairs = len({finding.pair_id for finding in some if finding.pair_id})
            typer.echo(f"  {heading}: " + (f"{pairs:,} pairs ({counted(counts)})" if pairs else counted(counts)))
        for finding in sorted(some, key=lambda one: counts[one.check])[:MOST_LISTED]:
            typer.echo(f"    {finding.pair_id or 'all pairs':18} {finding.check}: {finding.message}")
        if len(some) > MOST_LISTED:
            typer.echo(f"    and {len(some) - MOST_LISTED:,} more: --json lists all")


def described(benchmark: "Benchmark") -> str:
    """Such as `135 pairs and 120 controls`."""
    controls = sum(pair.is_control for pair in benchmark.pairs)
    return f"{len(benchmark.pairs) - controls:,} pairs" + (f" and {controls:,} controls" if controls else "")


def pattern_counts(benchmark: "Benchmark") -> dict[str, int]:
    """The number of blind pairs of each pattern of the taxonomy, and of every other name."""
    counts = dict.fromkeys(benchmark.patterns, 0)
    for pair in benchmark.pairs:
        if not pair.is_control:
            for name in pair.patterns or ("without a pattern",):
                counts[name] = counts.get(name, 0) + 1
    return counts


def identity(benchmark: "Benchmark") -> dict[str, Any]:
    """What tells which benchmark it is, as JSON fields."""
    return {
        "name": benchmark.name,
        "fingerprint": benchmark.fingerprint,
        "ground_truth": benchmark.ground_truth,
        "pairs": len(benchmark.pairs),
        "controls": sum(pair.is_control for pair in benchmark.pairs),
    }


def _print_diff(before: "Benchmark", after: "Benchmark", *, as_json: bool) -> None:
    from blindpairs.benchmark.changes import changes

    seen = changes(before, after)
    if as_json:
        changed = {
            key: {name: [_shown(old), _shown(new)] for name, (old, new) in edits.items()}
            for key, edits in seen.changed.items()
        }
        fields = {"added": seen.added, "removed": seen.removed, "changed": changed, "reordered": seen.reordered}
        print_json({"before": identity(before), "after": identity(after), **fields})
        return
    for label, side in (("before", before), ("after", after)):
        typer.echo(f"{label:6} {side.name}: {described(side)}, fingerprint {side.fingerprint}")
    _print_changes(seen)


def _print_changes(seen: "Changes") -> None:
    for heading, ids in (("added", seen.added), ("removed", seen.removed)):
        if ids:
            typer.echo(f"  {heading} {len(ids):,}: {first_names(ids, MOST_LISTED)}")
    if seen.changed:
        typer.echo(f"  changed {len(seen.changed):,}:")
    for key, edits in list(seen.changed.items())[:MOST_LISTED]:
        for name, (old, new) in edits.items():
            typer.echo(f"    {key} {name}: {_shown(old)} -> {_shown(new)}")
    if len(seen.changed) > MOST_LISTED:
        typer.echo(f"    and {len(seen.changed) - MOST_LISTED:,} more: --json lists all")
    if seen.reordered:
        typer.echo("  the pairs that both have come in another order")
    same = "nothing that a score depends on changed: results of both can be compared"
    typer.echo("  scores of the two cannot be compared pair by pair" if seen.scores_change else f"  {same}")


def _shown(value: object) -> str:
    from blindpairs.benchmark import Question

    if isinstance(value, Question):
        answers = [value.options[answer] for answer in value.answers if answer in (0, 1)]
        return f"{value.text!r} {' / '.join(value.options)} (a: {answers[0]}, b: {answers[-1]})"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else repr(value)


def _merge(given: list[Path], output: Path, space: Workspace, prefer: Prefer, *, as_json: bool) -> None:
    from blindpairs.benchmark.changes import merge
    from blindpairs.benchmark.checks import check
    from blindpairs.benchmark.hub import export_hub

    first, second = (open_benchmark(space, path) for path in given)
    merged = merge(first, second, prefer.value, name=output.name)
    findings = check(merged)
    export_hub(merged, output, findings=findings)
    if as_json:
        found = [vars(finding) for finding in findings]
        print_json({"folder": str(output), **identity(merged), "findings": found})
        return
    typer.echo(f"{output}: {described(merged)}, fingerprint {merged.fingerprint}")
    print_findings(findings)
