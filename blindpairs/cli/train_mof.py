"""`blindpairs train-mof`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, print_json, say
from blindpairs.cli.groups import grouped
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.mof.data import Preparing
    from blindpairs.mof.presets import Preset
    from blindpairs.mof.recipe import Recipe
    from blindpairs.mof.sweep import Planned
    from blindpairs.mof.training import Report

DEMO, OWN = "demo", "own"


class StageChoice(StrEnum):
    """Which stages to train."""

    both = "both"
    first = "1"
    second = "2"

    @property
    def numbers(self) -> tuple[int, ...]:
        """As the trainer counts them."""
        return (1, 2) if self is StageChoice.both else (int(self.value),)


class Skipped(StrEnum):
    """Which rows of the data are left out."""

    nothing = "nothing"
    unusable = "unusable"
    odd = "odd"


@dataclass(frozen=True)
class RecipeOptions:
    """What is trained, and how."""

    preset: Annotated[
        str,
        typer.Option(
            rich_help_panel="Encoders",
            help="A recipe that ships, or FILE.toml: demo, demo-sweep, llava-7b-224, llava-1.5-7b-336, ..., "
            "mmvp-interleaved, or own, for parts of your own. [default: demo; own with --data]",
        ),
    ] = ""
    clip: Annotated[str, typer.Option(rich_help_panel="Encoders", help="The CLIP tower: an encoder spec.")] = ""
    dino: Annotated[
        str, typer.Option(rich_help_panel="Encoders", help="The vision-only tower: an encoder spec, of any ViT.")
    ] = ""
    lm: Annotated[
        str, typer.Option(rich_help_panel="Encoders", help="The language model: a folder or a repository.")
    ] = ""
    mode: Annotated[
        str,
        typer.Option(rich_help_panel="Encoders", help="clip, dino, additive (A-MoF), interleaved (I-MoF), or concat."),
    ] = ""
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            rich_help_panel="Selection",
            help="Replace a setting of the recipe, such as clip_weight=0.75, stage2.batch=64 or "
            "stage2.rates.language_model=2e-5. Repeatable.",
        ),
    ] = None

    def chosen(self, data: str) -> "Preset":
        """The preset with every option in its place, not yet checked."""
        from blindpairs.mof.presets import load_preset
        from blindpairs.mof.recipe import with_setting

        preset = load_preset(self.preset or (OWN if data or self.lm else DEMO))
        given = {"clip": self.clip, "dino": self.dino, "language_model": self.lm, "mode": self.mode}
        recipe = preset.recipe
        for name, value in given.items():
            recipe = with_setting(recipe, name, value) if value else recipe
        for change in self.change or ():
            name, equals, value = change.partition("=")
            if not equals:
                raise ConfigError(f"--set {change}: give NAME=VALUE, such as clip_weight=0.75")
            recipe = with_setting(recipe, name, value)
        return replace(preset, recipe=recipe, runs=({},) if self.mode else preset.runs)


@dataclass(frozen=True)
class DataOptions:
    """What it is trained on."""

    data: Annotated[
        str, typer.Option(rich_help_panel="Corpus", help="FILE of conversations for stage 2, LLaVA's JSON or JSONL.")
    ] = ""
    images: Annotated[str, typer.Option(rich_help_panel="Corpus", help="FOLDER that its image names are in.")] = ""
    captions: Annotated[
        str,
        typer.Option(rich_help_panel="Corpus", help="FILE for stage 1, like it. [default: that of --data]"),
    ] = ""
    caption_images: Annotated[
        str, typer.Option(rich_help_panel="Corpus", help="FOLDER of its images. [default: that of --images]")
    ] = ""
    check: Annotated[
        bool,
        typer.Option("--check", rich_help_panel="Output", help="List what is wrong with the data, and stop."),
    ] = False
    skip: Annotated[
        Skipped | None,
        typer.Option(
            rich_help_panel="Selection",
            help="Leave out rows that cannot be used, or all rows with anything odd about them. [default: as the "
            "recipe says, nothing as a rule]",
        ),
    ] = None

    def into(self, recipe: "Recipe") -> "Recipe":
        """The recipe with these files, and with what is left out of them."""
        if self.skip:
            recipe = replace(recipe, skip=self.skip.value)
        if not self.data:
            if self.images or self.captions or self.caption_images:
                raise ConfigError("--images, --captions and --caption-images go with --data FILE")
            return recipe
        images = str(named_folder("--images", self.images)) if self.images else str(Path(self.data).parent)
        first, first_images = self.captions or self.data, self.caption_images or images
        return replace(
            recipe,
            stage1=replace(recipe.stage1, data=first, images=first_images),
            stage2=replace(recipe.stage2, data=self.data, images=images),
        )


@command
@grouped
def train_mof(
    recipe: RecipeOptions,
    data: DataOptions,
    run: Annotated[
        str, typer.Option(rich_help_panel="Output", help="The run's name, below runs/. [default: that of the preset]")
    ] = "",
    stage: Annotated[
        StageChoice, typer.Option(rich_help_panel="Selection", help="The projectors (1), the language model (2).")
    ] = StageChoice.both,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            rich_help_panel="Selection",
            help="One run for each value: clip_weight=1,0.5,0 or mode=clip,dino,interleaved. Repeatable.",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", rich_help_panel="Output", help="Print steps, work, memory and hours of each, and stop."),
    ] = False,
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Train a LLaVA that sees through CLIP, DINOv2 or both: Mixture of Features. Bare, it trains the demo's, twice.

    The same command again goes on where it was stopped, and does nothing twice. A run is then `run:NAME` for eval,
    draft and chat.
    """
    from blindpairs.cli.train_looks import print_findings, print_plans
    from blindpairs.cli.train_scores import print_worth, write_cards
    from blindpairs.vlm.runs import NAME

    if run and not NAME.fullmatch(run):
        raise ConfigError(f"--run {run}: the name of a run has letters, digits, dots, dashes and underscores only")
    space, preset = Workspace(work), recipe.chosen(data.data)
    runs = _planned(preset, data.into(preset.recipe), run or preset.name, sweep or [], recipe.mode)
    if plan:
        print_plans(runs, stage.numbers, space, as_json=as_json)
        return
    if data.check:
        print_findings(runs[0].recipe, stage.numbers, space, as_json=as_json)
        return
    reports = []
    for one, report in zip(runs, _trained(runs, space, stage.numbers), strict=True):
        reports.append(report)
        if not as_json:
            _print_report(one.name, report)
    write_cards(space, [one.name for one in runs])
    if as_json:
        print_json({"runs": [_as_json(one, report) for one, report in zip(runs, reports, strict=True)]})
    elif len(runs) > 1:
        print_worth(space, runs)
        models = " ".join(f"--model run:{one.name}" for one in runs[:3])
        say(f"ask them: blindpairs eval {models}{' ...' if len(runs) > 3 else ''}")


def _planned(preset: "Preset", recipe: "Recipe", name: str, sweep: list[str], mode: str) -> list["Planned"]:
    from blindpairs.mof.recipe import full_name, with_setting
    from blindpairs.mof.sweep import planned, points_of

    if not sweep:
        return planned(name, recipe, preset.runs)
    points = points_of(sweep)
    keys = {full_name(key) for key in points[0]}
    if "fusion.clip_weight" in keys and "fusion.mode" not in keys and not mode:
        recipe = with_setting(recipe, "mode", "additive")  # the only mode that has a weight
    return planned(name, recipe, points)


def _trained(runs: list["Planned"], space: Workspace, stages: tuple[int, ...]) -> Iterator["Report"]:
    """Train run after run. What one has looked at, the benchmark and images, the next does not look at again."""
    from blindpairs.cli.train_data import preparing, with_demo_data
    from blindpairs.cli.train_progress import training_display
    from blindpairs.mof.training import train

    kinds: dict[bool, Preparing] = {}
    for one in runs:
        recipe, made = with_demo_data(one.recipe, space)
        if made not in kinds:
            kinds[made] = preparing(space, made)
        with training_display() as watching:
            report = train(recipe, space.runs / one.name, watching, stages=stages, preparing=kinds[made])
        yield report


def _print_report(name: str, report: "Report") -> None:
    losses = ", ".join(f"loss {loss:.4f} after stage {number}" for number, loss in sorted(report.losses.items()))
    did = f"{report.steps:,} steps" if report.steps else "was done already"
    typer.echo(f"{name}: {did}; {losses}; {report.model}")


def _as_json(one: "Planned", report: "Report") -> dict[str, Any]:
    from blindpairs.mof.recipe import settings

    losses = {f"stage{number}": loss for number, loss in report.losses.items()}
    fields = {"name": one.name, "folder": str(report.folder), "model": str(report.model), "steps": report.steps}
    return {**fields, "losses": losses, "recipe": settings(one.recipe)}
