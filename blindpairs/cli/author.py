"""`blindpairs author`."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, say
from blindpairs.cli.draft import Patterns, read_patterns, tell_notice
from blindpairs.cli.groups import grouped
from blindpairs.cli.serving import Serving, access_for, named_people, people_of, serve
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace, demo_folder

if TYPE_CHECKING:
    from blindpairs.author.drafts import MinedPair
    from blindpairs.author.queue import Rules
    from blindpairs.author.server import Site
    from blindpairs.author.taxonomy import Taxonomy


@command
@grouped
def author(
    serving: Serving,
    annotator: Annotated[list[str] | None, named_people("Who decides")] = None,
    overlap: Annotated[
        int, typer.Option(min=1, rich_help_panel="Selection", help="How many people decide each pair.")
    ] = 1,
    target: Annotated[
        int, typer.Option(min=1, rich_help_panel="Selection", help="Accepted pairs wanted of each pattern.")
    ] = 15,
    patterns: Patterns = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Serve the page where people turn pairs into questions, until Ctrl-C. Without pairs, mine the demo's first.

    What the page shows as saved is on the disk.
    """
    from blindpairs.author.queue import Rules
    from blindpairs.author.server import AuthorPages

    space, taxonomy = Workspace(work), read_patterns(patterns)
    people = people_of(annotator or [])
    prepare(space)
    if overlap > len(people):
        asked = f"--overlap {overlap} asks {overlap} people about each pair"
        say(f"note: {asked}, and {len(people)} can: give --annotator once for each of them")
    access = access_for(serving, people, space, "author")
    proposed = _proposals(named_folder("--patterns", patterns) if patterns else space.patterns)
    site = author_site(space, taxonomy, Rules(overlap=overlap, per_pattern=target), proposed)
    hint = "open it in a browser: accept, correct or reject each draft, then `blindpairs export`"
    with maps_being_added(space):
        serve(AuthorPages(site, access).application, access, serving, as_json=as_json, hint=hint)


def prepare(space: Workspace) -> None:
    """Bring pairs into the database: those of the work folder, or the demo's where there are none at all.

    Pairs of the demo that nobody has drafted are drafted by their ground truth, so that a newcomer sees what is meant.
    """
    from blindpairs.access import present
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.drafting import mined_pairs
    from blindpairs.mine import read_pairs

    if not present(space.pairs_table) and not present(space.authoring):
        say(f"no pairs in {space.root}: mining the demo's scenes first")
        _run(["demo"], space)
    with AuthoringDatabase(space.authoring) as database:
        tell_notice(database)
        if present(space.pairs_table) and (added := database.add_pairs(mined_pairs(read_pairs(space.pairs)))):
            say(f"{added:,} new pairs from {space.pairs_table}; `blindpairs draft` proposes questions for them")
        if next(database.pairs(), None) is None:
            raise ConfigError(f"there are no pairs in {space.authoring}: run `blindpairs mine` first")
        untouched = not database.read("SELECT 1 FROM revisions LIMIT 1")
        of_the_demo = untouched and all(map(_shows_the_demo, database.pairs()))
    if of_the_demo:
        say("these are the demo's scenes: drafting questions by their ground truth")
        _run(["draft", "--model", "demo", "--second"], space)


def _shows_the_demo(pair: "MinedPair") -> bool:
    """Whether a pair is one of the scenes that ship."""
    scenes = f"{demo_folder() / 'scenes.parquet'}#"
    return pair.uri_a.startswith(scenes) and pair.uri_b.startswith(scenes)


@contextmanager
def maps_being_added(space: Workspace) -> Iterator[None]:
    """Meanwhile, where pairs were mined without maps of their differences, another process makes these.

    Looking closer at 300 pairs of photographs takes minutes on a CPU; the pages show the maps once they are there.
    """
    from blindpairs.access import present
    from blindpairs.mine.maps import MAPS

    if present(space.pairs / MAPS) or not present(space.pairs_table) or not present(space.embeddings):
        yield
        return
    worker = multiprocessing.get_context("spawn").Process(target=_add_maps, args=(space,), daemon=True)
    worker.start()
    try:
        yield
    finally:
        worker.terminate()  # what it writes is whole or not there
        worker.join()


def _add_maps(space: Workspace) -> None:
    from blindpairs.errors import BlindpairsError
    from blindpairs.mine.adding_maps import add_maps
    from blindpairs.store import Store

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the pages, which end this
    os.nice(10)
    try:
        count = add_maps(Store.open(space.embeddings), space.pairs)
        say(f"{count:,} maps of differences added: reload the page to see them")
    except BlindpairsError as error:
        say(f"note: no maps of differences: {error}")


def _proposals(file: Path) -> "Mapping[str, str]":
    """What `blindpairs patterns --model` assigned in a file; nothing where it is another list of patterns, or none."""
    from blindpairs.access import present
    from blindpairs.author.taxonomy import read_assignment
    from blindpairs.errors import InputError

    try:
        return read_assignment(file) if present(file) else {}
    except InputError:
        return {}


def author_site(
    space: Workspace, taxonomy: "Taxonomy", rules: "Rules", proposals: "Mapping[str, str]" = MappingProxyType({})
) -> "Site":
    """What the pages of a work folder are made of."""
    from blindpairs.author.database import AuthoringDatabase
    from blindpairs.author.desk import Desk
    from blindpairs.author.pictures import Maps, pictures_of
    from blindpairs.author.server import Site
    from blindpairs.workspace import digest

    maps = Maps(space.pairs)
    name = digest(ascii(space.root.resolve()))[:12]  # in the browser's own storage

    def make_desk() -> Desk:
        return Desk(AuthoringDatabase(space.authoring), rules, taxonomy, maps.of, proposals)

    return Site(make_desk, pictures_of(space), maps, name)


def _run(arguments: Sequence[str], space: Workspace) -> None:
    """Run another command in a process of its own, so that what it loads is gone when the pages are served."""
    line = [sys.executable, "-m", "blindpairs", *arguments, "--work", str(space.root)]
    done = subprocess.run(line, stdout=sys.stderr, check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
