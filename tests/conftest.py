"""What every test may assume: no network, a known number of threads, and where optional things are.

The settings stand in the environment before any library reads them, so that worker processes and the commands that
tests start inherit them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from demo_run import DEMO, ROOT, DemoRun, execute

if TYPE_CHECKING:
    from author_pages import Served, Visit

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")  # read by torch at import; more threads than cores only slow each other


@pytest.fixture(scope="session")
def photos() -> Path:
    """A folder of real photographs: BLINDPAIRS_PHOTOS, or shared/photos beside the repository."""
    folder = Path(os.environ.get("BLINDPAIRS_PHOTOS") or ROOT.parent / "shared" / "photos")
    if not folder.is_dir():
        pytest.skip("no photographs: set BLINDPAIRS_PHOTOS to a folder of images")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The system's Chromium or Chrome, for the tests that look at a page."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no browser: install chromium to run the tests that look at a page")
    return Path(found)


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision-language model in the hub's layout: a LLaVA of two layers with random weights."""
    from tiny_llava import save_llava

    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def served(llava: Path) -> Iterator[str]:
    """The spec of the same model behind `transformers serve`."""
    from served_llava import serving

    with serving(llava) as spec:
        yield spec


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 of the demo's scenes as files in `images`, and their store in `embeddings`; tests leave both as they are."""
    from demo_stores import demo_store, scene_files

    folder = tmp_path_factory.mktemp("scenes")
    demo_store(scene_files(folder / "images", 60), folder / "embeddings")
    return folder


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The demo, run once: half a minute on two cores."""
    folder = tmp_path_factory.mktemp("reader")
    code, printed, complaints = execute(DEMO, folder)
    pairs = folder / "pairs-of-the-demo"
    if code == 0:
        shutil.copytree(folder / "blindpairs-work" / "pairs", pairs)
    return DemoRun(folder, code, printed, complaints, pairs)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Served"]:
    """The pages of `author` for 60 drawn pairs and many people, each of whom gets every pair."""
    from author_pages import PEOPLE, drawn_work, serving

    people = [part for name in PEOPLE for part in ("--annotator", name)]
    work = drawn_work(tmp_path_factory.mktemp("pages"))
    with serving(work, "--port", 0, "--overlap", 100, *people) as started:
        yield started


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Any]:
    """The system's Chromium, running; for one file of tests, because two may not run side by side in one process."""
    from author_pages import browsing

    with browsing(chromium) as started:
        yield started


@pytest.fixture(scope="module")
def idle_people() -> list[str]:
    """The people of `pages` who have done nothing yet."""
    from author_pages import PEOPLE

    return list(PEOPLE)


@pytest.fixture
def person(idle_people: list[str]) -> str:
    """Somebody of `pages` who has done nothing yet."""
    return idle_people.pop(0)


@pytest.fixture
def visit(browser: Any, pages: "Served", person: str) -> "Iterator[Callable[..., Visit]]":
    """Opens a page of `pages` as `person`. At the end nothing may have gone wrong in any of them."""
    from author_pages import visits

    with visits(browser, pages) as opening:
        yield partial(opening, person)
