"""What people's time bought, counted by hand."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authored import DRAFT, mined

from blindpairs.author.clusters import cluster_names, clusters, name_cluster
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.revisions import Decision
from blindpairs.author.yields import Pace, paces, rejection_reasons, yields
from blindpairs.errors import InputError
from blindpairs.statistics import wilson_interval


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    """12 pairs, with DINOv2 cosines of .30, .35 ... and a control; of 11 those of even number are accepted."""
    with AuthoringDatabase(tmp_path / "a.sqlite") as made:
        made.add_pairs(replace(mined(number), dino_sim=0.301 + 0.05 * (number // 2)) for number in range(12))
        made.add_pairs([mined(12, control_of="p0")])
        for number in range(11):
            reason = ("", "Too small", "too  small ")[number % 3] if number % 2 else ""
            decision = Decision(f"p{number}", "Ann", number % 2 == 0, DRAFT, reason, seconds=10.0 + number)
            made.decide(decision)
        yield made


def test_the_yield_is_of_decided_blind_pairs(database: AuthoringDatabase) -> None:
    database.decide(Decision("p12", "Ann", True, DRAFT))  # a control
    database.decide(Decision("p1", "Ben", True, DRAFT))  # disputed from now on
    found = yields(database)
    assert (found.whole.hits, found.whole.count) == (6, 10)
    assert found.whole.interval == wilson_interval(0.6, 10)
    assert {band.low: (band.rate.hits, band.rate.count) for band in found.by_dino} == {
        0.3: (1, 1),
        0.35: (1, 2),
        0.4: (1, 2),
        0.45: (1, 2),
        0.5: (1, 2),
        0.55: (1, 1),
    }
    assert [(band.low, band.high, band.rate.count) for band in found.by_clip] == [(0.95, 1.0, 10)]
    states = {one.number: one.states for one in clusters(database)}
    assert {number: found["accepted"] + found["rejected"] for number, found in states.items()} == {0: 4, 1: 3, 2: 3}


def test_reasons_are_counted_whatever_their_case_and_spaces(database: AuthoringDatabase) -> None:
    assert rejection_reasons(database) == {"Too small": 3, "no reason given": 2}
    database.undo("Ann", database.history("p1")[-1].id)
    assert rejection_reasons(database) == {"too small": 2, "no reason given": 2}


def test_the_pace_is_the_median_of_all_looks_at_a_pair(database: AuthoringDatabase) -> None:
    assert paces(database) == [Pace("Ann", 11, 15.0, 11)]
    last = database.history("p10")[-1]
    database.decide(Decision("p10", "Ann", False, DRAFT, based_on=last.id, seconds=100.0))  # looked again
    database.decide(Decision("p0", "Ben", True, DRAFT))
    assert paces(database) == [Pace("Ann", 11, 15.0, 11), Pace("Ben", 1, None, 0)]
    rows = database.read("SELECT sum(seconds) FROM revisions WHERE pair_id = 'p10'")
    assert rows == [(120.0,)]


def test_nothing_decided_is_no_yield(tmp_path: Path) -> None:
    with AuthoringDatabase(tmp_path / "b.sqlite") as database:
        found = yields(database)
    assert (found.whole.count, found.by_dino, found.people, found.reasons) == (0, (), (), {})


def test_a_cluster_shows_its_best_pairs_and_what_became_of_them(database: AuthoringDatabase) -> None:
    found = clusters(database, typical=2)
    assert [(one.number, one.pairs, one.typical) for one in found] == [
        (0, 4, ("p0", "p3")),
        (1, 4, ("p1", "p4")),
        (2, 4, ("p2", "p5")),
    ]
    assert found[2].states == {"accepted": 2, "rejected": 1, "undecided": 1}
    assert found[2].patterns == {"State and Condition": 3}  # that without a text has none


def test_every_name_of_a_cluster_is_kept_and_the_last_counts(database: AuthoringDatabase) -> None:
    for name, person in (("Colour", "Ann"), ("Colour", "Ben"), ("Color", "Ben")):
        name_cluster(database, 1, name, person)
    assert cluster_names(database) == {1: ("Color", "Ben")}
    assert [one.name for one in clusters(database)] == ["", "Color", ""]
    assert database.read("SELECT name FROM cluster_names ORDER BY id") == [("Colour",), ("Color",)]
    name_cluster(database, 1, " ", "Ann")
    assert cluster_names(database) == {}


def test_a_name_that_is_none_and_a_cluster_that_is_not_there_are_refused(database: AuthoringDatabase) -> None:
    with pytest.raises(InputError, match="there is no cluster 7"):
        name_cluster(database, 7, "Color", "Ann")
    with pytest.raises(InputError, match="cannot be the name of the cluster"):
        name_cluster(database, 1, "Col\nor", "Ann")
