"""Which pair a person sees next: spread over patterns, clusters of differences and the places of the corpus.

A person's time is the price of a benchmark, so it must not go into the hundredth pair of one kind. Of the pairs that
are open, one is given of the pattern that is below its target and had the fewest decisions; within it, of the cluster,
then of the place (a folder, an archive) with the fewest; of those, the best ranked. A control is open once its blind
pair is accepted: alone it controls nothing.

Several people: a pair that is shown to somebody is leased to that person, so that nobody else gets it unless `overlap`
asks for several decisions a pair; what others have decided then comes first. A lease that is not renewed ends, so that
a closed window blocks nothing. Leases steer who sees what; they decide nothing, and a decision is kept whoever holds
one.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from blindpairs.author.clusters import Names, cluster_names
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.deciding import clean_name

PER_PATTERN = 15  # pairs, as MMVP-VLM has (arXiv 2401.06209)
LEASE_SECONDS = 600.0
# A control waits for its blind pair.
_OPEN = (
    "(listed.control_of IS NULL OR EXISTS (SELECT 1 FROM listed AS blind "
    "WHERE blind.pair_id = listed.control_of AND blind.state = 'accepted')) "
    "AND listed.pair_id NOT IN (SELECT pair_id FROM last_decisions WHERE annotator = :annotator)"
)
_FREE = (
    "listed.pair_id NOT IN (SELECT leases.pair_id FROM leases WHERE leases.annotator != :annotator GROUP BY pair_id "
    "HAVING count(*) + (SELECT deciders FROM listed AS held WHERE held.pair_id = leases.pair_id) >= :overlap)"
)
_SKIPPED = "listed.pair_id IN (SELECT pair_id FROM skips WHERE annotator = :annotator)"
Row = tuple[str, int | None, str, int, str]  # pattern, cluster, place, rank and id of a pair


@dataclass(frozen=True)
class Wish:
    """What a person asks for more of; nothing asks for the usual order."""

    pattern: str = ""
    cluster: int | None = None


@dataclass(frozen=True)
class Rules:
    """How pairs are given out. `overlap` is how many people decide each pair."""

    overlap: int = 1
    per_pattern: int = PER_PATTERN
    lease_seconds: float = LEASE_SECONDS
    clock: Callable[[], float] = time.time  # of this machine, which alone uses the file


@dataclass(frozen=True)
class WorkProgress:
    """How far the work is; of blind pairs, controls apart."""

    pairs: int
    decided: int
    accepted: int
    rejected: int
    disputed: int
    mine: int  # decided by the person who asks, controls too
    patterns: dict[str, int] = field(default_factory=dict)  # accepted blind pairs, those of the taxonomy first
    target: int = PER_PATTERN
    controls: int = 0
    controls_accepted: int = 0


class Queue:
    """Gives pairs to people."""

    def __init__(self, database: AuthoringDatabase, rules: Rules | None = None) -> None:
        self._database = database
        self.rules = rules or Rules()

    def next_pairs(self, annotator: str, wish: Wish | None = None, count: int = 2) -> list[str]:
        """The ids of the pairs that this person decides next, the first one first, and leases them.

        Those that the person holds already come first, so that reloading a page changes nothing; those that do not fit
        the wish are given back. `count` of 2 lets a page load the next pair early. Empty where nothing is open: all is
        decided, or others hold what is not.
        """
        person, wish = clean_name(annotator, "annotator"), wish or Wish()
        now = self.rules.clock()
        with self._database.writing() as connection:
            # Also of others: who has decided a pair does not need it, and may ask for the next one much later.
            connection.execute(
                "DELETE FROM leases WHERE until < ? OR EXISTS (SELECT 1 FROM last_decisions AS said "
                "WHERE said.annotator = leases.annotator AND said.pair_id = leases.pair_id)",
                (now,),
            )
            given = self._held(person, wish)[:count]
            connection.execute("DELETE FROM leases WHERE annotator = ?", (person,))
            until = now + self.rules.lease_seconds
            for place in range(count):
                # What is given already is leased, and so counts where the next one is chosen.
                if place == len(given):
                    if not (found := self._best(person, wish, given)):
                        break
                    given.append(found)
                row = (given[place], person, place, until)
                connection.execute("INSERT INTO leases (pair_id, annotator, taken, until) VALUES (?, ?, ?, ?)", row)
        return given

    def renew(self, annotator: str) -> None:
        """Hold what this person holds for longer: called while the person works."""
        until = self.rules.clock() + self.rules.lease_seconds
        with self._database.writing() as connection:
            connection.execute("UPDATE leases SET until = ? WHERE annotator = ?", (until, annotator.strip()))

    def skip(self, annotator: str, pair_id: str) -> None:
        """Give a pair back undecided: this person gets it again when nothing else is open."""
        person = clean_name(annotator, "annotator")
        with self._database.writing() as connection:
            connection.execute("DELETE FROM leases WHERE annotator = ? AND pair_id = ?", (person, pair_id))
            connection.execute(
                "INSERT INTO skips (annotator, pair_id) SELECT ?, pair_id FROM pairs WHERE pair_id = ? "
                "ON CONFLICT DO NOTHING",
                (person, pair_id),
            )

    def progress(self, annotator: str = "", taxonomy: Collection[str] = ()) -> WorkProgress:
        """How far the work is, with the accepted pairs of each pattern against the target."""
        rows = self._database.read("SELECT control_of IS NULL, state, count(*) FROM listed GROUP BY 1, 2")
        blind = Counter({state: count for is_blind, state, count in rows if is_blind})
        controls = Counter({state: count for is_blind, state, count in rows if not is_blind})
        where = "control_of IS NULL AND state = 'accepted'"
        found = dict(
            self._database.read(f"SELECT pattern, count(*) FROM listed WHERE {where} GROUP BY 1 ORDER BY 2 DESC")
        )
        patterns = {name: found.get(name, 0) for name in [*taxonomy, *found] if name}
        mine = self._database.read("SELECT count(*) FROM last_decisions WHERE annotator = ?", (annotator.strip(),))
        return WorkProgress(
            pairs=blind.total(),
            decided=blind.total() - blind["undecided"],
            accepted=blind["accepted"],
            rejected=blind["rejected"],
            disputed=blind["disputed"],
            mine=mine[0][0],
            patterns=patterns,
            target=self.rules.per_pattern,
            controls=controls.total(),
            controls_accepted=controls["accepted"],
        )

    def _held(self, person: str, wish: Wish) -> list[str]:
        """What the person holds, is open and fits the wish, in the order in which it was given."""
        where, values = self._open(person, wish)
        rows = self._database.read(
            "SELECT listed.pair_id FROM leases JOIN listed USING (pair_id) "
            f"WHERE leases.annotator = :annotator AND deciders < :overlap AND {where} ORDER BY leases.taken",
            values,
        )
        return [pair_id for (pair_id,) in rows]

    def _best(self, person: str, wish: Wish, given: Collection[str]) -> str | None:
        """The best pair that is open, that nobody else needs, and that is not given yet; skipped ones come last."""
        where, values = self._open(person, wish)
        names = ", ".join(f":given{place}" for place in range(len(given)))
        values |= {f"given{place}": pair_id for place, pair_id in enumerate(given)}
        where += f" AND {_FREE} AND listed.pair_id NOT IN ({names})"
        # What others have decided comes first, so that pairs are finished and not all of them begun.
        for condition in (f"{where} AND NOT {_SKIPPED}", f"{where} AND {_SKIPPED}"):
            for deciders in reversed(range(self.rules.overlap)):
                if rows := self._of_each_kind(condition, {**values, "deciders": deciders}):
                    return self._chosen(rows)
        return None

    def _of_each_kind(self, where: str, values: Mapping[str, object]) -> list[Row]:
        """The best ranked pair of each pattern, cluster and place, of those that so many people decided."""
        # The index has the groups in order: 20,000 pairs take a third of the time. SQLite takes the id from the row of
        # the minimum (sqlite.org/lang_select.html, section 2.5).
        select = "SELECT pattern, cluster, place, min(rank), pair_id FROM listed INDEXED BY listed_for_queue"
        grouped = f"{select} WHERE deciders = :deciders AND {where} GROUP BY pattern, cluster, place"
        return self._database.read(grouped, values)

    def _chosen(self, rows: Iterable[Row]) -> str:
        """The pair whose kind had the fewest decisions."""
        names = cluster_names(self._database)
        accepted, tried = self._counts(names)

        def order(row: Row) -> tuple[object, ...]:
            pattern, cluster, place, rank, pair_id = row
            pattern = _pattern(pattern, cluster, names)
            full = bool(pattern) and accepted[pattern] >= self.rules.per_pattern
            return full, tried["pattern", pattern], tried["cluster", cluster], tried["place", place], rank, pair_id

        return min(rows, key=order)[-1]

    def _open(self, person: str, wish: Wish) -> tuple[str, dict[str, object]]:
        where = _OPEN
        if wish.pattern:
            # A pair without a text has the pattern that its cluster is named by.
            named = [number for number, (name, _) in cluster_names(self._database).items() if name == wish.pattern]
            without = f"listed.pattern = '' AND listed.cluster IN ({', '.join(map(str, named))})"
            where += f" AND (listed.pattern = :pattern OR ({without}))"
        if wish.cluster is not None:
            where += " AND listed.cluster = :cluster"
        values = {"annotator": person, "overlap": self.rules.overlap, "pattern": wish.pattern, "cluster": wish.cluster}
        return where, values

    def _counts(self, names: Names) -> tuple[Counter[str], Counter[tuple[str, object]]]:
        """Accepted pairs by pattern; decided and leased pairs by pattern, cluster and place."""
        rows = self._database.read(
            "SELECT pattern, cluster, place, state = 'accepted', count(*) FROM listed "
            "WHERE deciders > 0 OR pair_id IN (SELECT pair_id FROM leases) GROUP BY 1, 2, 3, 4"
        )
        accepted: Counter[str] = Counter()
        tried: Counter[tuple[str, object]] = Counter()
        for text, cluster, place, is_accepted, count in rows:
            pattern = _pattern(text, cluster, names)
            accepted[pattern] += count if is_accepted else 0
            for key in (("pattern", pattern), ("cluster", cluster), ("place", place)):
                tried[key] += count
        return accepted, tried


def _pattern(text: str, cluster: int | None, names: Names) -> str:
    """The pattern of a pair: that of its text, else the name that a person gave its cluster, else none."""
    return text or (names[cluster][0] if cluster in names else "")
