"""The pages as a server: who is let in, what is refused, and that nothing is kept twice or lost. No browser."""

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from author_pages import PEOPLE, Served, drawn_work, serve, serving

from blindpairs.cli.serving import Serving, access_for
from blindpairs.system import child_environment
from blindpairs.workspace import Workspace

PAGES = ("/", "/pairs", "/clusters", "/adjudication", "/statistics", "/static/edit.js", "/api/next", "/api/progress")


def first_pair(served: Served, person: str) -> dict[str, object]:
    status, body = served.ask("GET", "/api/next", person=person)
    assert status == 200
    pair: dict[str, object] = body["pair"]
    return pair


def edit(pair: Mapping[str, object], number: int = 1, text: str = "Is it open?", **more: object) -> dict[str, object]:
    form = {"question": {"text": text, "options": ["Open", "Closed"], "answers": [0, None]}, "second": None}
    whole: dict[str, object] = {**form, "patterns": [], "statement_a": "", "statement_b": ""}
    based = pair["shown"]["revision"]  # type: ignore[index]
    return {"pair_id": pair["pair_id"], "form": whole, "based_on": based, "client": "w", "number": number, **more}


def decision(pair: Mapping[str, object], **more: object) -> dict[str, object]:
    shown: dict[str, object] = pair["shown"]  # type: ignore[assignment]
    values = {"pair_id": pair["pair_id"], "accepted": True, "form": shown["form"], "based_on": shown["revision"]}
    return {**values, "seconds": 3.5, **more}


@pytest.mark.parametrize("path", PAGES)
def test_without_the_token_nothing_is_shown(pages: Served, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"blindpairs-{pages.port}=wrong"}):
        answer, data = pages.raw("GET", path, headers=headers)
        assert answer.status == 401
        assert data.decode().startswith("Open the address that the command printed")


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_forbids_other_sites_to_use_it(pages: Served, path: str) -> None:
    answer, _ = pages.raw("GET", path, headers={"Authorization": f"Bearer {pages.token()}"})
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost@evil"])
def test_request_for_another_host_is_refused(pages: Served, host: str) -> None:
    answer, _ = pages.raw("GET", "/", headers={"Host": host, "Authorization": f"Bearer {pages.token()}"})
    assert answer.status == 421


def test_localhost_and_both_loopback_addresses_are_names_of_this_server(pages: Served) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST"):
        headers = {"Host": f"{host}:{pages.port}", "Authorization": f"Bearer {pages.token()}"}
        assert pages.raw("GET", "/", headers=headers)[0].status == 200


def test_server_for_other_machines_is_known_by_numbers_but_by_no_foreign_name(tmp_path: Path) -> None:
    options = ("--host", "0.0.0.0", "--port", 0, "--annotator", PEOPLE[0])
    with serving(drawn_work(tmp_path, 2), *options) as started:
        token = {"Authorization": f"Bearer {started.token()}"}
        for host, status in (("192.0.2.7", 200), ("127.0.0.1", 200), ("evil.example", 421), ("7.evil.example", 421)):
            headers = {"Host": f"{host}:{started.port}", **token}
            assert started.raw("GET", "/", headers=headers)[0].status == status
        assert started.raw("GET", "/", headers={"Host": f"192.0.2.7:{started.port}"})[0].status == 401


def test_pattern_that_a_model_proposed_is_shown_beside_the_pair(tmp_path: Path) -> None:
    work = drawn_work(tmp_path, 2)
    with serving(work, "--port", 0, "--annotator", PEOPLE[0]) as started:
        pair = first_pair(started, PEOPLE[0])
    assert pair["proposal"] is None
    proposed = {
        "taxonomy": {"Text": "letters"},
        "assignment": {pair["pair_id"]: "Text"},
        "unassigned": {},
        "model": "m",
    }
    (work / "patterns.json").write_text(json.dumps(proposed), encoding="utf-8")
    with serving(work, "--port", 0, "--annotator", PEOPLE[0]) as started:
        assert first_pair(started, PEOPLE[0])["proposal"] == "Text"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_change_from_another_site_is_refused(pages: Served, person: str, headers: dict[str, str]) -> None:
    pair = first_pair(pages, person)
    assert pages.ask("POST", "/api/decide", decision(pair), person, headers)[0] == 403
    with pages.database() as database:
        assert [one.author for one in database.history(str(pair["pair_id"]))] == ["model"]


def test_image_is_not_given_to_another_site_but_a_link_may_lead_here(pages: Served) -> None:
    pair = first_pair(pages, PEOPLE[0])
    cookie = {"Cookie": f"blindpairs-{pages.port}={pages.token()}"}
    image = f"/image/{pair['a']['id']}"  # type: ignore[index]
    assert pages.raw("GET", image, headers=cookie)[0].status == 200
    foreign = {**cookie, "Sec-Fetch-Site": "cross-site"}
    assert pages.raw("GET", image, headers={**foreign, "Sec-Fetch-Mode": "no-cors"})[0].status == 403
    assert pages.raw("GET", "/pairs", headers={**foreign, "Sec-Fetch-Mode": "navigate"})[0].status == 200


def test_change_with_the_cookie_alone_is_refused(pages: Served, person: str) -> None:
    pair = first_pair(pages, person)
    cookie = {"Cookie": f"blindpairs-{pages.port}={pages.token(person)}"}
    answer, _ = pages.raw("POST", "/api/decide", json.dumps(decision(pair)).encode(), cookie)
    assert answer.status == 403


def test_printed_address_sets_a_cookie_that_scripts_cannot_read_and_leads_on_without_the_token(pages: Served) -> None:
    answer, _ = pages.raw("GET", f"/?token={pages.token()}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"blindpairs-{pages.port}={pages.token()};")
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()


def test_cookies_of_other_programs_on_this_host_do_no_harm(pages: Served) -> None:
    cookie = {"Cookie": f'odd=;; {{"a": ]; blindpairs-{pages.port}={pages.token()}; x'}
    assert pages.raw("GET", "/pairs", headers=cookie)[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/image/../authoring.sqlite",
        "/image/..%2f..%2fauthoring.sqlite",
        "/image/%2e%2e/%2e%2e/etc/passwd",
        "/image//etc/passwd",
        "/image/%00",
        "/image/" + "a" * 32,
        "/static/../server.py",
        "/static/%2e%2e%2fserver.py",
        "/static/..%5cserver.py",
        "/static//etc/passwd",
        "/map/../../a",
        "/map/nothing/a",
        "/map/nothing/..",
        "/pair/..%2f..%2fetc",
        "/pair/%00",
        "/api/pair/nothing",
        "/nothing",
    ],
)
def test_path_that_leads_nowhere_is_not_found(pages: Served, path: str) -> None:
    status, body = pages.ask("GET", path)
    assert status == 404
    assert "root:" not in str(body)


def test_body_of_10_megabytes_is_refused_also_where_it_hides_its_length(pages: Served) -> None:
    token = {"Authorization": f"Bearer {pages.token()}"}
    answer, _ = pages.raw("PUT", "/api/edit", b"x" * 10_000_000, token)
    assert answer.status == 413
    with socket.create_connection(("127.0.0.1", pages.port), timeout=20) as raw:
        head = f"PUT /api/edit HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {pages.token()}\r\n"
        raw.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            for _ in range(40):
                raw.sendall(chunk)
        except OSError:  # refused before all of it was sent
            pass
        assert raw.recv(20).split()[1] == b"413"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1]", "no JSON object"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"1" * 5000, "no JSON"),  # more digits than Python turns into a number
        (b'{"pair_id": 3}', "no pair_id"),
        (b'{"pair_id": "nothing", "form": {}}', "there is no pair nothing"),
    ],
)
def test_request_that_no_page_sends_is_refused_with_a_sentence(pages: Served, body: bytes, words: str) -> None:
    token = {"Authorization": f"Bearer {pages.token()}"}
    answer, data = pages.raw("POST", "/api/decide", body, token)
    assert answer.status in (404, 422)
    assert words in json.loads(data)["error"]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"text": "Open?", "options": ["Yes", "No"], "answers": [0, 0]}, "its answers must be both options"),
        ({"text": "Open?", "options": ["Yes", "No"], "answers": [0, 7]}, "its answers must be both options"),
        ({"text": "Open?", "options": ["Yes", "yes "], "answers": [0, 1]}, "both options are"),
        ({"text": "Open?", "options": ["Yes", ""], "answers": [0, 1]}, "an option is empty"),
        ({"text": "Open?", "options": ["Yes", "No"], "answers": [0, None]}, "choose the answers of both images"),
    ],
)
def test_question_without_meaning_is_not_accepted(
    pages: Served, person: str, question: dict[str, object], words: str
) -> None:
    pair = first_pair(pages, person)
    form = {**pair["shown"]["form"], "question": question, "second": None}  # type: ignore[index]
    status, body = pages.ask("POST", "/api/decide", decision(pair, form=form), person)
    assert status == 422
    assert words in body["error"]


@pytest.mark.parametrize(
    "seconds", [10**400, -1, float("nan"), True, "3"], ids=["huge", "negative", "nan", "true", "text"]
)
def test_time_that_no_clock_shows_is_refused_with_a_sentence(pages: Served, person: str, seconds: object) -> None:
    pair = first_pair(pages, person)
    status, body = pages.ask("POST", "/api/decide", {**decision(pair), "seconds": seconds}, person)
    assert (status, "no number of seconds" in body["error"]) == (422, True)


@pytest.mark.parametrize(
    "cluster", ["x", "--5", "9" * 30, "9" * 5000, "%C2%B2"], ids=["x", "--5", "large", "long", "square"]
)
def test_cluster_that_is_no_number_is_refused_with_a_sentence(pages: Served, person: str, cluster: str) -> None:
    status, body = pages.ask("GET", f"/api/next?cluster={cluster}", person=person)
    assert (status, "is no number of a cluster" in body["error"]) == (422, True)
    answer, _ = pages.raw("GET", f"/pairs?cluster={cluster}", headers={"Authorization": f"Bearer {pages.token()}"})
    assert answer.status == 200


@pytest.mark.parametrize("cluster", [10**30, True, "1", None], ids=["huge", "true", "text", "none"])
def test_name_of_what_is_no_cluster_is_refused_with_a_sentence(pages: Served, cluster: object) -> None:
    status, body = pages.ask("PUT", "/api/cluster", {"cluster": cluster, "name": "Doors"})
    assert (status, "reload the page" in body["error"]) == (422, True)


def test_replayed_save_and_double_decision_are_kept_once(pages: Served, person: str) -> None:
    pair = first_pair(pages, person)
    first = pages.ask("PUT", "/api/edit", edit(pair), person)
    assert first[0] == 200
    assert pages.ask("PUT", "/api/edit", edit(pair), person) == first
    done = pages.ask("POST", "/api/decide", decision(pair), person)
    assert done[0] == 200
    assert pages.ask("POST", "/api/decide", decision(pair), person) == done
    with pages.database() as database:
        own = [one for one in database.history(str(pair["pair_id"])) if one.author == person]
        assert [(one.kind, one.seconds) for one in own] == [("accepted", 3.5)]


def test_save_that_arrives_late_hides_no_later_one(pages: Served, person: str) -> None:
    pair = first_pair(pages, person)
    for number in (2, 1):
        assert pages.ask("PUT", "/api/edit", edit(pair, number, text=f"Text {number}?"), person)[0] == 200
    _, again = pages.ask("GET", f"/api/pair/{pair['pair_id']}", person=person)
    assert again["edit"]["form"]["question"]["text"] == "Text 2?"


def test_second_window_is_told_of_the_first_and_overwrites_nothing_unseen(pages: Served, person: str) -> None:
    pair = first_pair(pages, person)
    assert pages.ask("PUT", "/api/edit", edit(pair, client="one"), person)[0] == 200
    status, body = pages.ask("PUT", "/api/edit", edit(pair, client="other", text="Mine?"), person)
    assert status == 409
    assert pages.ask("PUT", "/api/edit", edit(pair, client="other", text="Mine?", seen=body["edit"]), person)[0] == 200


def test_decision_on_what_was_decided_meanwhile_is_a_conflict(pages: Served, person: str) -> None:
    pair = first_pair(pages, person)
    assert pages.ask("POST", "/api/decide", decision(pair, accepted=False, reason="blurred"), person)[0] == 200
    status, body = pages.ask("POST", "/api/decide", decision(pair), person)
    assert (status, body["later"]["kind"]) == (409, "rejected")
    based = body["later"]["revision"]
    assert pages.ask("POST", "/api/decide", decision(pair, based_on=based), person)[0] == 200


def test_nobody_sees_what_others_decided(pages: Served, person: str) -> None:
    pair = first_pair(pages, person)
    form = {**pair["shown"]["form"], "statement_a": "a secret of this person"}  # type: ignore[index]
    assert pages.ask("POST", "/api/decide", decision(pair, form=form), person)[0] == 200
    _, seen = pages.ask("GET", f"/api/pair/{pair['pair_id']}", person=PEOPLE[-1])
    assert "secret" not in json.dumps(seen)


def test_server_is_up_in_seconds_and_light(pages: Served) -> None:
    """Without torch: 0.9 GB and seconds less."""
    status = Path(f"/proc/{pages.process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc on this system")
    first_pair(pages, PEOPLE[0])
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    assert int(fields["VmRSS"].split()[0]) < 200_000


def test_ctrl_c_ends_the_server_quietly_and_tokens_stay(tmp_path: Path) -> None:
    work = drawn_work(tmp_path, 2)
    addresses = []
    for _ in range(2):
        started = serve(work, "--port", 0, "--annotator", PEOPLE[0])
        addresses.append(started.token())
        started.process.send_signal(2)
        assert started.process.wait(timeout=20) == 0
        assert started.process.stdout
        started.process.stdout.close()
    assert addresses[0] == addresses[1]
    assert (work / ".page-secret").stat().st_mode & 0o077 == 0


def test_taken_port_is_named_and_another_database_is_refused(tmp_path: Path, pages: Served) -> None:
    from typer.testing import CliRunner

    from blindpairs.cli import app

    taken = CliRunner().invoke(app, ["author", "--work", str(pages.work), "--port", str(pages.port)])
    assert taken.exit_code == 3
    assert f"port {pages.port} (Address already in use): give another" in " ".join(taken.stderr.split())
    assert "note" not in taken.stderr
    several = ["author", "--work", str(pages.work), "--port", str(pages.port), "--overlap", "5", "--annotator", "Ann"]
    assert "note: --overlap 5 asks 5 people about each pair, and 1 can" in CliRunner().invoke(app, several).stderr
    (tmp_path / "authoring.sqlite").write_bytes(b"not a database at all" * 100)
    refused = CliRunner().invoke(app, ["author", "--work", str(tmp_path), "--port", "0"])
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "damaged or no database" in refused.stderr


def test_full_disk_at_the_first_start_is_one_line_and_the_next_start_makes_the_secret(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from blindpairs.workspace import Workspace\n"
        "from blindpairs.cli.serving import Serving, access_for; from blindpairs.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "try: access_for(Serving(), ['ada'], Workspace(Path(sys.argv[1])), 'author')\n"
        "except InputError as error: print(error)"
    )
    pytest.importorskip("resource", reason="no limits on this system")
    line = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, env=child_environment(), check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"no room to write {tmp_path / '.page-secret'}: ")
    assert len(access_for(Serving(), ["ada"], Workspace(tmp_path), "author").people) == 1
    assert (tmp_path / ".page-secret").stat().st_size == 32


def test_full_disk_is_said_and_what_was_saved_is_kept(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limits on this system")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of another process are Linux")
    with serving(drawn_work(tmp_path, 4), "--port", 0, "--annotator", PEOPLE[0]) as started:
        pair = first_pair(started, PEOPLE[0])
        assert started.ask("PUT", "/api/edit", edit(pair, 1, text="Kept?"))[0] == 200
        log = (started.work / "authoring.sqlite-wal").stat().st_size
        before = resource.prlimit(started.process.pid, resource.RLIMIT_FSIZE, (log, resource.RLIM_INFINITY))
        status, body = started.ask("PUT", "/api/edit", edit(pair, 2, text="Lost?"))
        assert status == 507
        assert "authoring.sqlite" in body["error"]
        assert "command" not in body["error"]  # the page sends it again by itself
        assert started.ask("GET", f"/api/pair/{pair['pair_id']}")[1]["edit"]["form"]["question"]["text"] == "Kept?"
        resource.prlimit(started.process.pid, resource.RLIMIT_FSIZE, before)
        assert started.ask("PUT", "/api/edit", edit(pair, 2, text="Not lost."))[0] == 200
        assert started.ask("GET", f"/api/pair/{pair['pair_id']}")[1]["edit"]["form"]["question"]["text"] == "Not lost."


def test_four_people_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """A small version of four annotators on 20,000 pairs; without overlap, so that no two get the same pair."""
    from concurrent.futures import ThreadPoolExecutor

    names = PEOPLE[:4]
    work = drawn_work(tmp_path, 80)
    options = [part for name in names for part in ("--annotator", name)]
    with serving(work, "--port", 0, *options) as started:

        def decide_all(name: str) -> list[str]:
            done: list[str] = []
            while len(done) < 20:  # nobody holds a 21st pair, which would be one that another person needs
                pair = started.ask("GET", "/api/next", person=name)[1]["pair"]
                started.ask("PUT", "/api/edit", edit(pair), name)
                assert started.ask("POST", "/api/decide", decision(pair), name)[0] == 200
                done.append(pair["pair_id"])
            return done

        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(decide_all, names))
        with started.database() as database:
            kept = [(one.pair_id, one.author) for _, history in database.histories() for one in history[1:]]
    said = [(pair, name) for name, pairs in zip(names, done, strict=True) for pair in pairs]
    assert sorted(kept) == sorted(said)
    assert len({pair for pair, _ in said}) == 80
