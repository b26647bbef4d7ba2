"""`blindpairs patterns`."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, print_json, progress_bar, say
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
            help="Record the assignment as the decision of this person, for the pairs that the person has accepted.",
        ),
    ] = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Let a model find visual patterns in the questions, as the paper did, and assign each question to one.

    The proposal is written to patterns.json: edit it, and give it to `export --patterns`.
    """
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.questions import accept_patterns, current_questions
    from blindpairs.author.taxonomy import PatternFinder, write_proposal
    from blindpairs.vlm import open_cache, open_model

    if not model:
        raise ConfigError(f"name a model that reads the questions: --model {MODELS}")
    space = Workspace(work)
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


def _print(space: Workspace, proposal: "Proposal", accept: str, accepted: int) -> None:
    typer.echo(f"{space.patterns}: {len(proposal.taxonomy)} patterns by {proposal.model}")
    counts = Counter(proposal.assignment.values())
    for name, meaning in proposal.taxonomy.items():
        typer.echo(f"  {name:40} {counts[name]:5,} pairs" + (f"  {meaning}" if meaning else ""))
    for reason, count in Counter(proposal.unassigned.values()).items():
        typer.echo(f"  without a pattern: {count:,} pairs ({reason})")
    if accept:
        typer.echo(f"  recorded for {accepted:,} pairs that {accept} has accepted")
    typer.echo(f"  to use these names: edit the file, then blindpairs export --patterns {space.patterns}")
