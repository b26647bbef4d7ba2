"""Images read again by the uris that a store holds for them, long after they were embedded.

Promises: every reference gets its bytes or a named failure, never an exception; each container is opened once and read
in one pass, however many of its images are asked for.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import parquet, tar
from blindpairs.images.corpus import is_parquet, read_item
from blindpairs.images.item import Item, changed_at, printable_uri, system_name

Reference = tuple[str, bytes | None]


def read_many(references: Iterable[Reference]) -> Iterator[tuple[int, bytes | Undecodable]]:
    """Read images by (uri, uri_bytes). Yields (position in the input, bytes or failure): files, then by container."""
    previous: Item | Undecodable | None = None
    outcome: bytes | Undecodable = b""
    for position, item in located(references):
        if item is not previous:  # an image that is asked for several times comes several times in a row
            previous, outcome = item, item if isinstance(item, Undecodable) else _outcome(item)
        yield position, outcome


def located(references: Iterable[Reference]) -> Iterator[tuple[int, Item | Undecodable]]:
    """Where the images are, in the order of `read_many`. Each item can be read as often as it is wanted."""
    # container -> uri -> positions: the same image may be asked for several times
    wanted: defaultdict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (uri, uri_bytes) in enumerate(references):
        name = system_name(uri, uri_bytes)
        container = _container_of(name)
        if container is None:
            yield position, file_item(name)
        else:
            wanted[container][name].append(position)
    for container, names in wanted.items():
        yield from _found_in(container, names)


def container_of(uri: str, uri_bytes: bytes | None) -> str | None:
    """The path of the container that holds an image; None for a plain file, also if it is missing."""
    return _container_of(system_name(uri, uri_bytes))


def _container_of(name: str) -> str | None:
    """The path of the container in a uri; None for a plain file, also if it is missing."""
    if os.path.lexists(name):  # first, because `#` is legal in the names of files
        return None
    parts = name.split("#")
    starts = ("#".join(parts[:count]) for count in range(1, len(parts)))
    return next((start for start in starts if os.path.isfile(start)), None)


def _found_in(container: str, names: dict[str, list[int]]) -> Iterator[tuple[int, Item | Undecodable]]:
    try:
        rows = is_parquet(container)
        found = parquet.rows_named(container, names) if rows else tar.plan_tar(container, Counter())
        for item in found:
            name = system_name(item.uri, item.uri_bytes)
            if name in names:
                for position in names.pop(name):
                    yield position, item
    except (InputError, OSError) as error:
        failure = Undecodable("io", f"its container cannot be read: {error}")
    else:
        failure = Undecodable("missing", "its container no longer holds it")
    for positions in names.values():
        for position in positions:
            yield position, failure


def file_item(name: str) -> Item:
    """A plain file as an item of a corpus, with the size and the time that it has now."""
    uri, uri_bytes = printable_uri(name)
    try:
        status = os.stat(name)
    except OSError:  # reading it gives the reason
        return Item(uri, uri_bytes, "", 0, 0, 0, "")
    return Item(uri, uri_bytes, "", status.st_size, changed_at(status), 0, "")


def _outcome(item: Item) -> bytes | Undecodable:
    try:
        return read_item(item)
    except Undecodable as failure:
        return failure
