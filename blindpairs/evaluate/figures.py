"""Plots of a report, by matplotlib: pair accuracy with intervals, by pattern, as a radar, against CLIP, against size.

Promises: the same figures give the same bytes as SVG; colours are told apart by people who see few of them (Okabe and
Ito 2008), and markers repeat what colours say; an interval is drawn wherever there is one, except in the radar;
guessing is drawn in every plot.
"""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from blindpairs.evaluate.reported import CHANCE, ReportedModel, ReportedRun
from blindpairs.pages.safety import visible_text
from blindpairs.statistics import Rate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = "osD^vPX*"
INK, QUIET = "#1d1e20", "#8a8d91"
STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that every machine draws the same
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "blindpairs",  # ids of an SVG would be random otherwise
    "svg.fonttype": "path",
}
MOST_IN_ONE = len(COLOURS)  # models in one plot: more cannot be told apart


def figures_of(run: ReportedRun) -> dict[str, Any]:
    """matplotlib figures by name: `models`, `patterns`, and what needs more: `radar` three patterns, below which its
    areas and its line of guessing vanish, `clip` both kinds of models, and `scaling` CLIP-style models of two sizes.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        drawn = {"models": _models(run), "patterns": _patterns(run)}
        if len(run.patterns) >= 3:
            drawn["radar"] = _radar(run)
        if run.named("similarity") and run.named("answers"):
            drawn["clip"] = _against_clip(run)
        sized = [one for one in run.named("similarity") if one.pair_accuracy.count]
        if len({(one.parameters, one.resolution) for one in sized if one.parameters and one.resolution}) > 1:
            drawn["scaling"] = _scaling(sized)
        return drawn


def encoded(figure: Any, kind: str) -> bytes:
    """A figure as svg, png (200 dots an inch) or pdf; the same bytes each time."""
    import matplotlib as mpl

    out = io.BytesIO()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}.get(kind, {})
    with mpl.rc_context(STYLE):
        figure.savefig(out, format=kind, dpi=200, metadata=dates, bbox_inches="tight")
    return out.getvalue()


def _new(width: float, height: float, **options: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))  # not pyplot, which keeps every figure for the life of the process
    return figure, figure.subplots(**options)


def _models(run: ReportedRun) -> Any:
    """A line a model: pair accuracy with its interval, and the controls beside."""
    figure, axes = _new(7, 0.7 + 0.34 * len(run.models))
    first = next((model for model in run.models if model.pair_accuracy.count), None)
    controlled = next((model for model in run.models if model.controls is not None), None)
    beside = 0.13 if controlled else 0.0
    for row, model in enumerate(run.models):
        _dot(axes, model.pair_accuracy, row - beside, COLOURS[0], "o", "blind pairs" if model is first else None)
        if model.controls is not None:
            _dot(axes, model.controls, row + beside, COLOURS[4], "D", "controls" if model is controlled else None)
    axes.set_yticks(range(len(run.models)), [_short(model.name) for model in run.models])
    axes.invert_yaxis()
    _percent_axis(axes)
    axes.set_xlabel("pair accuracy, 95 % interval; dashed: guessing")
    if controlled:
        _legend(axes)
    return figure


def _patterns(run: ReportedRun) -> Any:
    """A line a pattern, a dot a model, side by side within the line."""
    models = run.models[:MOST_IN_ONE]
    figure, axes = _new(7, 0.9 + 0.16 * len(run.patterns) * max(2, len(models)))
    step = 0.7 / max(1, len(models))
    for place, model in enumerate(models):
        shown: str | None = _short(model.name)
        for row, pattern in enumerate(run.patterns):
            if pattern in model.patterns:
                at = row + (place - (len(models) - 1) / 2) * step
                _dot(axes, model.patterns[pattern], at, COLOURS[place], MARKERS[place], shown)
                shown = None
    axes.set_yticks(range(len(run.patterns)), [_wrapped(name, 28) for name in run.patterns])
    for row in range(len(run.patterns) - 1):
        axes.axhline(row + 0.5, color=QUIET, linewidth=0.3)
    axes.invert_yaxis()
    _percent_axis(axes)
    axes.set_xlabel("pair accuracy by pattern, 95 % interval; dashed: guessing")
    _legend(axes)
    return figure


def _radar(run: ReportedRun) -> Any:
    """Pair accuracy by pattern, as a radar: a glance at the profile of each model. It shows no intervals."""
    figure, axes = _new(5.5, 5.5, subplot_kw={"projection": "polar"})
    angles = np.linspace(0, 2 * math.pi, len(run.patterns), endpoint=False)
    closed = np.append(angles, angles[:1])
    axes.plot(closed, np.full(len(closed), 100 * CHANCE), linestyle="--", color=QUIET, linewidth=1)
    for place, model in enumerate(run.models[:MOST_IN_ONE]):
        shares = [100 * model.patterns[name].share if name in model.patterns else np.nan for name in run.patterns]
        axes.plot(closed, [*shares, *shares[:1]], color=COLOURS[place], marker=MARKERS[place], label=_short(model.name))
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_xticks(angles, [_wrapped(name, 14) for name in run.patterns])
    axes.set_ylim(0, 100)
    axes.tick_params(axis="x", pad=12)
    axes.set_rlabel_position(180 / max(1, len(run.patterns)))  # between two spokes
    _legend(axes, 1.15)
    return figure


def _against_clip(run: ReportedRun) -> Any:
    """Each pattern: the first CLIP-style model against the models that answer."""
    clip = run.named("similarity")[0]
    figure, axes = _new(5.5, 4.5)
    for place, model in enumerate(run.models[:MOST_IN_ONE]):  # the colours of the other plots
        if model.kind != "answers":
            continue
        both = [name for name in run.patterns if name in clip.patterns and name in model.patterns]
        points = [(100 * clip.patterns[name].share, 100 * model.patterns[name].share) for name in both]
        across, up = zip(*points, strict=True) if points else ((), ())
        axes.scatter(across, up, color=COLOURS[place], marker=MARKERS[place], label=_short(model.name))
    axes.axhline(100 * CHANCE, linestyle="--", color=QUIET, linewidth=1)
    axes.axvline(100 * CHANCE, linestyle="--", color=QUIET, linewidth=1)
    axes.set(xlim=(-3, 103), ylim=(-3, 103), xlabel=f"{_short(clip.name)}, % of a pattern's pairs", ylabel="models, %")
    _legend(axes)
    return figure


def _scaling(models: Sequence[ReportedModel]) -> Any:
    """CLIP-style models: accuracy with its interval against parameters, and beside it against resolution."""
    figure, (left, right) = _new(8.5, 4, ncols=2, sharey=True)
    counted = [(one.parameters, one) for one in models if one.parameters]
    _against_size(left, [(math.log10(size), f"{size:,.{0 if size >= 10 else 2}f}", one) for size, one in counted])
    _against_size(right, [(float(one.resolution), str(one.resolution), one) for one in models if one.resolution])
    left.set(ylim=(-3, 103), xlabel="parameters in millions, logarithmic", ylabel="image score, %; dashed: guessing")
    right.set_xlabel("resolution, pixels a side")
    _legend(right)
    return figure


def _against_size(axes: Any, sized: Sequence[tuple[float, str, ReportedModel]]) -> None:
    """Models as (place on the axis, its label, model); those of about one size stand side by side."""
    places = [place for place, _, _ in sized]
    step = 0.025 * ((max(places) - min(places)) or 1.0)
    axes.axhline(100 * CHANCE, linestyle="--", color=QUIET, linewidth=1)
    last = ticked = -math.inf
    ticks: list[tuple[float, str]] = []
    # From left to right, so that each model can be moved clear of the one before it.
    for number in sorted(range(len(sized)), key=places.__getitem__):
        place, label, model = sized[number]
        last = max(place, last + step)
        colour = COLOURS[number % MOST_IN_ONE]
        marker = MARKERS[(number + number // MOST_IN_ONE) % MOST_IN_ONE]  # more models than colours have other markers
        rate = model.pair_accuracy
        if rate.interval is not None:
            axes.plot([last, last], [100 * end for end in rate.interval], color=colour, linewidth=1.2)
        axes.plot([last], [100 * rate.share], color=colour, marker=marker, linestyle="none", label=_short(model.name))
        if place > ticked + 6 * step:
            ticks.append((place, label))
            ticked = place
    axes.set_xticks(*zip(*ticks, strict=True))


def _legend(axes: Any, across: float = 1.01) -> None:
    """What is drawn; without anything matplotlib would warn."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, bbox_to_anchor=(across, 1), loc="upper left")


def _dot(axes: Any, rate: Rate, row: float, colour: str, marker: str, label: str | None) -> None:
    if not rate.count:
        return
    if rate.interval is not None:
        axes.plot([100 * end for end in rate.interval], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([100 * rate.share], [row], color=colour, marker=marker, markersize=5, linestyle="none", label=label)


def _percent_axis(axes: Any) -> None:
    axes.axvline(100 * CHANCE, linestyle="--", color=QUIET, linewidth=1)
    axes.set_xlim(-2, 102)
    axes.xaxis.set_major_formatter("{x:.0f} %")


def _short(name: str, most: int = 34) -> str:
    """A name that fits beside an axis. matplotlib leaves what begins with `_` out of legends."""
    shown = visible_text(name)
    text = shown if len(shown) <= most else f"{shown[: most - 10]}...{shown[-7:]}"
    return (" " * text.startswith("_") + text).replace("$", r"\$")  # `$` would begin a formula


def _wrapped(name: str, width: int) -> str:
    return textwrap.fill(visible_text(name).replace("$", r"\$"), width, break_long_words=False)


def models_shown(models: Sequence[ReportedModel]) -> str:
    """What a plot of patterns leaves out, as a sentence; "" where it shows every model."""
    hidden = len(models) - MOST_IN_ONE
    return (
        f"The plots by pattern show the first {MOST_IN_ONE} models; the table has {hidden} more." if hidden > 0 else ""
    )
