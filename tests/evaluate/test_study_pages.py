"""The study in a real Chromium: one image at a time, by keys, resumed, without the key, and read by `eval`."""

import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from author_pages import Served, Visit, serious_findings, serving
from pictured_pairs import benchmark_of
from typer.testing import CliRunner

from blindpairs.benchmark import Benchmark
from blindpairs.benchmark.native import DATA, write_native
from blindpairs.cli import app

PAIRS = 4


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return benchmark_of(PAIRS, second=None)


@pytest.fixture
def study(tmp_path: Path, benchmark: Benchmark) -> Iterator[Served]:
    work = tmp_path / "work"
    (work / "benchmark" / DATA).parent.mkdir(parents=True)
    write_native(benchmark, work / "benchmark" / DATA)
    people = ("--participant", "ada", "--participant", "bob")
    with serving(work, "--port", 0, *people, command="study") as served:
        yield served


def right_key(benchmark: Benchmark, visit: Visit) -> str:
    """The key of the right answer: the test knows which image is which, the page does not."""
    image = visit.page.locator("#image").get_attribute("src")
    assert image
    pair, side = next((pair, side) for pair in benchmark.pairs for side in (0, 1) if pair.image_ids[side] in image)
    assert pair.question
    return str(pair.question.answers[side] + 1)


def answer(visit: Visit, key: str) -> None:
    """Press a key and wait until the answer is saved and something else is shown."""
    token = visit.page.locator("main").get_attribute("data-shown")
    visit.press(key)
    visit.page.wait_for_selector(f"main:not([data-shown='{token}'])")
    visit.page.wait_for_selector("#saved[data-state=saved]")


def started(visit: Visit) -> Visit:
    visit.page.wait_for_selector("main[data-loaded]")
    visit.page.locator("#start").click()
    visit.page.wait_for_selector("main[data-shown]")
    return visit


def scores(work: Path) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["study", "--scores", "--json", "--work", str(work)])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)["participants"]
    return found


def test_questions_are_answered_by_keys_resumed_and_scored(study: Served, benchmark: Benchmark, browser: Any) -> None:
    with Visit(browser, study, "ada") as visit:
        started(visit)
        wrong_about = ""
        for place in range(3):
            right = right_key(benchmark, visit)
            if place == 0:
                wrong_about = str(visit.page.locator("#image").get_attribute("src"))
            answer(visit, {"1": "2", "2": "1"}[right] if place == 0 else right)
        assert wrong_about
        assert visit.text("#progress") == f"3 of {2 * PAIRS}"
        assert visit.problems == []
    with Visit(browser, study, "ada") as visit:  # another day
        started(visit)
        assert visit.text("#progress") == f"3 of {2 * PAIRS}"
        for _ in range(2 * PAIRS - 3):
            answer(visit, right_key(benchmark, visit))
        visit.page.wait_for_selector("#end:has-text('Thank you')")
        assert visit.problems == []
    with Visit(browser, study, "bob") as visit:
        started(visit)
        answer(visit, "0")
    found = scores(study.work)
    assert found["human:ada"]["questions"]["right"] == 2 * PAIRS - 1
    assert found["human:ada"]["pairs"]["right"] == PAIRS - 1
    assert found["human:ada"]["seconds"] > 0
    assert (found["human:bob"]["questions"]["right"], found["human:bob"]["questions"]["of"]) == (0, 1)


@pytest.mark.parametrize(
    ("pairs", "takes", "advises"), [(PAIRS, "about 1 min", False), (600, "about 1 h 40 min", True)]
)
def test_start_says_how_many_questions_and_how_long_and_how_to_ask_fewer(
    pairs: int, takes: str, advises: bool, tmp_path: Path, browser: Any
) -> None:
    (tmp_path / "benchmark" / DATA).parent.mkdir(parents=True)
    write_native(benchmark_of(pairs, second=None), tmp_path / "benchmark" / DATA)
    with (
        serving(tmp_path, "--port", 0, "--participant", "ada", command="study") as served,
        Visit(browser, served, "ada") as visit,
    ):
        visit.page.wait_for_selector("main[data-loaded]")
        asked = f"You are asked {2 * pairs:,} short questions, each about one image, which takes {takes}. "
        assert asked in visit.text("#intro")
        assert ("blindpairs study --limit 50" in visit.text("#intro")) is advises


def test_people_stand_in_the_table_of_eval(study: Served, benchmark: Benchmark, browser: Any) -> None:
    with Visit(browser, study, "ada") as visit:
        started(visit)
        for _ in range(2 * PAIRS):
            answer(visit, right_key(benchmark, visit))
    line = ["eval", "--model", "human:ada", "--model", "random", "--json", "--work", str(study.work)]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    assert "human:ada" in done.stdout
    assert "human:ada" in CliRunner().invoke(app, ["study", "--scores", "--work", str(study.work)]).stdout


def test_browser_gets_no_key_no_pair_and_one_image_at_a_time(study: Served, benchmark: Benchmark, browser: Any) -> None:
    received: list[str] = []
    with Visit(browser, study, "ada") as visit:
        visit.page.reload()
        visit.page.wait_for_selector("main[data-loaded]")
        visit.page.on("response", lambda response: received.append(response.url))
        received.append(visit.page.content())
        received.append(json.dumps(study.ask("GET", "/api/items", person="ada")))
        visit.page.locator("#start").click()
        visit.page.wait_for_selector("main[data-shown]")
        assert visit.page.locator("main img:visible").count() == 1
        answer(visit, "1")
    whole = "\n".join(received)
    assert '"answers"' not in whole
    assert not [pair.pair_id for pair in benchmark.pairs if pair.pair_id in whole]
    assert not re.search(r'"side"|statement|/corpus/', whole)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_is_wide_enough(study: Served, browser: Any, scheme: str) -> None:
    with Visit(browser, study, "ada", color_scheme=scheme, viewport={"width": 400, "height": 800}) as visit:
        visit.page.wait_for_selector("main[data-loaded]")
        assert serious_findings(visit) == []
        started(visit)
        assert serious_findings(visit) == []
        assert visit.page.locator("html").evaluate("e => e.scrollWidth") <= 400


def test_double_click_and_replay_answer_once_and_another_answer_is_refused(study: Served, browser: Any) -> None:
    with Visit(browser, study, "ada") as visit:
        started(visit)
        token = visit.page.locator("main").get_attribute("data-shown")
        visit.page.locator(".choices button").first.dblclick()
        visit.page.wait_for_selector(f"main:not([data-shown='{token}'])")
        visit.page.wait_for_selector(f"#progress:has-text('1 of {2 * PAIRS}')")
    again = {"token": token, "option": 0, "seconds": 1}
    assert study.ask("POST", "/api/answer", again, "ada") == (
        200,
        {"name": "ada", "answered": 1, "questions": 2 * PAIRS},
    )
    status, body = study.ask("POST", "/api/answer", {**again, "option": 1}, "ada")
    assert (status, "answers are never rewritten" in body["error"]) == (422, True)
    assert study.ask("POST", "/api/answer", {"token": "nothing", "option": 0}, "ada")[0] == 422
    assert study.ask("GET", "/image/" + "0" * 32, person="ada")[0] == 404


def test_answer_waits_for_a_dead_server_and_is_saved_once(study: Served, browser: Any) -> None:
    with Visit(browser, study, "ada") as visit:
        started(visit)
        token = visit.page.locator("main").get_attribute("data-shown")
        study.kill()
        visit.press("1")
        visit.page.wait_for_selector("#banner:has-text('NOT SAVED')")
        assert visit.page.locator("main").get_attribute("data-shown") == token
        people = ("--participant", "ada", "--participant", "bob")
        with serving(study.work, "--port", study.port, *people, command="study"):
            visit.page.wait_for_selector(f"main:not([data-shown='{token}'])")
            visit.page.wait_for_selector(f"#progress:has-text('1 of {2 * PAIRS}')")
    assert scores(study.work)["human:ada"]["questions"]["of"] == 1


def test_second_window_goes_on_where_the_first_one_is(study: Served, browser: Any) -> None:
    with Visit(browser, study, "ada") as first, Visit(browser, study, "ada") as second:
        started(first)
        started(second)
        token = first.page.locator("main").get_attribute("data-shown")
        answer(first, "1")
        second.press("2")
        second.page.wait_for_selector("#banner:has-text('was answered before')")
        second.page.wait_for_selector(f"main:not([data-shown='{token}'])")
        answer(second, "2")
        second.page.wait_for_selector(f"#progress:has-text('2 of {2 * PAIRS}')")
        assert not second.page.locator("#banner").is_visible()


def test_image_that_did_not_arrive_is_asked_for_again_before_the_question_is(study: Served, browser: Any) -> None:
    with Visit(browser, study, "ada") as visit:
        visit.page.route("**/image/*", lambda route: route.abort())
        visit.page.reload()
        visit.page.wait_for_selector("main[data-loaded]")
        visit.page.locator("#start").click()
        visit.page.wait_for_selector("#banner:has-text('asked for again')")
        assert not visit.page.locator("#question").is_visible()
        visit.press("1")
        visit.page.unroute("**/image/*")
        visit.page.wait_for_selector("main[data-shown]")
        assert visit.page.locator("#image").is_visible()
        assert not visit.page.locator("#banner").is_visible()
    assert scores(study.work)["human:ada"]["questions"]["of"] == 0


def test_full_disk_is_said_and_the_answer_is_sent_again_until_there_is_room(study: Served, browser: Any) -> None:
    with Visit(browser, study, "ada") as visit:
        started(visit)
        token = visit.page.locator("main").get_attribute("data-shown")
        _, most = resource.prlimit(study.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(study.process.pid, resource.RLIMIT_FSIZE, (10, most))
        visit.press("1")
        visit.page.wait_for_selector("#banner:has-text('sent again until it is saved')")
        assert "no room to write" in visit.text("#banner")
        assert "free space on that disk. Your answer" in visit.text("#banner")
        assert scores(study.work)["human:ada"]["questions"]["of"] == 0
        resource.prlimit(study.process.pid, resource.RLIMIT_FSIZE, (most, most))
        visit.page.wait_for_selector(f"main:not([data-shown='{token}'])")
    assert scores(study.work)["human:ada"]["questions"]["of"] == 1


@pytest.mark.parametrize(
    "content", [{"option": 1.0}, {"option": True}, {"option": 0, "seconds": 10**400}, {"option": 0, "seconds": "3"}]
)
def test_answer_that_no_page_sends_is_refused_with_a_sentence(study: Served, content: dict[str, object]) -> None:
    item = study.ask("GET", "/api/items", person="ada")[1]["items"][0]
    status, body = study.ask("POST", "/api/answer", {"token": item["token"], **content}, "ada")
    assert (status, "reload the page" in body["error"]) == (422, True)


def test_who_visits_an_address_of_no_page_reads_why_and_sees_nothing_of_author(study: Served, browser: Any) -> None:
    with Visit(browser, study, "ada", "/pairs") as visit:
        assert "nothing at this address" in visit.text("main")
        assert visit.page.locator("nav").count() == 0
        visit.page.locator("main a").click()
        started(visit)


def test_benchmark_without_its_images_is_asked_of_nobody(tmp_path: Path, benchmark: Benchmark) -> None:
    (tmp_path / "benchmark" / DATA).parent.mkdir(parents=True)
    write_native(benchmark, tmp_path / "benchmark" / DATA, images=False)
    refused = CliRunner().invoke(app, ["study", "--port", "0", "--work", str(tmp_path)])
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "was exported without images" in refused.stderr


def test_participant_whose_name_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["study", "--participant", "../ada", "--port", "0", "--work", str(tmp_path)])
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "cannot be the name of a participant" in refused.stderr
    nameless = CliRunner().invoke(app, ["study", "--participant", "", "--port", "0", "--work", str(tmp_path)])
    assert (nameless.exit_code, "cannot be the name of the participant" in nameless.stderr) == (3, True)
