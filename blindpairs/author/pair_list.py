"""Finding pairs among tens of thousands: search, filters, and pages that begin where the last one ended.

A page is found from the rank of the last pair of the one before (keyset paging), so that the hundredth costs what the
first does, and a pair that is decided meanwhile is neither missed nor shown twice.
"""

from dataclasses import dataclass
from typing import Any, Literal

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import search_words
from blindpairs.author.listing import BETWEEN
from blindpairs.author.standing import State
from blindpairs.errors import InputError

PAGE = 50
MOST_A_PAGE = 500
LONGEST_SEARCH = 500
_SHOWN = "pair_id, rank, control_of, cluster, clip_sim, dino_sim, state, deciders, drafted, patterns, question, why"


@dataclass(frozen=True)
class Filters:
    """Which pairs; nothing asks for all. Every word of `text` must occur somewhere in a pair's texts and paths."""

    text: str = ""
    state: State | Literal["", "open"] = ""  # open: undecided or disputed
    pattern: str = ""
    cluster: int | None = None
    controls: bool | None = None  # None: blind pairs and controls


@dataclass(frozen=True)
class ListedPair:
    """A pair as a list shows it."""

    pair_id: str
    rank: int
    control_of: str | None
    cluster: int | None
    clip_sim: float | None
    dino_sim: float | None
    state: State
    deciders: int
    drafted: bool
    patterns: tuple[str, ...]
    question: str
    why: str  # of a disputed pair who disagrees, of a rejected one who gave which reason


@dataclass(frozen=True)
class Page:
    """Some pairs in rank order. `after` is where the next page begins, "" on the last one."""

    pairs: tuple[ListedPair, ...]
    total: int  # that the filters let through, on all pages
    after: str


def page(database: AuthoringDatabase, filters: Filters | None = None, after: str = "", size: int = PAGE) -> Page:
    """One page. InputError for an `after` that no page gave, and for a search that is too long."""
    where, values = _where(filters or Filters())
    size = max(1, min(size, MOST_A_PAGE))
    (total,) = database.read(f"SELECT count(*) FROM listed WHERE {where}", values)[0]
    start = "1" if not after else "(rank, pair_id) > (?, ?)"
    rows = database.read(
        f"SELECT {_SHOWN} FROM listed WHERE {where} AND {start} ORDER BY rank, pair_id LIMIT ?",
        [*values, *_place(after), size + 1],
    )
    pairs = tuple(_listed(row) for row in rows[:size])
    return Page(pairs, total, f"{pairs[-1].rank}:{pairs[-1].pair_id}" if len(rows) > size else "")


def _where(filters: Filters) -> tuple[str, list[Any]]:
    if len(filters.text) > LONGEST_SEARCH:
        raise InputError(f"a search has {LONGEST_SEARCH} characters at most")
    parts: list[tuple[str, list[Any]]] = [("instr(words, ?)", [word]) for word in search_words(filters.text).split()]
    if filters.state == "open":
        parts.append(("state IN ('undecided', 'disputed')", []))
    elif filters.state:
        parts.append(("state = ?", [filters.state]))
    if filters.pattern:
        parts.append(("instr(patterns, ?)", [BETWEEN + filters.pattern + BETWEEN]))
    if filters.cluster is not None:
        parts.append(("cluster = ?", [filters.cluster]))
    if filters.controls is not None:
        parts.append(("control_of IS NOT NULL" if filters.controls else "control_of IS NULL", []))
    conditions = " AND ".join(condition for condition, _ in parts) or "1"
    return conditions, [value for _, values in parts for value in values]


def _place(after: str) -> list[Any]:
    if not after:
        return []
    rank, colon, pair_id = after.partition(":")
    if not colon or not rank.lstrip("-").isdecimal():
        raise InputError(f"{after[:50]!r} is no place in the list: start from its first page")
    return [int(rank), pair_id]


def _listed(row: tuple[Any, ...]) -> ListedPair:
    fields = dict(zip(_SHOWN.split(", "), row, strict=True))
    names = tuple(name for name in fields.pop("patterns").split(BETWEEN) if name)
    return ListedPair(drafted=bool(fields.pop("drafted")), patterns=names, **fields)
