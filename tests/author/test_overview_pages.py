"""List, clusters, adjudication and statistics in a real Chromium; hostile texts; whether everyone can use the pages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from author_pages import DRAFT, Served, Visit, drawn_work, serious_findings, serving, visits
from nasty_texts import NASTY

from blindpairs.author.clusters import cluster_names
from blindpairs.author.drafts import Draft
from blindpairs.benchmark import Question

Open = Callable[..., Visit]
ADA, BOB, EVE = "ada", "bob", "eve"
SCRIPT = """<script>document.title='owned'</script><img src=x onerror="document.title='owned'">"""
HOSTILE = Draft(
    Question(f"</textarea></title>{SCRIPT}", ("javascript:alert(1)", "evil\u202egpj.exe"), (0, 1)),
    None,
    (f"Pattern {SCRIPT}", "State and Condition"),
    SCRIPT,
    "{{7*7}} {% raw %} ${7*7} \u2028",
)
PAGES = ("/", "/pairs", "/clusters", "/adjudication", "/statistics")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three people who have decided twelve pairs together: agreed on some, disagreed on two, rejected one."""
    work = drawn_work(tmp_path_factory.mktemp("team"), 12)
    people = [part for name in (ADA, BOB, EVE) for part in ("--annotator", name)]
    with serving(work, "--port", 0, "--overlap", 3, *people) as started:
        with started.database() as database:
            pairs = [pair.pair_id for pair in database.pairs()]
        for place, pair_id in enumerate(pairs[:8]):
            for name in (ADA, BOB):
                decide(started, pair_id, name, place)
        yield started


def decide(served: Served, pair_id: str, name: str, place: int) -> None:
    """Pair 0: other answers. Pair 1: the same with the options the other way round. 2: rejected by one. 3: by both."""
    _, pair = served.ask("GET", f"/api/pair/{pair_id}", person=name)
    form = pair["shown"]["form"]
    if name == BOB and place == 0:
        form["question"]["answers"], form["second"] = [1, 0], None
    if name == BOB and place == 1:
        form["question"].update(options=form["question"]["options"][::-1], answers=[1, 0])
    accepted = not (place == 3 or (place == 2 and name == BOB))
    body = {"pair_id": pair_id, "accepted": accepted, "form": form, "based_on": pair["shown"]["revision"]}
    reason = "" if accepted else "too much differs"
    assert served.ask("POST", "/api/decide", {**body, "reason": reason, "seconds": 4 + place}, name)[0] == 200


@pytest.fixture
def look(browser: Any, team: Served) -> Iterator[Callable[..., Visit]]:
    with visits(browser, team) as opening:
        yield lambda path, who=ADA, **context: opening(who, path, **context)


def test_list_finds_pairs_by_state_words_and_cluster(look: Open, team: Served) -> None:
    page = look("/pairs")
    assert page.text("main [role=status]") == "12 pairs"
    found = {
        "state=disputed": 2,
        "state=rejected": 1,
        "state=accepted": 5,
        "state=undecided": 4,
        "text=DOOR+shut": 12,
        "text=nothing": 0,
        "cluster=1": 4,
        "pattern=State+and+Condition": 12,
        "kind=control": 0,
    }
    for query, count in found.items():
        page.go(f"/pairs?{query}")
        assert page.page.locator(".pairs tbody tr").count() == count, query
        assert page.text("main [role=status]") == f"{count} such pair{'' if count == 1 else 's'}"
    page.go("/pairs")
    page.page.locator("#text").fill("model")
    page.page.locator("#filter-state").select_option("undecided")
    page.page.locator("button.primary").click()
    assert page.page.locator(".pairs tbody tr").count() == 4
    page.page.locator(".pairs a").first.click()
    assert page.shown()


def test_list_does_not_tell_what_others_decided_but_who(look: Open) -> None:
    page = look("/pairs?state=accepted", EVE)
    assert "by ada, bob" in page.text(".pairs tbody tr >> nth=0")


def test_list_goes_on_from_page_to_page(browser: Any, tmp_path: Path) -> None:
    with serving(drawn_work(tmp_path, 70), "--port", 0, "--annotator", ADA) as served:
        with Visit(browser, served, ADA, "/pairs") as page:
            assert page.page.locator(".pairs tbody tr").count() == 50
            page.page.locator("a[rel=next]").click()
            page.page.wait_for_url("**after=**")
            assert page.page.locator(".pairs tbody tr").count() == 20
            assert page.page.locator("a[rel=next]").count() == 0
            assert page.problems == []


def test_name_of_a_cluster_is_saved_while_it_is_written(look: Open, team: Served) -> None:
    page = look("/clusters")
    assert page.page.locator(".card").count() == 3
    page.page.locator("#name-1").fill("Doors")
    page.saved()
    with team.database() as database:
        assert cluster_names(database)[1] == ("Doors", ADA)
    page.go("/pairs?cluster=1")
    assert "Doors" in page.text(".pairs tbody tr >> nth=0")
    page.go("/?cluster=1")
    assert page.shown()
    assert "Cluster\nDoors\n" in page.text("#facts")


def test_statistics_say_how_far_people_agree_and_how_fast_they_are(look: Open) -> None:
    page = look("/statistics")
    shown = page.text("main").replace("\u202f", " ")
    assert "8 pairs were decided by two people" in shown
    assert "7 of 8 the same" in shown  # kept or not: pair 2 differs
    assert "5 of 6 the same" in shown  # answers: pair 0 differs, pair 1 has the same in another order
    assert "too much differs" in shown
    assert page.page.locator("tr:has-text('ada') td").nth(1).inner_text() == "7.5"


def test_adjudicator_settles_a_dispute_by_one_of_the_texts(look: Open, team: Served) -> None:
    page = look("/adjudication", EVE)
    disputes = page.page.locator(".dispute")
    assert disputes.count() == 2
    pair = disputes.first.get_attribute("data-pair")
    texts = disputes.first.inner_text()
    assert "the answer of image a to the question is 'Open' for ada and 'Closed' for bob" in texts
    disputes.first.locator("button").nth(1).dblclick()
    disputes.first.locator(".settled:has-text('Settled: accepted')").wait_for()
    with team.database() as database:
        last = database.history(str(pair))[-1]
    assert (last.author, last.kind, last.settles) == (EVE, "accepted", True)
    assert last.draft.question
    assert last.draft.question.answers == (1, 0)
    page.go("/adjudication")
    assert page.page.locator(".dispute").count() == 1
    assert page.text("nav a[aria-current] .badge").startswith("1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(look: Open, path: str, scheme: str) -> None:
    page = look(path, color_scheme=scheme)
    if path == "/":
        page.shown()
        page.page.wait_for_selector("#progress:has-text('of')")
    assert serious_findings(page) == []


def test_axe_finds_nothing_serious_in_dialogs_and_with_findings(look: Open) -> None:
    page = look("/")
    page.shown()
    page.press("s")
    page.page.wait_for_selector("#checks .refuses")
    page.press("x")
    assert serious_findings(page) == []
    page.press("Escape", "?")
    assert serious_findings(page) == []


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(look: Open, path: str) -> None:
    page = look(path, viewport={"width": 400, "height": 800})
    assert page.page.locator("html").evaluate("e => e.scrollWidth") <= 400


def test_hostile_names_drafts_and_clusters_are_text_on_every_page(browser: Any, tmp_path: Path) -> None:
    name = "<img src=x onerror=document.title=1>{}' \" \u202e & %41.png"
    work = drawn_work(tmp_path, 4, HOSTILE, name)
    people = [part for who in (SCRIPT, BOB) for part in ("--annotator", who)]
    with serving(work, "--port", 0, "--overlap", 2, *people) as served:
        with served.database() as database:
            pairs = [pair.pair_id for pair in database.pairs()]
        body = {"accepted": False, "form": HOSTILE.as_json(), "based_on": None, "reason": SCRIPT}
        for who, accepted in ((SCRIPT, True), (BOB, False)):
            answer = served.ask("POST", "/api/decide", {**body, "pair_id": pairs[1], "accepted": accepted}, who)
            assert answer[0] == 200
        assert served.ask("PUT", "/api/cluster", {"cluster": 1, "name": SCRIPT}, BOB)[0] == 200
        with Visit(browser, served, BOB) as page:
            page.shown()
            assert HOSTILE.question
            assert page.value("question") == HOSTILE.question.text
            assert page.value("option_1") == HOSTILE.question.options[1]
            assert "\\u202e" in page.text("#names")
            page.press("End", "Control+Enter")
            for path in (*PAGES[1:], f"/pair/{pairs[1]}", "/pairs?text=%3Cscript%3E&state=%22%3E%3Cb%3E"):
                page.go(path)
                assert page.page.title().endswith("· blindpairs")
                assert page.page.locator("script:not([src]), main script, img[src=x]").count() == 0
                assert "\u202e" not in page.text("main")
            assert page.problems == []


@pytest.mark.parametrize("name", [name for name in NASTY if name not in ("very_long", "surrogate")])
def test_any_text_comes_back_as_it_was_written(team: Served, name: str) -> None:
    text = NASTY[name]
    _, pair = team.ask("GET", "/api/next", person=EVE)
    form = {**DRAFT.as_json(), "statement_a": text}
    body = {"pair_id": pair["pair"]["pair_id"], "form": form, "based_on": None, "client": name, "number": 1}
    seen = (pair["pair"]["edit"] or {"id": None})["id"]
    assert team.ask("PUT", "/api/edit", {**body, "seen": seen}, EVE)[0] == 200
    _, again = team.ask("GET", f"/api/pair/{body['pair_id']}", person=EVE)
    assert again["edit"]["form"]["statement_a"] == text
