"""The options of `blindpairs eval` that say who is asked, how, and how answers are read."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import named_folder
from blindpairs.cli.draft import MODELS
from blindpairs.errors import ConfigError

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
            "[default: the store's CLIP, the runs of the work folder, random, first, and what is recorded]",
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

    @property
    def bare(self) -> bool:
        """Whether nobody is named: what is there is evaluated."""
        return not (self.model or self.answers)

    def specs(self) -> list[str]:
        """Who is named; for a bare command the baselines."""
        return list(dict.fromkeys(self.model or (BASELINES if self.bare else ())))

    def orders(self, spec: str) -> tuple[bool, ...]:
        """Whether the options are exchanged: in both ways for --swap, where somebody is asked at all."""
        return (False, True) if self.swap and is_asked(spec) else (False,)

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

    table: Annotated[
        bool,
        typer.Option(
            "--table",
            rich_help_panel="Output",
            help="Print tables alone: models by patterns, and CLIP-style models by size. With --published, those of "
            "the paper, too.",
        ),
    ] = False

    def rules(self) -> "Rules":
        """The same for the evaluation; ConfigError where they do not go together."""
        from blindpairs.evaluate.session import Rules

        if self.explain and not self.read:
            raise ConfigError("--explain needs the reader whose scores it explains: --read lmms-eval, for example")
        return Rules(tuple(self.read or ()), self.explain, self.judge, self.complete_pairs)


@dataclass(frozen=True)
class ComparingOptions:
    """What is said about several models together; nobody is asked anything."""

    compare: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Selection",
            help="Compare models pair by pair: recorded:FOLDER, human:NAME, a CLIP-style model (open_clip:..., "
            "hf:..., demo:clip), or the folder of its checkpoint. Repeatable: the others are compared with the first. "
            "Several seeds of one side are joined by commas.",
        ),
    ] = None
    zero_shot: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Corpus",
            help="For --compare of CLIP-style models: FOLDER of labelled images, a sub-folder a class, to classify.",
        ),
    ] = None
    power: Annotated[
        float | None,
        typer.Option(
            rich_help_panel="Selection",
            metavar="GAIN",
            help="How many pairs detect a gain of GAIN points, and which gain the pairs of this benchmark detect.",
        ),
    ] = None
    correlation: Annotated[
        bool,
        typer.Option(
            "--correlation",
            rich_help_panel="Output",
            help="Whether recorded models are weak where a CLIP-style model is: correlations over patterns.",
        ),
    ] = False
    items: Annotated[
        bool,
        typer.Option(
            "--items",
            rich_help_panel="Output",
            help="What all recorded models say about the pairs: those that all fail, and keys that may be wrong.",
        ),
    ] = False
    published: Annotated[
        bool,
        typer.Option("--published", rich_help_panel="Output", help="Print published numbers beside those recorded."),
    ] = False

    def check(self) -> None:
        """ConfigError for what does not fit."""
        if self.power is not None and not 0 < self.power <= 100:
            raise ConfigError(f"--power {self.power:g} is not a gain in points: give one above 0, such as --power 5")
        if self.zero_shot is not None:
            named_folder("--zero-shot", self.zero_shot)
        more = self.zero_shot or self.correlation or self.published
        if self.compare and len(self.compare) < 2 and not more:
            raise ConfigError(f"--compare {self.compare[0]} names one side: give the other with a second --compare")


def is_asked(spec: str) -> bool:
    """Whether a spec names a model that answers now: no baseline, and nobody who is recorded."""
    return spec not in BASELINES and not spec.startswith(("recorded:", "human:"))
