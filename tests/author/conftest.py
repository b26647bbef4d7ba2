"""One server and one browser for the tests of each file of pages; every test has a person of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from author_pages import PEOPLE, Served, Visit, browsing, drawn_work, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The pages of 60 drawn pairs, for many people, each of whom gets every pair."""
    people = [part for name in PEOPLE for part in ("--annotator", name)]
    work = drawn_work(tmp_path_factory.mktemp("pages"))
    with serving(work, "--port", 0, "--overlap", 100, *people) as started:
        yield started


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Any]:
    """The system's Chromium."""
    with browsing(chromium) as started:
        yield started


@pytest.fixture(scope="module")
def _unused() -> list[str]:
    return list(PEOPLE)


@pytest.fixture
def person(_unused: list[str]) -> str:
    """Somebody who has done nothing yet."""
    return _unused.pop(0)


@pytest.fixture
def visit(browser: Any, served: Served, person: str) -> Iterator[Callable[..., Visit]]:
    """Opens a page as `person`, or as somebody else. At the end nothing may have gone wrong in it."""
    opened: list[Visit] = []

    def open_page(path: str = "/", who: str = person, **context: Any) -> Visit:
        opened.append(Visit(browser, served, who, path, **context))
        return opened[-1]

    yield open_page
    problems = [problem for one in opened for problem in one.problems]
    for one in opened:
        one.context.close()
    assert problems == []
