"""`blindpairs demo`."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from blindpairs.cli.app import WORK, Json, Work, command, print_json, progress_bar
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.demo.loop import DemoReport
    from blindpairs.demo.truth import ControlReport


@command
def demo(work: Work = WORK, as_json: Json = False) -> None:
    """Embed and mine 3,000 small scenes with known differences, and score the pairs. No download, no GPU."""
    started = time.monotonic()
    from blindpairs.demo.loop import run_demo  # here, so that the printed time includes loading the libraries

    space = Workspace(work)
    with progress_bar("embed", "scenes") as show:
        report = run_demo(space, show)
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report, space, time.monotonic() - started)


def _as_json(report: "DemoReport") -> dict[str, object]:
    every = {**asdict(report.every), "precision": report.every.precision, "recall": report.every.recall}
    names = ("mined", "mined_differing", "differing_in_one", "differing_in_two", "differing", "alone")
    kept = {name: asdict(report.kept)[name] for name in names}
    controls = asdict(report.controls) if report.controls else None
    clusters = {"normalised_mutual_information": report.agreement}
    counts = asdict(report.mined.counts)
    return {"counts": counts, "every_pair": every, "kept_pairs": kept, "clusters": clusters, "controls": controls}


def _print(report: "DemoReport", space: Workspace, seconds: float) -> None:
    from blindpairs.demo.world import PATTERNS

    every, kept, counts = report.every, report.kept, report.mined.counts
    typer.echo(f"{counts.images:,} small scenes; CLIP was trained with captions of category and background")
    typer.echo(f"{every.alike:,} pairs look the same to CLIP; {every.mined:,} of them look different to DINOv2")
    typer.echo(f"  precision {every.precision:6.1%}  of these, something that a person can name differs")
    typer.echo(f"  recall    {every.recall:6.1%}  of the pairs that CLIP confuses although something differs")
    typer.echo(f"  {every.rerendered_share:.1%} of the {every.rerendered:,} pairs that show one scene twice were mined")
    typer.echo(f"{counts.kept:,} blind pairs kept, two per image at most, from all kinds of differences in turn.")
    one, two = kept.differing_in_one, kept.differing_in_two
    typer.echo(f"  {one} differ in one thing alone, {two} in two; precision {kept.precision:.1%}. They differ in")
    for attribute, pattern in PATTERNS.items():
        differing, alone = kept.differing[attribute], kept.alone[attribute]
        typer.echo(f"  {pattern.name:40} {differing:4} pairs, {alone:3} in this alone")
    typer.echo(f"The kinds, found without these names, agree with them: mutual information {report.agreement:.2f} of 1")
    if report.controls:
        _print_controls(report.controls)
    typer.echo(f"look at them: {space.gallery} ({seconds:.0f} s in all)")


def _print_controls(controls: "ControlReport") -> None:
    typer.echo(f"{controls.controls} control pairs, which CLIP tells apart, with the DINOv2 cosines of the blind pairs")
    hidden = (
        f"{controls.hidden_control:.2f} hidden things differ in them on average, {controls.hidden_blind:.2f} in those"
    )
    typer.echo(f"  {hidden}; also the category in {controls.category} and the background in {controls.background}")
