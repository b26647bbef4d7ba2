"""`blindpairs eval`."""

import os
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, progress_bars, say
from blindpairs.cli.benchmark import GivenBenchmark, open_benchmark
from blindpairs.cli.draft import MODELS, Spending
from blindpairs.cli.eval_compare import ComparingOptions, print_comparisons
from blindpairs.cli.eval_report import print_plans, print_report, raise_what_failed
from blindpairs.cli.eval_similarity import evaluate_models, evaluated, models_there
from blindpairs.cli.eval_suites import SuiteOptions, evaluate_other
from blindpairs.cli.groups import grouped
from blindpairs.cli.report import write_page
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.evaluate.asking import Asking
    from blindpairs.evaluate.session import Rules

BASELINES = ("random", "first")


class Ask(StrEnum):
    """How the questions are put: our words, or those of published numbers."""

    ours = "ours"
    official = "official"
    lmms_eval = "lmms-eval"
    vlmevalkit = "vlmevalkit"
    cambrian = "cambrian"


@dataclass(frozen=True)
class AskingOptions:
    """Who is asked, and how."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Encoders",
            help=f"{MODELS}, blind:SPEC (one of these without the image), random, first, recorded:FOLDER of the "
            "results, human:NAME (who answered in `study`), or a CLIP-style model: open_clip:MODEL/PRETRAINED, "
            "hf:REPO_OR_FOLDER of a CLIP or SigLIP, demo:clip. Repeatable. "
            "[default: the store's CLIP, random, first, and what is recorded]",
        ),
    ] = None
    ask: Annotated[
        Ask,
        typer.Option(rich_help_panel="Selection", help="The words and the decoding: ours, or those of published work."),
    ] = Ask.ours
    swap: Annotated[
        bool, typer.Option("--swap", rich_help_panel="Selection", help="Ask with the options in both orders.")
    ] = False
    free_form: Annotated[
        bool, typer.Option("--free-form", rich_help_panel="Selection", help="Ask without options; needs --judge.")
    ] = False
    answers: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Corpus",
            help="FILE with answers that MMVP's script, Cambrian, lmms-eval or VLMEvalKit recorded. Repeatable.",
        ),
    ] = None
    template: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Selection",
            help="For CLIP-style models: words around a statement, with {} in its place. Repeatable: the spread over "
            "wordings is printed. [default: a photo of {}]",
        ),
    ] = None
    shard: Annotated[
        str,
        typer.Option(
            rich_help_panel="Machine",
            help="i/n: ask about share i of n only, counted from 0. auto: take i and n from SLURM, Kubernetes or RANK.",
        ),
    ] = ""

    def specs(self) -> list[str]:
        """Who is asked."""
        return list(dict.fromkeys(self.model or ([] if self.answers else BASELINES)))

    def orders(self, spec: str) -> tuple[bool, ...]:
        """Whether the options are exchanged: in both ways for --swap, where somebody is asked at all."""
        asked = spec not in BASELINES and not spec.startswith(("recorded:", "human:"))
        return (False, True) if self.swap and asked else (False,)

    def asking(self, judge: str) -> "Asking":
        """The words. ConfigError without a judge, where one is needed."""
        from blindpairs.evaluate.asking import FREE_FORM, protocol

        if not self.free_form:
            return protocol(self.ask.value)
        if self.ask is not Ask.ours or self.swap:
            raise ConfigError("--free-form shows no options, so it goes neither with --ask nor with --swap")
        if not judge:
            raise ConfigError("answers to questions without options need a judge: name a model, --judge SPEC")
        return FREE_FORM


@dataclass(frozen=True)
class ReadingOptions:
    """How answers are read and counted."""

    read: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Selection",
            help="Also print the numbers of another reader: lmms-eval, lmms-eval-shared, vlmevalkit, cambrian, "
            "official, naturalbench or mediconfusion. Repeatable.",
        ),
    ] = None
    explain: Annotated[
        bool,
        typer.Option("--explain", rich_help_panel="Output", help="List the answers that --read scores otherwise."),
    ] = False
    judge: Annotated[
        str,
        typer.Option(
            rich_help_panel="Encoders",
            help="The model that judges answers, for --free-form and --read official; or FILE of its recorded replies.",
        ),
    ] = ""
    ground_truth: Annotated[
        str, typer.Option(rich_help_panel="Selection", help="original, or the name of a correction.")
    ] = ""
    complete_pairs: Annotated[
        bool,
        typer.Option(
            "--complete-pairs", rich_help_panel="Selection", help="Score the complete pairs of incomplete answers."
        ),
    ] = False

    def rules(self) -> "Rules":
        """The same for the evaluation; ConfigError where they do not go together."""
        from blindpairs.evaluate.session import Rules

        if self.explain and not self.read:
            raise ConfigError("--explain needs the reader whose scores it explains: --read lmms-eval, for example")
        return Rules(tuple(self.read or ()), self.explain, self.judge, self.complete_pairs)


@command
@grouped
def eval_(
    asking: AskingOptions,
    reading: ReadingOptions,
    comparing: ComparingOptions,
    spending: Spending,
    suites: SuiteOptions,
    benchmark: GivenBenchmark = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Ask models the questions of a benchmark, and score what they say.

    Answers are recorded below results/ in the work folder. The same command again asks what is missing.
    """
    from blindpairs.encoders.texts import has_text_side
    from blindpairs.evaluate.answering import Conditions
    from blindpairs.evaluate.session import Asked, Session
    from blindpairs.executors.shard import choose_shard
    from blindpairs.vlm import Meter, open_cache, open_model

    space, bare = Workspace(work), not (asking.model or asking.answers)
    if suites.given:
        evaluate_other(suites, asking, reading, spending, benchmark, space, as_json=as_json)
        return
    words, rules, shard = asking.asking(reading.judge), reading.rules(), choose_shard(asking.shard, os.environ)
    found = open_benchmark(space, named_folder("--benchmark", benchmark) if benchmark else None)
    truth = found.with_ground_truth(reading.ground_truth or found.ground_truth)
    if comparing.wanted(asking.model):
        print_comparisons(comparing, space, found, truth, as_json=as_json)
        return
    specs, questions = asking.specs(), any(pair.question for pair in found.pairs)
    compared = models_there(space, truth) if bare else [spec for spec in specs if has_text_side(spec)]
    asked_specs = [spec for spec in specs if spec not in compared and (questions or not bare)]
    if asked_specs and not questions:
        raise ConfigError(f"{found.name} has statements and no questions: there is nothing to ask {asked_specs[0]}")
    asks = [Asked(spec, words, other) for spec in asked_specs for other in asking.orders(spec)]
    with open_cache(space.replies) as cache, progress_bars() as bar:
        conditions = Conditions(cache, Meter(spending.budget()), shard, bar("judge", "answers"))
        session = Session(space.results, found, conditions, partial(open_model, work=work, notice=say), truth)
        for one in asks:
            session.check(one.spec)
        if spending.plan:
            print_plans(found, [session.plan(one) for one in asks], as_json=as_json)
            return
        if asking.free_form:
            session.model(rules.judge)  # before anything is asked
        files = [named_folder("--answers", file) for file in asking.answers or ()]
        imported = [session.take_over(file, space.exports / "mmvp") for file in files]
        entries = [session.answer(one, bar(one.spec, "questions")) for one in asks] + imported
        if bare:
            entries += session.recorded([entry.folder for entry in entries])
        session.score(entries, rules)
    scores = evaluate_models(space, truth, compared, asking.template or ())
    others = [evaluated(scores)] if scores else []
    print_report(session.folder, truth, entries, others, as_json=as_json)
    if bare:
        say(f"look at it: {write_page(space, truth, entries, scores)}")
    raise_what_failed(entries)
