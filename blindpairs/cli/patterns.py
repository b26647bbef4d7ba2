"""`blindpairs patterns`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, print_json, progress_bar, say
from blindpairs.cli.draft import MODELS, Spending, read_patterns
from blindpairs.cli.groups import grouped
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.author.taxonomy import Proposal


@command
@grouped
def patterns(
    spending: Spending,
    model: Annotated[str, typer.Option(rich_help_panel="Encoders", help=f"{MODELS}.")] = "",
    patterns: Annotated[
        str,
        typer.Option(
            rich_help_panel="Selection",
            help="FILE with one pattern a line: the model only assigns them. [default: the model finds the patterns]",
        ),
    ] = "",
    accept: Annotated[
        str,
        typer.Option(
            rich_help_panel="Selection",
            metavar="NAME",
            help="Record the assignment as the decision of this person, for the pairs that the person has accepted. "
            "Without --model: that of patterns.json, or of --patterns, as you edited it.",
        ),
    ] = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Let a model find visual patterns in the questions, as the paper did, and assign each question to one.

    The proposal is written to patterns.json: edit it, record it with --accept, and give it to `export --patterns`.
    """
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.questions import accept_patterns, current_questions
    from blindpairs.author.taxonomy import PatternFinder, write_proposal
    from blindpairs.vlm import open_cache, open_model

    space = Workspace(work)
    if not model and accept:
        _accept_file(space, named_folder("--patterns", patterns or space.patterns), accept, as_json=as_json)
        return
    if not model:
        raise ConfigError(f"name a model that reads the questions: --model {MODELS}")
    taxonomy = read_patterns(patterns) if patterns else None
    with (
        AuthoringDatabase(space.authoring) as database,
        open_cache(space.replies) as cache,
        progress_bar("patterns", "requests") as show,
    ):
        questions = current_questions(database)
        answerer = open_model(model, work=space.root, notice=say)
        finder = PatternFinder(answerer, cache, spending.budget(), show)
        if spending.plan:
            plan = finder.plan(questions, taxonomy)
            print_json({"model": answerer.name, **vars(plan)}) if as_json else typer.echo(str(plan))
            return
        proposal = finder.propose(questions, taxonomy)
        write_proposal(space.patterns, proposal)
        accepted = accept_patterns(database, proposal.assignment, accept) if accept else 0
    if as_json:
        print_json({"file": str(space.patterns), "accepted": accepted, **vars(proposal)})
    else:
        _print(space, proposal, accept, accepted)


def _accept_file(space: Workspace, file: Path, person: str, *, as_json: bool) -> None:
    """Record what a file assigns; no model is asked, and the file stays as it is."""
    from blindpairs.access import present
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.questions import accept_patterns
    from blindpairs.author.taxonomy import read_assignment

    if not present(file):
        raise ConfigError(f"there is no {file}: name a model that proposes patterns, --model {MODELS}")
    assignment = read_assignment(file)
    if not present(space.authoring):
        raise ConfigError(f"there are no drafts at {space.authoring}: run `blindpairs draft` first")
    with AuthoringDatabase(space.authoring) as database:
        accepted = accept_patterns(database, assignment, person)
    if as_json:
        print_json({"file": str(file), "accepted": accepted})
        return
    typer.echo(f"{space.authoring}: {accepted:,} patterns recorded for {person}, of {len(assignment):,} in {file}")
    typer.echo(f"  to export them: blindpairs export --patterns {file}")


def _print(space: Workspace, proposal: "Proposal", accept: str, accepted: int) -> None:
    typer.echo(f"{space.patterns}: {len(proposal.taxonomy)} patterns by {proposal.model}")
    counts = Counter(proposal.assignment.values())
    for name, meaning in proposal.taxonomy.items():
        typer.echo(f"  {name:40} {counts[name]:5,} pairs" + (f"  {meaning}" if meaning else ""))
    for reason, count in Counter(proposal.unassigned.values()).items():
        typer.echo(f"  without a pattern: {count:,} pairs ({reason})")
    if accept:
        typer.echo(f"  recorded for {accepted:,} pairs that {accept} has accepted")
    if not accept:
        typer.echo("  to record these patterns: edit the file, then blindpairs patterns --accept NAME")
    typer.echo(f"  to export with them: blindpairs export --patterns {space.patterns}")
