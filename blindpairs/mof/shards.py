"""WebDataset archives as instruction data: a sample is one key with an image and a row, or an image and a caption.

    000017.jpg   the image; absent where the sample is text only
    000017.json  a row of LLaVA's (its `image` is not read: the image is the one beside it)
    000017.txt   a caption, where there is no row: img2dataset writes both, and its JSON holds no conversation

Promises: nothing is extracted; images are read where they are, in any order; a damaged archive is a row of its own
among the oddities, and what came before it counts; an archive that has changed since it was opened is noticed.
"""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from blindpairs.errors import InputError, Undecodable
from blindpairs.images.item import Item, changed_at, printable_uri
from blindpairs.images.sources import kind_of_file, resolve
from blindpairs.images.tar import members_of
from blindpairs.mof.conversations import PLACEHOLDER, Oddity, Row, row_of

TEXTS = (".json", ".txt")
PLACE = re.compile(r"(.*)#([0-9]+)\+([0-9]+)", re.DOTALL)  # name, and where its bytes are: offset and size


class Shards:
    """The archives of a data set, by their file names."""

    def __init__(self, paths: list[str]) -> None:
        """InputError where two archives have the same file name: images are named by it."""
        self.paths = {Path(path).name: path for path in paths}
        if len(self.paths) < len(paths):
            raise InputError("two of the archives have the same file name: rename one, because images are named by it")
        # Each read compares its archive with these: offsets of another content would give other bytes.
        self._times = {name: changed_at(Path(path).stat()) for name, path in self.paths.items()}

    def rows(self) -> Iterator[Row]:
        """The samples of all archives in order, numbered through. Raises InputError for a compressed archive."""
        number = 0
        for name, path in self.paths.items():
            try:
                # A sample's members stand beside each other, or they are two samples: WebDataset's rule.
                for key, members in groupby(members_of(path, TEXTS), key=lambda member: _key(member[0])):
                    number += 1
                    yield _row(key, list(members), name, number)
            except Undecodable as damage:
                number += 1
                yield Row(number, name, None, (Oddity(damage.code, f"{path} is damaged: {damage.message}"),))

    def fingerprint(self) -> list[object]:
        """Names, sizes and times of the archives: hashing their content would read all images."""
        return [[name, Path(path).stat().st_size, self._times[name]] for name, path in self.paths.items()]

    def item(self, name: str) -> Item:
        """Where a member is. InputError for a name that `rows` has not given."""
        found = PLACE.fullmatch(name)
        container = name.partition("#")[0]
        if container not in self.paths:  # its own name may hold a #
            container = next((each for each in self.paths if name.startswith(f"{each}#")), "")
        if not found or not container:
            raise InputError(f"{name!r} is not an image of these archives")
        path = self.paths[container]
        uri, uri_bytes = printable_uri(path + found[1].removeprefix(container))
        size, offset = int(found[3]), int(found[2])
        return Item(uri, uri_bytes, printable_uri(path)[0], size, self._times[container], offset, "")

    def shown(self, name: str) -> str:
        """The archive and the member, without the place."""
        found = PLACE.fullmatch(name)
        return found[1] if found else name


def shards_of(data: str) -> Shards | None:
    """The archives that a path names (one, a folder of them, a pattern such as `{000..131}.tar`); None for a file."""
    paths = resolve([data])
    if len(paths) == 1 and Path(paths[0]).is_dir():
        paths = [str(path) for path in sorted(Path(paths[0]).glob("*.tar"))]
        if not paths:
            raise InputError(f"{data} is a folder without tar archives: name a JSON or JSONL file, or archives")
    tars = [path for path in paths if path.endswith(".tar") or kind_of_file(path) == "tar"]
    if tars and len(tars) < len(paths):
        raise InputError(f"{data} names archives and other files: name archives alone")
    if not tars and len(paths) > 1:
        raise InputError(f"{data} names {len(paths)} files: name one JSON or JSONL file, or archives")
    return Shards(tars) if tars else None


def _key(name: str) -> str:
    """The folder and the name up to its first dot: WebDataset's rule."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _row(key: str, members: list[tuple[str, Item | bytes]], container: str, number: int) -> Row:
    images = [f"{container}#{name}#{each.offset}+{each.size}" for name, each in members if isinstance(each, Item)]
    texts = {name.rpartition(".")[2].lower(): each for name, each in members if isinstance(each, bytes)}
    try:
        value: Any = json.loads(texts.get("json", b"{}"))
    except (ValueError, RecursionError) as error:
        return Row(number, key, None, (Oddity("not_json", f"its JSON cannot be read ({str(error)[:80]})"),))
    if not isinstance(value, dict):
        return row_of(value, number)
    if "conversations" not in value and "txt" in texts:
        caption = texts["txt"].decode(errors="surrogateescape").strip()
        turns = [{"from": "human", "value": PLACEHOLDER if images else ""}, {"from": "gpt", "value": caption}]
        value = {"conversations": turns}
    # A row's own id counts before the key of the sample; its own image never does.
    return row_of({"id": key} | value | {"image": images}, number)
