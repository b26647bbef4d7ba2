"""A corpus that has moved: proves that its images are those of the store, then gives the store their new uris.

Promises: nothing of the store changes before every image is proven to be the same: by its name within the corpus, its
size, and its modification time or, if that differs, its bytes. An interrupted move is completed by the next run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blindpairs.errors import ConfigError, Undecodable
from blindpairs.images import Corpus, Item, read_item
from blindpairs.images.decode import image_id
from blindpairs.images.item import system_name
from blindpairs.store import Part, finished, read_failures, read_ids, read_items
from blindpairs.store.moving import drop_items, move, stage_items


class _OtherCorpus(Exception):
    """An image that is not the one that the store holds; says which and why."""


def follow_moved_corpus(
    corpus: Corpus, folder: Path, manifest: dict[str, Any], settings: dict[str, Any], warnings: list[str]
) -> dict[str, Any]:
    """Give the store at `folder` the uris of `corpus`, and return its new manifest. The caller has locked the store.

    ConfigError, with nothing changed, if an image is not proven to be the same. A move is added to `warnings`.
    """
    old, new = manifest["settings"]["corpus"], settings["corpus"]
    try:
        moved = _moved(corpus, folder, manifest, settings)
    except _OtherCorpus as error:
        raise ConfigError(
            f"{folder} was made of another corpus: it was {old} and is {new} now, and it has not just moved "
            f"({error}). Use --overwrite to embed all again, or another --work"
        ) from error
    if moved["settings"] != manifest["settings"]:
        warnings.append(
            f"the corpus has moved from {old} to {new}: its {moved['plan']['items']:,} images are the same, and the "
            "store now has their new uris; run `mine` again, because pairs and gallery still have the old ones"
        )
    return moved


def _moved(corpus: Corpus, folder: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    roots = _Roots(corpus)
    fingerprint = corpus.fingerprint()
    items = _proven(corpus, folder, manifest, roots, trusted=fingerprint == manifest["fingerprint"])
    listed = stage_items(folder, items, manifest["settings"]["part_rows"])  # runs the proof, item by item
    if roots.unmoved():  # another name of the same folders: the store stays as it is
        drop_items(folder)
        return dict(manifest)
    changes = {"settings": dict(settings), "fingerprint": fingerprint}
    changes["plan"] = manifest["plan"] | listed | {"notes": dict(corpus.notes)}
    return move(folder, dict(manifest) | changes)


def _proven(
    corpus: Corpus, folder: Path, manifest: Mapping[str, Any], roots: "_Roots", *, trusted: bool
) -> Iterator[Item]:
    """The items of `corpus`, each compared with the item of the store at the same position.

    `trusted` means that names, sizes and times of all files and containers are those that the store was made of.
    """
    items = corpus.items()
    for number in range(manifest["plan"]["parts"]):
        part = Part(folder, number)
        ids = _known_ids(part) if finished(part) else {}
        for row, old in enumerate(read_items(folder, number)):
            new = next(items, None)
            if new is None:
                raise _OtherCorpus(f"{old.uri} is not there")
            roots.check(old, new)
            # A row of a Parquet file has no size of its own, and the file's time alone proves nothing about the row.
            if not trusted and row in ids and (old.mtime_ns != new.mtime_ns or new.size < 0):
                _check_bytes(new, ids[row])
            yield new
    if (more := next(items, None)) is not None:
        raise _OtherCorpus(f"{more.uri} is not among its images")


def _known_ids(part: Part) -> dict[int, str]:
    """Row -> image_id of all items of a finished part whose bytes could be read, also of those that failed later."""
    return read_ids(part) | {failure.row: failure.image_id for failure in read_failures(part) if failure.image_id}


def _check_bytes(item: Item, expected: str) -> None:
    try:
        if image_id(read_item(item)) == expected:
            return
    except Undecodable as error:
        raise _OtherCorpus(f"{item.uri} cannot be read: {error.message}") from error
    raise _OtherCorpus(f"{item.uri} holds another image")


class _Roots:
    """The sources of a corpus, in order, and where each was when the store was planned."""

    def __init__(self, corpus: Corpus) -> None:
        self._left = list(reversed(corpus.paths))  # the last one is that of the current item
        self._old_roots: dict[str, str] = {}  # source now -> the same source when the store was made

    def check(self, old: Item, new: Item) -> None:
        """Raise _OtherCorpus if two items differ in size, or in their name within the source."""
        old_name, new_name = (system_name(item.uri, item.uri_bytes) for item in (old, new))
        root = self._root_of(new_name)
        within = new_name[len(root.rstrip("/")) :]
        old_root = old_name[: len(old_name) - len(within)]
        # A source that is itself a file (nothing, or #member, follows it) must keep its name; a folder may be renamed.
        same_file = within.startswith("/") or Path(old_root).name == Path(root).name
        if not old_name.endswith(within) or self._old_roots.setdefault(root, old_root) != old_root or not same_file:
            raise _OtherCorpus(f"{new.uri} is where {old.uri} was expected")
        if (old.size, old.offset, old.column) != (new.size, new.offset, new.column):
            raise _OtherCorpus(f"{new.uri} has another size or place than {old.uri} had")

    def unmoved(self) -> bool:
        """Whether every source is the same file or folder as its old path."""
        try:
            return all(Path(old or "/").samefile(root) for root, old in self._old_roots.items())
        except OSError:  # the usual case: the old path no longer exists
            return False

    def _root_of(self, name: str) -> str:
        while self._left:
            root = self._left[-1]
            if name == root or name.startswith((root.rstrip("/") + "/", root + "#")):
                return root
            self._left.pop()  # items come source by source
        raise _OtherCorpus(f"{name} is outside of the corpus")


def refuse_shards(folder: Path, shards: int) -> None:
    """ConfigError for a sharded run: a move rewrites every part, so no other run may write at the same time."""
    if shards > 1:
        raise ConfigError(f"the corpus of {folder} has moved: run this once without --shard, then the shards again")
