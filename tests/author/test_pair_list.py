"""The list finds what a slow look at every pair finds, page by page, also while people decide."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest
from authored import DOOR, DRAFT, mined

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.decisions import standings
from blindpairs.author.listing import list_new, place_of
from blindpairs.author.pair_list import Filters, ListedPair, page
from blindpairs.author.revisions import Decision, Revision, last_words, latest_standing
from blindpairs.author.standing import Standing, standing_of
from blindpairs.errors import InputError

WORDS = ("door", "window", "Straße", "Łódź", "red", "100%", "a_b", "it's")
PATTERNS = ("Text", "Color", "Color and Text")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthoringDatabase]:
    """120 pairs whose texts, patterns and decisions are drawn by lot."""
    draw = random.Random(0)
    with AuthoringDatabase(tmp_path_factory.mktemp("list") / "a.sqlite") as made:
        for number in range(120):
            control = f"p{number - 1}" if number % 5 == 4 else None
            made.add_pairs([replace(mined(number, control), rank=number // 3)])  # three pairs share a rank
            if draw.random() < 0.8:
                text = " ".join(draw.sample(WORDS, 3))
                patterns = tuple(draw.sample(PATTERNS, draw.randrange(3)))
                made.add_draft(
                    f"p{number}", "model", replace(DRAFT, question=replace(DOOR, text=text), patterns=patterns)
                )
            for name in draw.sample(("Ann", "Ben"), draw.randrange(3)):
                history = made.history(f"p{number}")
                draft = history[0].draft if history else DRAFT
                reason = draw.choice(("", "blurred"))
                made.decide(Decision(f"p{number}", name, draw.random() < 0.6, draft, reason))
            history = made.history(f"p{number}")
            if history and draw.random() < 0.2:
                made.decide(Decision(f"p{number}", "Cleo", True, DRAFT, based_on=history[-1].id, settles=True))
            if draw.random() < 0.2:
                made.undo("Ann")
        yield made


@dataclass(frozen=True)
class Looked:
    """What a slow look at a pair finds."""

    stands: Standing
    text: str
    patterns: tuple[str, ...]


@pytest.fixture(scope="module")
def looked(database: AuthoringDatabase) -> list[Looked]:
    """Every pair with all of its revisions, in rank order."""
    found = []
    for pair, history in database.histories():
        stands, shown = standing_of(pair, history), latest_shown(history)
        text = " ".join([pair.pair_id, pair.uri_a, pair.uri_b, stands.why, *texts_of(shown)]).casefold()
        found.append(Looked(stands, text, shown.draft.patterns if shown else ()))
    return found


def slowly(looked: list[Looked], filters: Filters) -> list[str]:
    """The ids of the pairs that the filters let through."""
    found = []
    for one in looked:
        state, pair = one.stands.state, one.stands.pair
        states = ("undecided", "disputed") if filters.state == "open" else (filters.state or state,)
        wanted = [
            all(word in one.text for word in filters.text.casefold().split()),
            state in states,
            not filters.pattern or filters.pattern in one.patterns,
            filters.cluster in (None, pair.cluster),
            filters.controls in (None, pair.control_of is not None),
        ]
        found += [pair.pair_id] if all(wanted) else []
    return found


def latest_shown(history: list[Revision]) -> Revision | None:
    """The last decision that stands, else the last draft."""
    stands = latest_standing([one for one in history if one.kind != "draft"])
    return stands or next((one for one in reversed(history) if one.kind == "draft"), None)


def texts_of(shown: Revision | None) -> list[str]:
    if shown is None:
        return []
    draft = shown.draft
    question = [draft.question.text, *draft.question.options] if draft.question else []
    return [*question, draft.statement_a, draft.statement_b, *draft.patterns, shown.reason, shown.author]


def walk(database: AuthoringDatabase, filters: Filters, size: int) -> list[ListedPair]:
    found: list[ListedPair] = []
    after = ""
    while True:
        one = page(database, filters, after, size)
        found += one.pairs
        after = one.after
        if not after:
            assert one.total == len(found)
            return found


TEXTS = ("", "DOOR red", "STRASSE", "łódź", "%", "_", "blurred", "rejected by", "b7.jpg", "nowhere", "'")


@pytest.mark.parametrize("text", TEXTS)
def test_a_search_finds_what_a_slow_look_finds(database: AuthoringDatabase, looked: list[Looked], text: str) -> None:
    found = [one.pair_id for one in walk(database, Filters(text), 7)]
    assert found == slowly(looked, Filters(text))
    assert bool(found) == (text != "nowhere")


def test_filters_together_find_what_a_slow_look_finds(database: AuthoringDatabase, looked: list[Looked]) -> None:
    states = ("", "undecided", "accepted", "rejected", "disputed", "open")
    choices = product(("", "door"), states, ("", "Color"), (None, 1), (None, False, True))
    sizes = []
    for choice in choices:
        filters = Filters(*choice)  # type: ignore[arg-type]
        found = [one.pair_id for one in walk(database, filters, 11)]
        assert found == slowly(looked, filters), filters
        sizes.append(len(found))
    assert sum(size > 0 for size in sizes) > 60


def test_a_row_says_where_its_pair_stands(database: AuthoringDatabase) -> None:
    listed = {one.pair_id: one for one in walk(database, Filters(), 50)}
    for stands in standings(database):
        one = listed[stands.pair.pair_id]
        assert (one.state, one.why, one.drafted) == (stands.state, stands.why, stands.drafted)
        assert (one.cluster, one.control_of, one.rank) == (
            stands.pair.cluster,
            stands.pair.control_of,
            stands.pair.rank,
        )
        people = {
            one.author for one in last_words(database.history(stands.pair.pair_id)).values() if one.kind != "withdrawn"
        }
        assert one.deciders == len(people) >= len(stands.decisions)


def test_a_pattern_is_not_found_by_a_part_of_its_name(database: AuthoringDatabase) -> None:
    assert all("Color" in one.patterns for one in walk(database, Filters(pattern="Color"), 50))
    assert page(database, Filters(pattern="olo")).total == 0


def test_pages_neither_miss_nor_repeat_a_pair_that_is_decided_meanwhile(tmp_path: Path) -> None:
    with AuthoringDatabase(tmp_path / "a.sqlite") as database:
        database.add_pairs(mined(number) for number in range(20))
        seen, after = [], ""
        while True:
            one = page(database, Filters(state="undecided"), after, 4)
            seen += [pair.pair_id for pair in one.pairs]
            database.decide(Decision(seen[-1], "Ann", True, DRAFT))  # the pair that the next page begins after
            after = one.after
            if not after:
                break
    assert seen == [f"p{number}" for number in range(20)]


def test_what_is_no_place_or_no_search_is_refused(database: AuthoringDatabase) -> None:
    for after in ("x", "1", "x:p1", ":p1", "1e3:p1"):
        with pytest.raises(InputError, match="is no place in the list"):
            page(database, after=after)
    with pytest.raises(InputError, match="500 characters at most"):
        page(database, Filters("x" * 501))
    assert len(page(database, size=10**9).pairs) == 120
    assert len(page(database, size=0).pairs) == 1


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("/corpus/cats/1.jpg", "/corpus/cats"),
        ("1.jpg", ""),
        ("/c/a.tar#cats/1.jpg", "/c/a.tar#cats"),
        ("/c/a.parquet#17", "/c/a.parquet#"),
        ("", ""),
    ],
)
def test_the_place_of_an_image_is_its_folder(uri: str, place: str) -> None:
    assert place_of(uri) == place


def test_a_list_of_20_000_pairs_answers_at_once(tmp_path: Path) -> None:
    with AuthoringDatabase(tmp_path / "a.sqlite") as database:
        pairs = [mined(number) for number in range(20_000)]
        with database.writing() as connection:  # faster than drafting each
            places = ", ".join("?" * 10)
            connection.executemany(f"INSERT INTO pairs VALUES ({places})", [tuple(vars(one).values()) for one in pairs])
            list_new(connection, pairs)
            connection.execute("UPDATE listed SET words = words || ' is the door open or closed ' || rank")
        seconds, with_19 = [], sum("19" in str(number) for number in range(20_000))
        for text, after in (("", ""), ("", "19000:p19000"), ("door 19", ""), ("no such text", "")):
            started = time.perf_counter()
            found = page(database, Filters(text), after)
            seconds.append(time.perf_counter() - started)
            assert found.total == {"": 20_000, "door 19": with_19, "no such text": 0}[text]
    assert max(seconds) < 0.2
