"""A work folder of drawn pairs, its pages served by a real process, and a browser that looks at them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from demo_run import ROOT
from pictured_pairs import picture

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft, MinedPair
from blindpairs.benchmark import Question
from blindpairs.images import image_id
from blindpairs.mine import pair_id

PEOPLE = tuple(f"person {number}" for number in range(1, 41))  # one for each test, so that tests share a server
DRAFT = Draft(
    Question("Is the door open or closed?", ("Open", "Closed"), (0, 1)),
    Question("Is the door shut?", ("Yes", "No"), (1, 0)),
    ("State and Condition",),
    "a door that is open",
    "a door that is shut",
)


def drawn_work(folder: Path, pairs: int = 60, draft: Draft | None = DRAFT, name: str = "{}.png") -> Path:
    """A work folder with so many pairs of drawn images, each with the same draft; `name` is that of the image files."""
    (folder / "images").mkdir(parents=True)
    made = []
    for number in range(pairs):
        (a, uri_a), (b, uri_b) = (_drawn(folder, name, seed) for seed in (2 * number, 2 * number + 1))
        made.append(MinedPair(pair_id(a, b), a, b, uri_a, uri_b, 0.97, 0.5, number % 3, None, number))
    with AuthoringDatabase(folder / "work" / "authoring.sqlite") as database:
        database.add_pairs(made)
        for pair in made if draft else ():
            assert draft
            database.add_draft(pair.pair_id, "model", draft, second=True)
    return folder / "work"


def _drawn(folder: Path, name: str, seed: int) -> tuple[str, str]:
    """The id and the path of a drawn image."""
    data, path = picture(seed, "PNG", (48, 40)), folder / "images" / name.format(seed)
    path.write_bytes(data)
    return image_id(data), str(path)


@dataclass
class Served:
    """The pages of a work folder, and the process that serves them."""

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    work: Path
    command: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return urlsplit(next(iter(self.addresses.values()))).port or 0

    def token(self, person: str = PEOPLE[0]) -> str:
        """The token of a person."""
        return self.addresses[person].partition("token=")[2]

    def ask(
        self,
        method: str,
        path: str,
        content: object = None,
        person: str = PEOPLE[0],
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """The status and the JSON of a request with the token, as the script of a page sends it."""
        token = {"Authorization": f"Bearer {self.token(person)}"}
        body = None if content is None else json.dumps(content).encode()
        answer, data = self.raw(method, path, body, {**token, **(headers or {})})
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, bytes]:
        """The answer to a request, sent exactly so."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def database(self) -> AuthoringDatabase:
        """The database, opened by this process as well."""
        return AuthoringDatabase(self.work / "authoring.sqlite")

    def kill(self) -> None:
        """End the process without any chance to tidy up."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(work: Path, *options: object, command: str = "author") -> Iterator[Served]:
    """Serve the pages of a work folder until the block ends."""
    served = serve(work, *options, command=command)
    try:
        yield served
    finally:
        served.process.terminate()
        served.process.wait(timeout=20)
        assert served.process.stdout
        served.process.stdout.close()


def serve(work: Path, *options: object, command: str = "author") -> Served:
    """Start serving; whoever calls this ends the process."""
    line = [sys.executable, "-m", "blindpairs", command, "--work", str(work), "--json", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    printed = process.stdout.readline()
    assert printed, f"{command} ended with {process.wait()}"
    served = Served(process, json.loads(printed)["addresses"], work, command)
    deadline = time.monotonic() + 30
    while True:  # the socket accepts before the pages are ready; the answer waits
        try:
            served.raw("GET", "/")
            return served
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def browsing(chromium: Path) -> Iterator[Any]:
    """The system's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(chromium), args=["--no-sandbox", "--headless"])
        yield browser
        browser.close()


class Visit:
    """A page of the server as one person sees it; records what goes wrong and what is asked for elsewhere."""

    def __init__(self, browser: Any, served: Served, person: str, path: str = "/", **context: Any) -> None:
        self.served, self.person = served, person
        self.context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **context})
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("request", lambda request: self._note_foreign(request.url))
        self.page.goto(served.addresses[person])
        if path != "/":
            self.go(path)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def _note_foreign(self, address: str) -> None:
        if not address.startswith((f"http://127.0.0.1:{self.served.port}/", "data:")):
            self.problems.append(f"asked for {address}")

    def go(self, path: str) -> None:
        """Open another page of the server."""
        self.page.goto(f"http://127.0.0.1:{self.served.port}{path}")

    def shown(self) -> str:
        """The id of the pair that is shown, once one is."""
        try:
            self.page.wait_for_selector("main[data-shown]", timeout=15_000)
        except Exception as error:
            raise AssertionError(f"no pair is shown: {self.problems} {self.text('body')}") from error
        return str(self.page.locator("main").get_attribute("data-shown"))

    def after(self, pair: str) -> str:
        """The id of the next pair, once it is shown."""
        self.page.wait_for_selector(f"main[data-shown]:not([data-shown='{pair}'])")
        return self.shown()

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self) -> None:
        """Wait until the page says that everything is saved."""
        self.page.wait_for_selector("#saved[data-state=saved]")

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return str(self.page.locator(selector).inner_text())

    def value(self, field: str) -> str:
        """What a field holds."""
        return str(self.page.locator(f"#{field}").input_value())


@contextmanager
def visits(browser: Any, served: Served) -> Iterator[Callable[..., Visit]]:
    """Opens pages, with the arguments of a Visit after the first two; none may have had a problem by the end."""
    opened: list[Visit] = []

    def open_page(person: str, path: str = "/", **context: Any) -> Visit:
        opened.append(Visit(browser, served, person, path, **context))
        return opened[-1]

    yield open_page
    problems = [problem for one in opened for problem in one.problems]
    for one in opened:
        one.context.close()
    assert problems == []


def serious_findings(visit: Visit) -> list[str]:
    """What axe calls serious or critical on the page as it is. It runs outside of the page's policy."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    session = visit.context.new_cdp_session(visit.page)
    session.send("Runtime.evaluate", {"expression": script})
    run = "axe.run().then(found => JSON.stringify(found.violations))"
    answer = session.send("Runtime.evaluate", {"expression": run, "awaitPromise": True, "returnByValue": True})
    found = json.loads(answer["result"]["value"])
    return [
        f"{one['id']}: {node['target']}"
        for one in found
        for node in one["nodes"]
        if one["impact"] in ("serious", "critical")
    ]
