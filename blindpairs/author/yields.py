"""What people's time bought: how many of the pairs they looked at became questions, why the others did not, how long.

The yield says whether a threshold is worth its pairs: it is counted by bands of both cosines. The seconds are those in
which a person looked and wrote, as the page measured them; a median, because somebody always goes for a coffee.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import search_words
from blindpairs.statistics import Rate, rate_of

BAND = 0.05  # of a cosine
NO_REASON = "no reason given"


@dataclass(frozen=True)
class Band:
    """The yield of pairs with a cosine from `low` to below `high`."""

    low: float
    high: float
    rate: Rate


@dataclass(frozen=True)
class Pace:
    """How fast one person is. `seconds` is the median of a pair, all looks at it together; None where not measured."""

    annotator: str
    decided: int  # pairs that this person decided
    seconds: float | None
    measured: int  # pairs whose seconds are known


@dataclass(frozen=True)
class Yield:
    """What became of the blind pairs that people decided."""

    whole: Rate  # accepted, of those accepted or rejected: disputed pairs are neither yet
    reasons: dict[str, int]  # of rejections by anybody, the most frequent first
    by_clip: tuple[Band, ...]
    by_dino: tuple[Band, ...]
    people: tuple[Pace, ...]


def yields(database: AuthoringDatabase) -> Yield:
    """The yield of everything that was decided."""
    where = "control_of IS NULL AND state IN ('accepted', 'rejected')"
    rows = database.read(f"SELECT state = 'accepted', clip_sim, dino_sim FROM listed WHERE {where}")
    return Yield(
        whole=rate_of([bool(accepted) for accepted, *_ in rows]),
        reasons=rejection_reasons(database),
        by_clip=_bands([(bool(accepted), clip) for accepted, clip, _ in rows if clip is not None]),
        by_dino=_bands([(bool(accepted), dino) for accepted, _, dino in rows if dino is not None]),
        people=tuple(paces(database)),
    )


def rejection_reasons(database: AuthoringDatabase) -> dict[str, int]:
    """How often each reason was given in decisions that stand, the most frequent first; case and spaces are nothing."""
    last = (
        "SELECT max(revisions.id) FROM revisions JOIN last_decisions ON last_decisions.annotator = revisions.author "
        "AND last_decisions.pair_id = revisions.pair_id "
        "WHERE last_decisions.kind = 'rejected' AND revisions.kind = 'rejected' GROUP BY revisions.author, "
        "revisions.pair_id"
    )
    texts = [reason for (reason,) in database.read(f"SELECT reason FROM revisions WHERE id IN ({last}) ORDER BY id")]
    spelled: dict[str, str] = {}
    counts = Counter(spelled.setdefault(search_words(text), " ".join(text.split())) or NO_REASON for text in texts)
    return dict(counts.most_common())


def paces(database: AuthoringDatabase) -> list[Pace]:
    """How fast each person is, by name."""
    decided = dict(database.read("SELECT annotator, count(*) FROM last_decisions GROUP BY 1 ORDER BY 1"))
    rows = database.read(
        "SELECT author, sum(seconds) FROM revisions WHERE seconds IS NOT NULL AND kind != 'draft' "
        "GROUP BY author, pair_id"
    )
    took: dict[str, list[float]] = {}
    for author, seconds in rows:
        took.setdefault(author, []).append(seconds)
    names = sorted({*decided, *took})
    return [
        Pace(name, decided.get(name, 0), median(took[name]) if name in took else None, len(took.get(name, ())))
        for name in names
    ]


def _bands(rows: Sequence[tuple[bool, float]]) -> tuple[Band, ...]:
    found: dict[int, list[bool]] = {}
    for accepted, cosine in rows:
        found.setdefault(int(cosine // BAND), []).append(accepted)
    return tuple(
        Band(round(place * BAND, 2), round((place + 1) * BAND, 2), rate_of(found[place])) for place in sorted(found)
    )
