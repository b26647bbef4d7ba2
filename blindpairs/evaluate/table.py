"""Models side by side: accuracy by pattern, and accuracy against the size of a model and the resolution of its images.

Everything is made as values first (`records`, for JSON and CSV: shares from 0 to 1 with their intervals) and as tables
of text second (percent, for terminals and LaTeX). Nothing here prints.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from blindpairs.evaluate.published import PublishedValue
from blindpairs.evaluate.scores import Scores
from blindpairs.statistics import Rate

Record = dict[str, str | int | float | None]
ALL = "all"  # in the place of a pattern: the whole benchmark
MISSING = "-"
_LATEX = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class ModelScores:
    """A model's accuracy on the whole benchmark and by pattern, and what it is compared by."""

    model: str
    overall: Rate
    patterns: Mapping[str, Rate] = field(default_factory=dict)
    parameters: float | None = None  # millions
    resolution: int | None = None  # pixels a side


@dataclass(frozen=True)
class Table:
    """Text in rows under a header; all rows are as long as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def transposed(self) -> "Table":
        """Columns as rows: many patterns of few models fit a terminal this way only."""
        header, *rows = zip(self.header, *self.rows, strict=True)
        return Table(header, tuple(rows))


def model_scores(
    model: str,
    scores: Scores,
    patterns: Mapping[str, Scores],
    parameters: float | None = None,
    resolution: int | None = None,
) -> ModelScores:
    """Pair accuracies from what `score` and `by_pattern` found."""
    by_pattern = {name: one.pair_accuracy for name, one in patterns.items()}
    return ModelScores(model, scores.pair_accuracy, by_pattern, parameters, resolution)


def published_models(values: Iterable[PublishedValue]) -> list[ModelScores]:
    """The models of a published table of pair accuracies, such as `table_values(values, "mmvp_vlm")`.

    Every accuracy on a whole benchmark is one model, with the patterns of its row. Models of one name are told apart by
    column and settings. A value that is no possible share is left out.
    """
    shares = [(one, one.rate) for one in values if one.metric == "pair_accuracy"]
    wholes = [(one, rate) for one, rate in shares if rate and not one.pattern]
    names = Counter(one.model for one, _ in wholes)
    columns = {one.column for one, _ in wholes}
    found = []
    for one, overall in wholes:
        patterns = {other.pattern: rate for other, rate in shares if other.row == one.row and other.pattern and rate}
        parameters, resolution = (one.settings.get(name) for name in ("parameters", "resolution"))
        settings = [f"{name} {value}" for name, value in one.settings.items()]
        detail = ", ".join([*([one.column] if len(columns) > 1 else []), *settings])
        found.append(
            ModelScores(
                f"{one.model} ({detail})" if names[one.model] > 1 and detail else one.model,
                overall,
                patterns,
                None if parameters is None else float(parameters),
                None if resolution is None else int(resolution),
            )
        )
    return found


def records(models: Sequence[ModelScores]) -> list[Record]:
    """One row for each model and pattern, and one for each model on everything: for JSON and CSV."""
    return [
        {"model": one.model, "pattern": pattern, **_numbers(rate)}
        for one in models
        for pattern, rate in {ALL: one.overall, **one.patterns}.items()
    ]


def scaling_records(models: Sequence[ModelScores]) -> list[Record]:
    """Accuracy against parameters and resolution, the smallest first; models of unknown size last."""
    return [
        {
            "model": one.model,
            "parameters_millions": one.parameters,
            "resolution": one.resolution,
            **_numbers(one.overall),
        }
        for one in _by_size(models)
    ]


def pattern_table(models: Sequence[ModelScores], intervals: bool = False) -> Table:
    """Models by patterns in percent, with the number of pairs in the header where all models have the same."""
    patterns = list(dict.fromkeys(pattern for one in models for pattern in one.patterns))
    columns: list[list[Rate | None]] = [[one.patterns.get(pattern) for one in models] for pattern in patterns]
    columns.append([one.overall for one in models])
    header = ("model", *(_heading(*column) for column in zip([*patterns, ALL], columns, strict=True)))
    # By place, because two models may have one name.
    rows = tuple(
        (one.model, *(_percent(column[place], intervals) for column in columns)) for place, one in enumerate(models)
    )
    return Table(header, rows)


def scaling_table(models: Sequence[ModelScores]) -> Table:
    """The rows of `scaling_records` as text, in percent."""
    header = ("model", "parameters (M)", "resolution", "pairs", "accuracy", "95 % interval")
    rows = []
    for one in _by_size(models):
        size = MISSING if one.parameters is None else f"{one.parameters:,.1f}"
        resolution = MISSING if one.resolution is None else str(one.resolution)
        interval = shown_range(one.overall) or MISSING
        rows.append((one.model, size, resolution, str(one.overall.count), _percent(one.overall, False), interval))
    return Table(header, tuple(rows))


def text(table: Table) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [table.header, *table.rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in [shown[0], "  ".join("-" * width for width in widths), *shown[1:]])


def latex(table: Table) -> str:
    """A tabular of the booktabs package, with all marks that LaTeX reads as commands escaped."""
    lines = [" & ".join(escape_latex(cell) for cell in line) + r" \\" for line in [table.header, *table.rows]]
    columns = "l" + "r" * (len(table.header) - 1)
    head, body = lines[0], "\n".join(lines[1:])
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def escape_latex(cell: str) -> str:
    """Any text as LaTeX that prints it."""
    return "".join(_LATEX.get(mark, mark) for mark in cell)


def csv_text(rows: Sequence[Record]) -> str:
    """Rows as CSV with a header; nothing for what is missing, and nothing at all without rows.

    Text that a spreadsheet would run as a formula has an apostrophe before it (OWASP, CSV injection).
    """
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _inert(value: str | float | None) -> str | float | None:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _by_size(models: Sequence[ModelScores]) -> list[ModelScores]:
    return sorted(models, key=lambda one: (_last(one.parameters), _last(one.resolution), one.model))


def _numbers(rate: Rate) -> Record:
    low, high = rate.interval or (None, None)
    share = None if math.isnan(rate.share) else rate.share  # JSON has no nan
    return {"hits": rate.hits, "count": rate.count, "share": share, "low": low, "high": high}


def _heading(name: str, column: Sequence[Rate | None]) -> str:
    counts = {rate.count for rate in column if rate}
    return f"{name} (n = {counts.pop():,})" if len(counts) == 1 else name


def _percent(rate: Rate | None, intervals: bool) -> str:
    if rate is None or not rate.count:
        return MISSING
    interval = shown_range(rate) if intervals else ""
    return f"{100 * rate.share:.1f}" + (f" ({interval})" if interval else "")


def shown_range(rate: Rate) -> str:
    """`18.1 to 31.9`, in percent; "" without an interval."""
    return f"{100 * rate.interval[0]:.1f} to {100 * rate.interval[1]:.1f}" if rate.interval else ""


def _last(value: float | None) -> float:
    return math.inf if value is None else value
