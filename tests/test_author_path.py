"""The demo's whole path with the page in its middle: mine, draft (a fifth wrong), decide in the page, export, eval.

The person of these tests knows the truth of the scenes. A sample of the pairs is decided in a real Chromium, by the
keys that a person uses; the others by the same requests that the page sends.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from author_pages import Served, Visit, browsing, serving
from demo_run import DemoRun, execute
from test_authoring_path import faultless, right

from blindpairs.author.drafts import draft_of
from blindpairs.author.rows import draft_cells
from blindpairs.benchmark import BenchmarkPair
from blindpairs.benchmark.native import read_native
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import ATTRIBUTES, PATTERNS, Scene
from blindpairs.workspace import demo_folder

BY_HAND = 25  # pairs that are decided in the browser
PERSON = "ada"


@pytest.fixture(scope="module")
def truth() -> dict[str, Scene]:
    return dict(read_truth(demo_folder() / "scenes.parquet"))


def says_the_truth(pair: dict[str, Any], truth: dict[str, Scene]) -> bool:
    """Whether a person who sees both images would accept the draft of a pair as it stands."""
    if pair["shown"] is None:
        return False
    one, other = (truth[pair[side]["id"]] for side in "ab")
    row = draft_cells(draft_of(pair["shown"]["form"]))
    return faultless(row, one, other)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, demo_run: DemoRun) -> Path:
    """The work folder of the demo with drafts of which a fifth is wrong."""
    folder = tmp_path_factory.mktemp("author path") / "work"
    folder.mkdir()
    (folder / "embeddings").symlink_to(demo_run.folder / "blindpairs-work" / "embeddings")
    shutil.copytree(demo_run.pairs, folder / "pairs")
    line = "blindpairs draft --model 'demo?wrong=0.2&seed=1' --second --work work"
    assert execute(line, folder.parent)[0] == 0
    return folder


@pytest.fixture(scope="module")
def decided(work: Path, chromium: Path, truth: dict[str, Scene]) -> Iterator[tuple[Served, list[str]]]:
    """The pages after every pair has been decided, and the pairs that were decided in the browser."""
    with serving(work, "--port", 0, "--annotator", PERSON) as served:
        by_hand = in_the_browser(served, chromium, truth)
        while (pair := served.ask("GET", "/api/next", person=PERSON)[1]["pair"]) is not None:
            accepted = says_the_truth(pair, truth)
            form, revision = (pair["shown"]["form"], pair["shown"]["revision"]) if pair["shown"] else ({}, None)
            body = {"pair_id": pair["pair_id"], "accepted": accepted, "form": form, "based_on": revision}
            reason = "" if accepted else "people could disagree about the answer"
            status, answer = served.ask("POST", "/api/decide", {**body, "reason": reason}, PERSON)
            assert status == 200, answer
        yield served, by_hand


def in_the_browser(served: Served, chromium: Path, truth: dict[str, Scene]) -> list[str]:
    """Decide some pairs as a person does, with Enter and x; the ids of those that were decided."""
    done = []
    with browsing(chromium) as browser, Visit(browser, served, PERSON) as page:
        for _ in range(BY_HAND):
            pair_id = page.shown()
            _, pair = served.ask("GET", f"/api/pair/{pair_id}", person=PERSON)
            if says_the_truth(pair, truth):
                page.press("Enter")
            else:
                page.press("x")
                page.page.wait_for_selector("#rejecting[open]")
                page.press("4")
            page.after(pair_id)
            done.append(pair_id)
        assert page.page.locator(".frame img.main").count() == 2
        assert not page.page.locator("#view-map").is_disabled()  # mined with differences: the maps are there
        assert page.problems == []
    return done


@pytest.fixture(scope="module")
def exported(decided: tuple[Served, list[str]], work: Path) -> Path:
    code, _, complaints = execute("blindpairs export --license Apache-2.0 --work work", work.parent)
    assert code == 0, complaints
    return work / "benchmark"


def blind(folder: Path) -> list[BenchmarkPair]:
    return [pair for pair in read_native(folder).pairs if pair.control_of is None]


def test_page_gives_enough_right_pairs_of_every_pattern(exported: Path, truth: dict[str, Scene]) -> None:
    pairs = blind(exported)
    scenes = {pair.pair_id: (truth[pair.image_id_a], truth[pair.image_id_b]) for pair in pairs}
    differing = {
        key: sum(getattr(one, name) != getattr(other, name) for name in ATTRIBUTES)
        for key, (one, other) in scenes.items()
    }
    assert len(pairs) >= 135
    assert Counter(differing.values())[1] / len(pairs) >= 0.6
    assert {name for pair in pairs for name in pair.patterns} == {one.name.value for one in PATTERNS.values()}
    for pair in pairs:
        assert pair.question
        assert pair.second
        assert right(pair.question, pair.patterns[0], *scenes[pair.pair_id])
        assert right(pair.second, pair.patterns[0], *scenes[pair.pair_id])
        assert pair.annotators == (PERSON,)


def test_pairs_decided_by_keys_stand_as_the_person_meant(
    decided: tuple[Served, list[str]], exported: Path, truth: dict[str, Scene]
) -> None:
    served, by_hand = decided
    inside = {pair.pair_id for pair in read_native(exported).pairs}
    with served.database() as database:
        for pair_id in by_hand:
            last = database.history(pair_id)[-1]
            assert (last.author, last.seconds is not None) == (PERSON, True)
            assert last.kind == "accepted" or last.reason == "people could disagree about the answer"
            pair = database.pair(pair_id)
            assert pair
            assert (last.kind == "accepted") == (pair_id in inside) or pair.control_of


def test_statistics_page_says_the_yield(decided: tuple[Served, list[str]]) -> None:
    served, _ = decided
    status, page = served.ask("GET", "/statistics", person=PERSON)
    assert status == 200
    assert "people could disagree about the answer" in page.decode()
    _, progress = served.ask("GET", "/api/progress", person=PERSON)
    assert progress["decided"] == progress["pairs"] == 300
    assert min(progress["patterns"].values()) > 0


def test_what_the_page_made_is_evaluated(exported: Path, work: Path) -> None:
    line = "blindpairs eval --model random --model first --json --work work"
    code, printed, complaints = execute(line, work.parent)
    assert code == 0, complaints
    assert read_native(exported).fingerprint in printed
    scores = json.loads(printed)
    assert len(scores["models"]) == 2


def test_newcomer_who_ran_the_demo_gets_its_pairs_with_drafts(demo_run: DemoRun, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "embeddings").symlink_to(demo_run.folder / "blindpairs-work" / "embeddings")
    shutil.copytree(demo_run.pairs, work / "pairs")
    with serving(work, "--port", 0, "--annotator", PERSON) as served:
        _, answer = served.ask("GET", "/api/next", person=PERSON)
    assert answer["pair"]["shown"]["author"] == "demo"
    assert answer["pair"]["shown"]["form"]["second"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bare_command_in_an_empty_folder_mines_the_demo_first(tmp_path: Path) -> None:
    with serving(tmp_path / "work", "--port", 0, "--annotator", PERSON) as served:
        _, answer = served.ask("GET", "/api/next", person=PERSON)
        assert answer["pair"]["shown"]["author"] == "demo"
        assert answer["pair"]["map"]
