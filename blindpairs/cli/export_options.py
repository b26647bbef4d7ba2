"""What `blindpairs export` can be told, and which of it each format reads."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated

import typer

from blindpairs.cli.draft import Patterns
from blindpairs.errors import ConfigError


class Format(StrEnum):
    """What an export is read by."""

    hf = "hf"
    mmvp = "mmvp"
    mmvp_vlm = "mmvp-vlm"
    naturalbench = "naturalbench"
    vlmevalkit = "vlmevalkit"
    lmms_eval = "lmms-eval"
    csv = "csv"
    label_studio = "label-studio"


DRAFTS = (Format.csv, Format.label_studio)  # to decide on; the others carry a benchmark


@dataclass(frozen=True)
class Contents:
    """What the exported benchmark holds."""

    name: Annotated[
        str, typer.Option(rich_help_panel="Selection", help="The benchmark's name. [default: blindpairs]")
    ] = ""
    license: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Selection",
            metavar="[PREFIX=]TEXT",
            help="The licence of the images, such as CC-BY-4.0; with PREFIX, of those whose path begins so.",
        ),
    ] = None
    patterns: Patterns = ""
    per_pattern: Annotated[
        int,
        typer.Option(
            min=0,
            rich_help_panel="Selection",
            help="For mmvp-vlm: so many pairs of each pattern, by agreement, then rank; its script needs 15.",
        ),
    ] = 0
    annotator: Annotated[
        str,
        typer.Option(
            rich_help_panel="Selection",
            help="For csv, label-studio: with this person's own decisions, without those of others.",
        ),
    ] = ""
    ground_truth: Annotated[
        str, typer.Option(rich_help_panel="Selection", help="original, or the name of a correction.")
    ] = ""
    images: Annotated[
        bool,
        typer.Option(rich_help_panel="Output", help="For hf: with the images, or only their ids, hashes and paths."),
    ] = True


def refuse_ignored(format_: Format, contents: Contents, benchmark: str, *, collected: bool) -> None:
    """ConfigError for an option that this export would not read, so that nobody believes in its effect.

    `collected` says whether the benchmark is made of what people accepted.
    """
    given = [one.name for one in fields(Contents) if getattr(contents, one.name) != one.default]
    given += ["benchmark"] if benchmark else []
    for name in given:
        if why := _ignored(name, format_, collected=collected):
            option = "no-images" if name == "images" else name.replace("_", "-")
            raise ConfigError(f"--{option} changes nothing here: {why}")


def _ignored(name: str, format_: Format, *, collected: bool) -> str:
    """Why an option has no effect; "" where it has one."""
    drafts = format_ in DRAFTS
    if name == "annotator":
        return "" if drafts else f"--format {format_} carries a benchmark, whoever accepted its pairs"
    if name == "patterns" and format_ is Format.label_studio:
        return ""
    if drafts:
        return f"--format {format_} carries the drafts, to decide on"
    if name == "images" and format_ is not Format.hf:
        return f"--format {format_} has no form without images; --format hf has one"
    if name == "per_pattern" and format_ is not Format.mmvp_vlm:
        return f"--format {format_} carries every pair; --format mmvp-vlm chooses"
    if name in ("name", "license", "patterns") and not collected:
        return "it describes what people accepted in the work folder, and this is a benchmark that says so itself"
    return ""
