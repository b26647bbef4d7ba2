"""What eval has found of runs: for the table of a sweep, and for model cards."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from blindpairs.access import present
from blindpairs.workspace import Workspace, read_json

if TYPE_CHECKING:
    from blindpairs.mof.sweep import Planned

PAIRS = "pair_accuracy"


def scores_of(space: Workspace, name: str) -> dict[str, dict[str, Any]]:
    """Benchmark -> scores of a run that was asked all of its questions, in our words and in the given order."""
    from blindpairs.evaluate.results import SCORES

    found: dict[str, dict[str, Any]] = {}
    for path in sorted(space.results.glob(f"*/*/{SCORES}")):
        fields = read_json(path)
        protocol = fields.get("protocol") or {}
        asked = protocol.get("name") == "ours" and protocol.get("images", True) and not protocol.get("exchanged")
        if fields.get("model") == f"run:{name}" and asked and fields.get("complete") and fields.get("scores"):
            found[fields["benchmark"]["name"]] = fields["scores"]
    return found


def write_cards(space: Workspace, names: Sequence[str]) -> None:
    """Write the model cards of runs again, with what eval has found of them by now."""
    for name in names:
        scores = {benchmark: _shown(some) for benchmark, some in scores_of(space, name).items()}
        if scores:
            from blindpairs.mof.card import write_card
            from blindpairs.mof.run import CONFIG, Run

            run = Run(space.runs / name)
            if present(run.folder / CONFIG):  # a model from elsewhere may lie below runs/, too
                write_card(run, scores)


def print_worth(space: Workspace, runs: "Sequence[Planned]") -> None:
    """Capacity and necessity of both encoders, by pair accuracy, where eval has asked enough of the runs."""
    from blindpairs.mof.sweep import spread, worth

    scores: dict[str, dict[str, tuple[Any, float]]] = {}  # benchmark -> run -> recipe and score
    for run in runs:
        for benchmark, some in scores_of(space, run.name).items():
            scores.setdefault(benchmark, {})[run.name] = (run.recipe, float(some[PAIRS]["share"]))
    for benchmark, some in scores.items():
        typer.echo(f"pair accuracy on {benchmark}, the mean and the range over seeds:")
        for one in worth(some):
            alone = spread(one.capacity) if one.capacity else "not asked"
            typer.echo(f"  {one.encoder} alone (capacity): {alone}")
            for way, losses in one.necessity.items():
                typer.echo(f"    {way} without it loses (necessity): {spread(losses)}")


def _shown(scores: Mapping[str, Any]) -> dict[str, str]:
    """Rates in percent with their intervals."""
    shown = {}
    for name in (PAIRS, "question_accuracy"):
        rate = scores.get(name) or {}
        if rate.get("count"):
            low, high = rate.get("interval") or (rate["share"], rate["share"])
            shown[name.replace("_", " ")] = f"{100 * rate['share']:.1f} % [{100 * low:.0f}, {100 * high:.0f}]"
    return shown
