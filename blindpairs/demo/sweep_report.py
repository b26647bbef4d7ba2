"""What the log of the demo's sweep says, as a table and a picture: a line for each way to use its two towers.

Both have means of the seeds. Every seed is asked the same pairs and questions, so three of them say as little about
other pairs as one: the interval beside a mean is the mean of the runs' own 95 % intervals, not a third as wide. What
the seeds themselves change stands in a column of its own, and as small dots.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from blindpairs.evaluate.figures import COLOURS, MARKERS, QUIET, STYLE
from blindpairs.evaluate.reported import CHANCE

PICTURE = "mof-sweep.png"
Row = Mapping[str, Any]  # a line of the log
Figure = Mapping[str, Any]  # "share" and "interval"

COLUMNS: Mapping[str, Callable[[Row], Figure]] = {
    "blind pairs": lambda row: row["blind"]["pair_accuracy"],
    "controls": lambda row: row["controls"]["pair_accuracy"],
    "instructions": lambda row: row["following"]["exact"],
    "category": lambda row: row["following"]["category"],
    "POPE": lambda row: row["pope"]["accuracy"],
}
SEEDS = "blind pairs, each seed"


def by_way(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The lines of each way, by seed; ways in the order of the log."""
    ways: dict[str, list[Row]] = {}
    for row in rows:
        ways.setdefault(row["way"], []).append(row)
    return {way: sorted(lines, key=lambda line: int(line["seed"])) for way, lines in ways.items()}


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown, in percent: a way a line. The README shows it of the log that ships."""
    heading = ["mode", "blind pairs", SEEDS, *[name for name in COLUMNS if name != "blind pairs"]]
    lines = [heading, ["---"] * len(heading)]
    for way, runs in by_way(rows).items():
        pairs, *others = (_cell([column(row) for row in runs]) for column in COLUMNS.values())
        each = ", ".join(f"{100 * COLUMNS['blind pairs'](row)['share']:.0f}" for row in runs)
        lines.append([f"`{way}`", pairs, each, *others])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(figures: Sequence[Figure]) -> str:
    """`42.4 (35 to 51)`."""
    share, low, high = _means(figures)
    return f"{share:.1f} ({low:.0f} to {high:.0f})"


def _means(figures: Sequence[Figure]) -> tuple[float, float, float]:
    """The mean share and the mean ends of the intervals, in percent."""
    numbers = [(one["share"], *one["interval"]) for one in figures]
    share, low, high = (100 * sum(values) / len(values) for values in zip(*numbers, strict=True))
    return share, low, high


def picture(rows: Sequence[Row]) -> Any:
    """A matplotlib figure: all columns, a row a way; those with additive features between their two ends."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    ways = by_way(rows)
    order = sorted(ways, key=_from_clip_to_dino)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(7, 0.9 + 0.62 * len(order)))
        axes = canvas.subplots()
        for place, (name, column) in enumerate(COLUMNS.items()):
            for row, way in enumerate(order):
                at, colour = row + 0.14 * (place - 2), COLOURS[place]
                figures = [column(one) for one in ways[way]]
                share, *ends = _means(figures)
                axes.plot(ends, [at, at], color=colour, linewidth=1.4)
                axes.plot([100 * one["share"] for one in figures], [at] * len(figures), ".", color=colour, markersize=3)
                axes.plot(share, at, MARKERS[place], color=colour, markersize=5, label=name if row == 0 else None)
        axes.axvline(100 * CHANCE, linestyle="--", color=QUIET, linewidth=1)
        axes.set_yticks(range(len(order)), order)
        axes.set(xlim=(-2, 102), xlabel="%, mean of the seeds and 95 % interval; dashed: guessing of pairs")
        axes.invert_yaxis()
        axes.legend(frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    return canvas


def _from_clip_to_dino(way: str) -> tuple[int, float]:
    mode, _, weight = way.partition(" ")
    return ("clip", "additive", "dino", "concat", "interleaved").index(mode), -float(weight or 0)
