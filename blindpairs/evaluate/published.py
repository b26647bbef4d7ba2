"""The numbers that others published about MMVP and MMVP-VLM, as data with sources, and which of them are possible.

Of 150 pairs there are 151 shares. A published pair accuracy that is none of them is something else: a share of single
questions, a mean over runs, or a slip. Such values are flagged, never dropped or mended, so that nobody compares a pair
accuracy with one. What ships is facts with their sources (data/published.json), each with a letter for how sure it is:
H read off the authors' own figure, table or text; M quoted by others or reported by users; L inferred.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from blindpairs.errors import InputError
from blindpairs.statistics import Rate, wilson_interval
from blindpairs.workspace import published_file, read_json

_ROW_COLUMNS = {"model", "note", "row_source", "row_confidence"}


@dataclass(frozen=True)
class PublishedValue:
    """One published number."""

    table: str
    row: int  # from 0
    benchmark: str
    model: str
    column: str
    metric: str  # pair_accuracy, question_accuracy, expected_pair_accuracy, llava_bench, pope, pearson, ...
    pattern: str | None  # None for a whole benchmark
    text: str  # as printed, with its decimals; shares in percent
    count: int | None  # the trials that it is a share of; None where it is no share, or of an unknown number
    settings: dict[str, float | str]  # such as resolution and parameters (in millions)
    source: str
    confidence: str  # H, M or L
    note: str

    @property
    def value(self) -> float:
        """The number; a share in percent."""
        return float(self.text)

    @property
    def possible(self) -> bool | None:
        """Whether a share of `count` trials can print like this; None where that cannot be asked."""
        return None if self.count is None else bool(possible_hits(self.text, self.count))

    @property
    def rate(self) -> Rate | None:
        """The share with its Wilson interval; None unless exactly one number of hits prints like this."""
        hits = possible_hits(self.text, self.count) if self.count else []
        if len(hits) != 1 or not self.count:
            return None
        return Rate(hits[0], self.count, wilson_interval(hits[0] / self.count, self.count))


def load_published() -> list[PublishedValue]:
    """Every number that ships, in the order of the file. Raises AssetMissing where the file is not installed."""
    return [value for table in read_json(published_file())["tables"] for value in _values(table)]


def table_values(values: Iterable[PublishedValue], table: str) -> list[PublishedValue]:
    """The values of one table. InputError names the tables for a name that is none."""
    everything = list(values)
    found = [one for one in everything if one.table == table]
    if not found:
        names = ", ".join(dict.fromkeys(one.table for one in everything))
        raise InputError(f"nothing was published as {table!r}: choose one of {names}")
    return found


def impossible(values: Iterable[PublishedValue]) -> list[PublishedValue]:
    """The values that no number of hits can give."""
    return [one for one in values if one.possible is False]


def possible_hits(text: str, count: int) -> list[int]:
    """The numbers of hits among `count` trials whose share in percent prints as `text`, with its number of decimals.

    Halves may have been rounded up or down. InputError for a text that is no percentage.
    """
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 100:
        raise InputError(f"{text!r} is not a share in percent: give a number from 0 to 100")
    decimals = len(text.partition(".")[2])
    slack = 0.5 * 10.0**-decimals + 1e-9  # half a unit of the last decimal, which binary floats miss by a little
    lowest = max(0, math.ceil((share - slack) * count / 100))
    highest = min(count, math.floor((share + slack) * count / 100))
    return list(range(lowest, highest + 1))


def _values(table: dict[str, Any]) -> Iterator[PublishedValue]:
    """The values of a table row by row; an empty cell is a number that was not published."""
    described: dict[str, dict[str, Any]] = table["values"]
    for place, cells in enumerate(table["rows"]):
        row = dict(zip(table["columns"], cells, strict=True))
        settings = {
            name: cell
            for name, cell in row.items()
            if name not in described and name not in _ROW_COLUMNS and cell is not None
        }
        for column, about in described.items():
            if row[column] is not None:
                yield PublishedValue(
                    table=table["name"],
                    row=place,
                    benchmark=table["benchmark"],
                    model=row["model"],
                    column=column,
                    metric=about["metric"],
                    pattern=about.get("pattern"),
                    text=row[column],
                    count=about["count"],
                    settings=settings,
                    source=row.get("row_source") or table["source"],
                    confidence=row.get("row_confidence") or about.get("confidence") or table["confidence"],
                    note=row.get("note") or "",
                )
