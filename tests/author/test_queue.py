"""Which pair comes next: spread over what there is, one person a pair, and nothing blocked by a closed window."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from authored import DRAFT, mined

from blindpairs.author.clusters import name_cluster
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import MinedPair
from blindpairs.author.queue import Queue, Rules, Wish
from blindpairs.author.revisions import Decision
from blindpairs.errors import InputError

PATTERNS = ("Text", "Color", "State")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def kept(folder: Path, pairs: list[MinedPair], patterns: tuple[str, ...] = ()) -> AuthoringDatabase:
    """A database of pairs, those with a pattern drafted."""
    database = AuthoringDatabase(folder / "authoring.sqlite")
    database.add_pairs(pairs)
    for pair, pattern in zip(pairs, patterns, strict=False):
        database.add_draft(pair.pair_id, "model", replace(DRAFT, patterns=(pattern,)))
    return database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    """30 pairs: the best 20 of the pattern Text, then 5 of Color and 5 of State; clusters 0 to 2 in turn."""
    patterns = ("Text",) * 20 + ("Color",) * 5 + ("State",) * 5
    with kept(tmp_path, [mined(number) for number in range(30)], patterns) as made:
        yield made


def decide(database: AuthoringDatabase, pair_id: str, annotator: str, accepted: bool = True) -> None:
    drafted = database.history(pair_id)
    draft, based = (drafted[0].draft, drafted[0].id) if drafted else (DRAFT, None)
    database.decide(Decision(pair_id, annotator, accepted, draft, based_on=based))


def worked(database: AuthoringDatabase, queue: Queue, annotator: str, accepted: bool = True) -> Iterator[str]:
    """The pairs that a person decides, one after the other, until there are none."""
    while found := queue.next_pairs(annotator):
        decide(database, found[0], annotator, accepted)
        yield found[0]


def pattern_of(database: AuthoringDatabase, pair_id: str) -> str:
    return database.history(pair_id)[0].draft.patterns[0]


def test_everybody_works_through_all_pairs_once(database: AuthoringDatabase) -> None:
    order = list(worked(database, Queue(database), "Ann"))
    assert sorted(order) == sorted(pair.pair_id for pair in database.pairs())


def test_patterns_take_turns_until_one_has_no_more(database: AuthoringDatabase) -> None:
    order = [pattern_of(database, one) for one in worked(database, Queue(database), "Ann")]
    assert all(set(order[start : start + 3]) == set(PATTERNS) for start in range(0, 15, 3))
    assert order[15:] == ["Text"] * 15


def test_clusters_take_turns_within_a_pattern(database: AuthoringDatabase) -> None:
    clusters = {pair.pair_id: pair.cluster for pair in database.pairs()}
    order = list(worked(database, Queue(database), "Ann"))
    assert Counter(clusters[one] for one in order[:15]).most_common()[-1][1] >= 4
    assert Counter(clusters[one] for one in order[15:24]) == {0: 3, 1: 3, 2: 3}


def test_places_of_the_corpus_take_turns(tmp_path: Path) -> None:
    folders = ["/corpus/a"] * 8 + ["/corpus/b", "/archive.tar#c"]
    pairs = [
        replace(mined(number), cluster=None, uri_a=f"{folder}/{number}.jpg") for number, folder in enumerate(folders)
    ]
    with kept(tmp_path, pairs) as database:
        order = list(worked(database, Queue(database), "Ann"))
    assert order[:4] == ["p0", "p8", "p9", "p1"]


def test_a_pattern_that_has_its_target_comes_last(database: AuthoringDatabase) -> None:
    order = list(worked(database, Queue(database, Rules(per_pattern=2)), "Ann"))
    patterns = [pattern_of(database, one) for one in order]
    assert Counter(patterns[:6]) == {"Text": 2, "Color": 2, "State": 2}
    assert len(order) == 30  # and still comes


def test_rejected_pairs_count_as_tried_and_not_for_the_target(database: AuthoringDatabase) -> None:
    order = worked(database, Queue(database, Rules(per_pattern=2)), "Ann", accepted=False)
    patterns = [pattern_of(database, one) for one in islice(order, 15)]
    assert Counter(patterns) == {"Text": 5, "Color": 5, "State": 5}


def test_a_wish_gives_that_pattern_or_cluster_only(database: AuthoringDatabase) -> None:
    queue = Queue(database)
    for wish in (Wish(pattern="State"), Wish(cluster=2)):
        for pair_id in queue.next_pairs("Ann", wish, count=4):
            pair = database.pair(pair_id)
            assert pair
            assert wish.cluster in (None, pair.cluster)
            assert wish.pattern in ("", pattern_of(database, pair_id))
    assert queue.next_pairs("Ann", Wish(pattern="Color", cluster=7)) == []
    assert queue.next_pairs("Ann", Wish(pattern="no such")) == []


def test_the_name_of_a_cluster_stands_for_the_pattern_of_pairs_without_text(tmp_path: Path) -> None:
    with kept(tmp_path, [mined(number) for number in range(6)], ("Text",)) as database:
        name_cluster(database, 0, "Color", "Ann")
        name_cluster(database, 1, "State", "Ann")
        queue = Queue(database)
        assert queue.next_pairs("Ann", Wish(pattern="Color"), count=9) == ["p3"]  # p0 has a text, of another pattern
        assert queue.next_pairs("Ann", Wish(pattern="State"), count=9) == ["p1", "p4"]


def test_reloading_a_page_gives_the_same_pairs(database: AuthoringDatabase) -> None:
    queue = Queue(database)
    first = queue.next_pairs("Ann")
    assert queue.next_pairs("Ann") == first
    decide(database, first[0], "Ann")
    assert queue.next_pairs("Ann")[0] == first[1]  # the one that was loaded early is the next


def holders(database: AuthoringDatabase, now: float, pair_id: str = "%") -> list[str]:
    """Who holds a pair, or any, at a time."""
    held = "SELECT DISTINCT annotator FROM leases WHERE pair_id LIKE ? AND until >= ? ORDER BY annotator"
    return [name for (name,) in database.read(held, (pair_id, now))]


def test_nobody_gets_what_another_person_holds(database: AuthoringDatabase) -> None:
    queue = Queue(database)
    held = {name: queue.next_pairs(name, count=3) for name in ("Ann", "Ben", "Cleo")}
    assert len(set().union(*held.values())) == 9
    assert holders(database, 0.0, held["Ben"][0]) == ["Ben"]
    assert holders(database, 0.0) == ["Ann", "Ben", "Cleo"]


def test_a_lease_that_is_not_renewed_ends(database: AuthoringDatabase) -> None:
    clock = Clock()
    queue = Queue(database, Rules(lease_seconds=60, clock=clock))
    (first, _) = queue.next_pairs("Ann")
    clock.now += 50
    queue.renew("Ann")
    clock.now += 50
    assert first not in queue.next_pairs("Ben")
    clock.now += 61
    assert (holders(database, clock.now, first), holders(database, clock.now)) == ([], [])
    assert first in queue.next_pairs("Cleo", count=9)


def test_a_decision_counts_whoever_holds_the_pair(database: AuthoringDatabase) -> None:
    queue = Queue(database)
    (first, second) = queue.next_pairs("Ann")
    decide(database, first, "Ben")  # from the list, where nothing is leased
    assert queue.next_pairs("Ann")[0] == second


@pytest.mark.parametrize("overlap", [2, 3])
def test_overlap_gives_each_pair_to_so_many_people(database: AuthoringDatabase, overlap: int) -> None:
    queue = Queue(database, Rules(overlap=overlap))
    people = ["Ann", "Ben", "Cleo", "Dan"]
    left = dict.fromkeys(people)
    while left:  # all of them at once
        for name in list(left):
            found = queue.next_pairs(name)
            if found:
                decide(database, found[0], name)
            else:
                left.pop(name)
    deciders = [{one.author for one in history if one.kind != "draft"} for _, history in database.histories()]
    assert [len(some) for some in deciders] == [overlap] * 30


def test_what_others_have_decided_comes_first_where_several_shall_decide(database: AuthoringDatabase) -> None:
    queue = Queue(database, Rules(overlap=2))
    ann = list(islice(worked(database, queue, "Ann"), 6))
    ben = list(islice(worked(database, queue, "Ben"), 8))
    assert set(ben[:6]) == set(ann)
    assert not set(ben[6:]) & set(ann)


def test_a_skipped_pair_comes_back_when_nothing_else_is_open(database: AuthoringDatabase) -> None:
    queue = Queue(database)
    (first, second) = queue.next_pairs("Ann")
    queue.skip("Ann", first)
    assert queue.next_pairs("Ann")[0] == second
    assert list(worked(database, queue, "Ann"))[-1] == first
    assert first not in queue.next_pairs("Ann")


def test_what_one_person_skips_another_may_get(database: AuthoringDatabase) -> None:
    queue = Queue(database)
    (first, _) = queue.next_pairs("Ann")
    queue.skip("Ann", first)
    assert first in queue.next_pairs("Ben", count=30)


def test_a_control_waits_until_its_blind_pair_is_accepted(tmp_path: Path) -> None:
    pairs = [mined(0), mined(1), mined(2, control_of="p0"), mined(3, control_of="p1")]
    with kept(tmp_path, pairs) as database:
        queue = Queue(database)
        assert queue.next_pairs("Ann", count=9) == ["p0", "p1"]
        decide(database, "p0", "Ann")
        decide(database, "p1", "Ann", accepted=False)
        assert queue.next_pairs("Ann", count=9) == ["p2"]


def test_an_undone_pair_is_open_again(database: AuthoringDatabase) -> None:
    queue = Queue(database)
    (first, _) = queue.next_pairs("Ann")
    decide(database, first, "Ann")
    assert first not in queue.next_pairs("Ann", count=30)
    database.undo("Ann")
    assert first in queue.next_pairs("Ann", count=30)


def test_progress_counts_blind_pairs_and_controls_apart(tmp_path: Path) -> None:
    pairs = [*(mined(number) for number in range(5)), mined(5, control_of="p0")]
    with kept(tmp_path, pairs, ("Text", "Text", "Color", "Text", "Text", "Text")) as database:
        decide(database, "p0", "Ann")
        decide(database, "p1", "Ann", accepted=False)
        decide(database, "p2", "Ann")
        decide(database, "p2", "Ben", accepted=False)
        decide(database, "p5", "Ann")
        found = Queue(database).progress("Ann", ("Color", "Text"))
    assert (found.pairs, found.decided, found.accepted, found.rejected, found.disputed) == (5, 3, 1, 1, 1)
    assert (found.controls, found.controls_accepted, found.mine, found.target) == (1, 1, 4, 15)
    assert list(found.patterns.items()) == [("Color", 0), ("Text", 1)]


def test_a_name_that_nobody_can_read_gets_no_pair(database: AuthoringDatabase) -> None:
    with pytest.raises(InputError, match="cannot be the name of the annotator"):
        Queue(database).next_pairs(" ")
