"""Looks before training: what runs will take (`train-mof --plan`), and what is wrong with their data (`--check`)."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from blindpairs.cli.app import print_json, progress_bars
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.mof.cost import StagePlan
    from blindpairs.mof.recipe import Recipe
    from blindpairs.mof.sweep import Planned

GIB = 1 << 30


def print_plans(runs: "Sequence[Planned]", stages: Sequence[int], space: Workspace, *, as_json: bool) -> None:
    """Steps, operations, memory and hours of each stage of each run, on this device."""
    from blindpairs.cli.train_data import with_demo_data
    from blindpairs.mof.cost import UTILISATION, plan
    from blindpairs.mof.device import this_device

    device = this_device()
    plans = {run.name: plan(with_demo_data(run.recipe, space)[0], stages, device, space.prepared) for run in runs}
    if as_json:
        fields = {name: [asdict(one) for one in some] for name, some in plans.items()}
        print_json({"device": asdict(device), "utilisation": UTILISATION, "plans": fields})
        return
    typer.echo(f"{device.name}: {device.peak / 1e12:,.2f} TFLOP/s measured, {device.memory / GIB:,.0f} GiB")
    for name, some in plans.items():
        typer.echo(name)
        for one in some:
            typer.echo(f"  {_line(one)}")
            if one.memory > device.memory:
                typer.echo("    this does not fit: a smaller micro_batch, LoRA, or more devices")
    typer.echo(f"hours at {UTILISATION:.0%} of that rate, on one device")


def _line(one: "StagePlan") -> str:
    data = f"{one.rows:,} samples" + (", as of LLaVA-1.5's data" if one.assumed else "")
    work = f"{one.steps:,} steps, {_operations(one.flops)}"
    again = f" ({_operations(one.computed)} with what is computed again)" if one.computed > one.flops else ""
    trained = f"{one.trained / 1e6:,.1f} M weights trained"
    return f"stage {one.number}: {data}; {trained}; {work}{again}; {one.memory / GIB:,.1f} GiB; {_time(one.hours)}"


def _operations(count: int) -> str:
    unit, name = (1e15, "PFLOP") if count >= 1e16 else (1e12, "TFLOP")
    return f"{count / unit:,.0f} {name}"


def _time(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"


def print_findings(recipe: "Recipe", stages: Sequence[int], space: Workspace, *, as_json: bool) -> None:
    """What is wrong with the data of each stage."""
    from blindpairs.cli.train_data import preparing, with_demo_data
    from blindpairs.mof.cost import shape_model, tokenizer_of
    from blindpairs.mof.data import Instructions

    recipe, _ = with_demo_data(recipe, space)
    tokenizer, places = tokenizer_of(recipe), shape_model(recipe).image_tokens  # a large model need not fit in here
    prepared = preparing(space, made=False)
    described, lines = {}, {}
    with progress_bars() as bars:
        for number in stages:
            given = Instructions(recipe.stage(number), tokenizer, prepared)
            findings = given.findings(places, bars(f"check of the data of stage {number}", "images"))
            described[f"stage{number}"] = findings.describe("odd")
            lines[f"stage {number}"] = findings.lines(len(findings.found))
    if as_json:
        print_json({"checked": described})
        return
    for name, some in lines.items():
        typer.echo(f"{name}: {some[0]}")
        for line in some[1:]:
            typer.echo(f"  {line}")
