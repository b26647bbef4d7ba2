"""`blindpairs draft`."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, counted, named_folder, print_json, progress_bar, say
from blindpairs.cli.groups import grouped
from blindpairs.errors import ConfigError, TooManyFailures
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.drafting import DraftReport
    from blindpairs.author.drafts import Drafter, MinedPair
    from blindpairs.author.taxonomy import Taxonomy
    from blindpairs.store import Store
    from blindpairs.vlm import Budget, Cache

MODELS = (
    "hf:REPO_OR_FOLDER (a local transformers model), openai:MODEL@BASE_URL (vLLM, SGLang, Ollama, a vendor), run:NAME "
    "(a model that train-mof trained)"
)
Patterns = Annotated[
    str, typer.Option(rich_help_panel="Selection", help="FILE with one pattern a line. [default: the paper's nine]")
]


@dataclass(frozen=True)
class Spending:
    """What asking a model may cost."""

    max_requests: Annotated[
        int | None, typer.Option(min=0, rich_help_panel="Machine", help="Stop before more requests than this.")
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=0, rich_help_panel="Machine", help="Stop before more tokens than this, of prompts and replies."
        ),
    ] = None
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", rich_help_panel="Output", help="Print the requests and tokens that it would take, and stop."
        ),
    ] = False

    def budget(self) -> "Budget":
        """The limits as the models take them."""
        from blindpairs.vlm import Budget

        return Budget(self.max_requests, self.max_tokens)


def tell_notice(database: "AuthoringDatabase") -> None:
    """Say what the user should know about the place of the database."""
    if database.notice:
        say(f"note: {database.notice}")


@command
@grouped
def draft(
    spending: Spending,
    model: Annotated[
        str,
        typer.Option(
            rich_help_panel="Encoders",
            help=f"{MODELS}, or demo, the ground truth of the demo's scenes. [default: demo, for the demo's scenes]",
        ),
    ] = "",
    top: Annotated[
        int, typer.Option(min=0, rich_help_panel="Selection", help="Draft the first pairs only; 0 drafts all.")
    ] = 0,
    second: Annotated[
        bool,
        typer.Option(
            "--second", rich_help_panel="Selection", help="Also draft a second question with exchanged answers."
        ),
    ] = False,
    patterns: Patterns = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Let a model propose a question for each mined pair. A person accepts it before it enters a benchmark.

    The same command again drafts what is missing, and pays for nothing twice.
    """
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.drafting import draft_missing, mined_pairs
    from blindpairs.mine import read_pairs
    from blindpairs.store import Store
    from blindpairs.vlm import open_cache

    space = Workspace(work)
    pairs = mined_pairs(read_pairs(space.pairs), top or None)
    store = Store.open(space.embeddings)
    drafters = _Introductions(space, store, read_patterns(patterns))
    if spending.plan:
        _print_plan(drafters, model, pairs, second=second, as_json=as_json)
        return
    with (
        AuthoringDatabase(space.authoring) as database,
        open_cache(space.replies) as cache,
        progress_bar("draft", "pairs") as show,
    ):
        tell_notice(database)
        drafter = drafters.drafter(model, pairs, cache, spending.budget())
        report = draft_missing(database, pairs, drafter, second=second, progress=show)
    if as_json:
        fields = {"drafted": report.drafted, "kept": report.kept, "failed": dict(report.failed)}
        print_json({"database": str(space.authoring), "model": drafter.name, **fields})
    else:
        _print_report(space, drafter.name, report)
    if report.failed and not report.drafted and not report.kept:
        code, example = next(iter(report.examples.items()))
        raise TooManyFailures(f"no pair got a draft ({code}, such as {example}): try another model")


def read_patterns(given: str) -> "Taxonomy":
    """The taxonomy in the file that `--patterns` names, else the paper's."""
    from blindpairs.author.taxonomy import NINE, read_taxonomy

    return read_taxonomy(named_folder("--patterns", given)) if given else NINE


@dataclass(frozen=True)
class _Introductions:
    """Brings drafters and what they look at together."""

    space: Workspace
    store: "Store"
    taxonomy: "Taxonomy"

    def drafter(self, model: str, pairs: "Sequence[MinedPair]", cache: "Cache", budget: "Budget") -> "Drafter":
        """The drafter that a spec names; without one, the demo's ground truth if it knows the images."""
        from blindpairs.demo.drafting import demo_drafter

        known = demo_drafter(model if model.partition("?")[0] == "demo" else "demo", pairs)
        if model.partition("?")[0] == "demo":
            return known
        if not model:
            if not all(known.knows(pair) for pair in pairs):
                raise ConfigError(f"these are not the demo's scenes: name a model, --model {MODELS}")
            say("drafting by the ground truth of the demo's scenes; --model asks a vision-language model")
            return known
        from blindpairs.author.by_model import ModelDrafter
        from blindpairs.mine.maps import read_maps
        from blindpairs.store import pixels_of
        from blindpairs.vlm import open_model

        return ModelDrafter(
            open_model(model, work=self.space.root, notice=say),
            partial(pixels_of, self.store),
            cache,
            tuple(self.taxonomy),
            read_maps(self.space.pairs),
            budget,
        )


def _print_plan(
    drafters: _Introductions, model: str, pairs: "Sequence[MinedPair]", *, second: bool, as_json: bool
) -> None:
    from blindpairs.author.by_model import ModelDrafter
    from blindpairs.vlm import Budget, open_cache

    with open_cache(None) as cache:
        drafter = drafters.drafter(model, pairs, cache, Budget())
        missing = _without_draft(drafters.space, pairs, drafter.name, second=second)
        plan = drafter.plan(missing, second=second) if isinstance(drafter, ModelDrafter) else None
    if as_json:
        counts = {"pairs": len(missing), "kept": len(pairs) - len(missing)}
        print_json({"model": drafter.name, **counts, **(vars(plan) if plan else {"requests": 0})})
        return
    before = f" ({len(pairs) - len(missing):,} more have a draft)" if len(missing) < len(pairs) else ""
    typer.echo(f"{len(missing):,} pairs with {drafter.name}{before}: {plan or 'nothing is asked, the truth is known'}")


def _without_draft(space: Workspace, pairs: "Sequence[MinedPair]", drafter: str, *, second: bool) -> "list[MinedPair]":
    """The pairs that drafting would ask about. Makes no database."""
    from blindpairs.access import present
    from blindpairs.author.database import AuthoringDatabase

    if not present(space.authoring):
        return list(pairs)
    with AuthoringDatabase(space.authoring) as database:
        done = database.drafted(drafter, second=second)
    return [pair for pair in pairs if pair.pair_id not in done]


def _print_report(space: Workspace, name: str, report: "DraftReport") -> None:
    before = f", {report.kept:,} were there already" if report.kept else ""
    typer.echo(f"{space.authoring}: {report.drafted:,} drafts by {name}{before}")
    if report.failed:
        typer.echo(f"  without a draft: {counted(report.failed)}")
    for code, example in report.examples.items():
        typer.echo(f"    {code}, such as {example}")
    if report.drafted or report.kept:
        typer.echo("  to decide: blindpairs author, or blindpairs export --format csv (or label-studio) and import")
