"""`blindpairs import`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, counted, named_folder, print_json, progress_bar
from blindpairs.cli.benchmark import MOST_LISTED, described, identity, pattern_counts, print_findings
from blindpairs.cli.draft import tell_notice
from blindpairs.cli.groups import grouped
from blindpairs.errors import ConfigError, first_names
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.author.rows import ImportedDecisions
    from blindpairs.benchmark.foreign import ImportedBenchmark
    from blindpairs.store.imports import Imported

DECISIONS = ("csv-decisions", "label-studio")


@dataclass(frozen=True)
class Vectors:
    """How embeddings are imported."""

    column: Annotated[
        str, typer.Option(rich_help_panel="Encoders", help="For embeddings: a name for the encoder of these vectors.")
    ] = "clip"
    second: Annotated[
        str,
        typer.Option(
            rich_help_panel="Encoders",
            help="NAME=FOLDER: a second encoder's vectors of the same images. Mining needs two encoders.",
        ),
    ] = ""
    read_images: Annotated[
        bool,
        typer.Option(
            rich_help_panel="Corpus", help="For embeddings: read each image at its path to get its id, size and flags."
        ),
    ] = True


@command
@grouped
def import_(
    vectors: Vectors,
    path: Annotated[
        str,
        typer.Argument(
            help="Embeddings that clip-retrieval computed, a benchmark (MMVP, MMVP-VLM, NaturalBench, MediConfusion, "
            "or one of blindpairs), or decisions as CSV or from Label Studio."
        ),
    ],
    annotator: Annotated[
        str,
        typer.Option(rich_help_panel="Selection", help="For decisions: who decided, where the file does not say it."),
    ] = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Import embeddings, a benchmark or decisions: what a path holds is recognised by its content.

    Embeddings go to embeddings/, a benchmark to benchmark/, decisions to authoring.sqlite. The same again resumes.
    """
    from blindpairs.benchmark.recognise import recognise

    given = named_folder("PATH", path)
    space = Workspace(work)
    second = _second(vectors.second)  # before anything is read, which may take hours
    kind = recognise(given)
    if kind == "clip-retrieval":
        _import_vectors(given, space, vectors, second, as_json=as_json)
    elif kind in DECISIONS:
        _import_decisions(given, kind, space, annotator, as_json=as_json)
    else:
        _import_benchmark(given, space, as_json=as_json)


def _import_vectors(
    folder: Path, space: Workspace, vectors: Vectors, second: tuple[str, Path] | None, *, as_json: bool
) -> None:
    from blindpairs.store.imports import import_clip_retrieval

    with progress_bar("import") as show:
        done = import_clip_retrieval(
            folder,
            space.embeddings,
            column=vectors.column,
            second=second,
            read_images=vectors.read_images,
            progress=show,
        )
    if as_json:
        print_json({**vars(done), "folder": str(done.folder)})
    else:
        _print_vectors(done, [vectors.column, *([second[0]] if second else [])])


def _second(text: str) -> tuple[str, Path] | None:
    if not text:
        return None
    name, found, folder = text.partition("=")
    if not found or not name.isidentifier() or not folder:
        raise ConfigError(f"--second {text!r} is not NAME=FOLDER, such as dino=dinov2-output")
    return name, named_folder("--second", folder)


def _print_vectors(done: "Imported", columns: list[str]) -> None:
    typer.echo(f"{done.folder}: {done.rows:,} images with vectors of {' and '.join(columns)}")
    for label, counts in (("failed", done.failures_by_code), ("flagged", done.flags)):
        if any(counts.values()):
            typer.echo(f"  {label}: {counted(counts)}")
    if done.missing_partitions:
        typer.echo(f"  missing: {done.missing_partitions:,} partitions numbered below the highest")
    if len(columns) == 1:
        typer.echo("  to mine, import a second encoder with it: --second NAME=FOLDER")


def _import_decisions(file: Path, kind: str, space: Workspace, annotator: str, *, as_json: bool) -> None:
    from blindpairs.access import present
    from blindpairs.author.csv_file import import_csv
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.label_studio import import_tasks

    if not present(space.authoring):
        raise ConfigError(f"there are no drafts at {space.authoring} to decide on: run `blindpairs draft` first")
    read = import_csv if kind == "csv-decisions" else import_tasks
    with AuthoringDatabase(space.authoring) as database:
        tell_notice(database)
        done = read(database, file, annotator)
    if as_json:
        fields = {"added": done.saved.added, "known": done.saved.known, "superseded": done.saved.superseded}
        fields |= {"undecided": done.undecided, "edited_undecided": done.edited_undecided, "outdated": done.outdated}
        print_json({"database": str(space.authoring), **fields})
    else:
        _print_decisions(space, done)


def _print_decisions(space: Workspace, done: "ImportedDecisions") -> None:
    typer.echo(f"{space.authoring}: {done.saved.added:,} decisions added, {done.undecided:,} pairs left open")
    if done.saved.known:
        typer.echo(f"  {done.saved.known:,} decisions were there already")
    listed = {
        "decided otherwise by the same person since, which counts": done.saved.superseded,
        "edited without a decision, so the edit is not kept": done.edited_undecided,
        "decided on a draft that was drafted again since": done.outdated,
    }
    for what, ids in listed.items():
        if ids:
            typer.echo(f"  {len(ids):,} {what}: {first_names(ids, MOST_LISTED)}")
    if done.saved.added or done.saved.known:
        typer.echo("  to make the benchmark: blindpairs export")
    else:
        typer.echo("  nothing is decided in it: write accept or reject into the column decision")


def _import_benchmark(path: Path, space: Workspace, *, as_json: bool) -> None:
    from blindpairs.benchmark.checks import check
    from blindpairs.benchmark.hub import export_hub
    from blindpairs.benchmark.recognise import read_benchmark

    imported = read_benchmark(path)
    _check_free(space, imported)
    findings = check(imported.benchmark)
    export_hub(imported.benchmark, space.benchmark, findings=findings)
    if as_json:
        fields = {**identity(imported.benchmark), "patterns": pattern_counts(imported.benchmark)}
        found = [vars(finding) for finding in findings]
        print_json({"folder": str(space.benchmark), **fields, "notes": imported.notes, "findings": found})
        return
    typer.echo(
        f"{space.benchmark}: {described(imported.benchmark)} of {path}, fingerprint {imported.benchmark.fingerprint}"
    )
    for name, answers in imported.benchmark.corrections.items():
        typer.echo(
            f"  ground truth {imported.benchmark.ground_truth}; also {name}, which differs in {len(answers)} pairs"
        )
    for note in imported.notes:
        typer.echo(f"  odd: {note}")
    print_findings(findings)


def _check_free(space: Workspace, imported: "ImportedBenchmark") -> None:
    """ConfigError where the work folder has another benchmark: it may be the only copy."""
    from blindpairs.access import present
    from blindpairs.benchmark.native import DATA, read_native

    if not present(space.benchmark / DATA):
        return
    there = read_native(space.benchmark)
    if there.fingerprint != imported.benchmark.fingerprint:
        raise ConfigError(
            f"{space.benchmark} holds another benchmark ({there.name}, {described(there)}): give --work another "
            "folder, or join the two with `blindpairs benchmark merge`"
        )
