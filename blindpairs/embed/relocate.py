"""A corpus that has moved: proves that its images are those of the store, which then names them where they are now.

Promises: nothing of the store changes before every image is proven to be the same: by its name within the corpus, its
size, and its time or, where that differs, its bytes. From then on the move is finished by whichever run comes next.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blindpairs.errors import ConfigError, Undecodable
from blindpairs.images import Corpus, Item, read_item
from blindpairs.images.decode import image_id
from blindpairs.images.item import system_name
from blindpairs.store import Part, finished, read_ids, read_plan, write_plan
from blindpairs.store.moving import finish_move, tidy_move
from blindpairs.store.parts import MOVED
from blindpairs.workspace import sha256_file, write_json


class OtherCorpus(Exception):
    """An image that is not the one that the store holds; says which and why."""


def relocate(corpus: Corpus, folder: Path, manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Move the store at `folder` to `corpus`, and return its new manifest; call it with the store locked.

    Raises OtherCorpus, having changed nothing, where an image is not proven to be the same.
    """
    roots = _Roots(corpus)
    fingerprint = corpus.fingerprint()
    proof = _proven(corpus, folder, manifest, roots, trusted=fingerprint == manifest["fingerprint"])
    plan = folder / MOVED / "plan.parquet"
    try:
        write_plan(plan, proof, manifest["settings"]["part_rows"])
        if roots.unmoved():  # another name of the same folders: the store stays as it is
            plan.unlink()
            return dict(manifest)
    finally:
        tidy_move(folder)
    moved = {"settings": dict(settings), "fingerprint": fingerprint}
    moved["plan"] = dict(manifest["plan"]) | {"sha256": sha256_file(plan), "notes": dict(corpus.notes)}
    write_json(folder / MOVED / "manifest.json", dict(manifest) | moved)
    return finish_move(folder)


def _proven(
    corpus: Corpus, folder: Path, manifest: Mapping[str, Any], roots: "_Roots", *, trusted: bool
) -> Iterator[Item]:
    """The items of `corpus`, each held against its counterpart in the store's plan.

    `trusted`: names, sizes and times of all files and containers are those of the plan.
    """
    items = corpus.items()
    for number in range(manifest["plan"]["parts"]):
        part = Part(folder, number)
        marker = finished(part)
        ids = read_ids(part, marker) if marker else {}
        for row, old in enumerate(read_plan(folder / "plan.parquet", number)):
            new = next(items, None)
            if new is None:
                raise OtherCorpus(f"{old.uri} is not there")
            roots.check(old, new)
            # A Parquet file's rows have no size of their own, so that its time alone proves nothing.
            if not trusted and row in ids and (old.mtime_ns != new.mtime_ns or new.size < 0):
                _check_bytes(new, ids[row])
            yield new
    if (more := next(items, None)) is not None:
        raise OtherCorpus(f"{more.uri} is not among its images")


def _check_bytes(item: Item, expected: str) -> None:
    try:
        if image_id(read_item(item)) == expected:
            return
    except Undecodable as error:
        raise OtherCorpus(f"{item.uri} cannot be read: {error.message}") from error
    raise OtherCorpus(f"{item.uri} holds another image")


class _Roots:
    """The sources of a corpus, in order, and where each of them was when the store was planned."""

    def __init__(self, corpus: Corpus) -> None:
        self._left = list(reversed(corpus.paths))
        self._was: dict[str, str] = {}

    def check(self, old: Item, new: Item) -> None:
        """Raise OtherCorpus where two items are not of one name and size within their sources."""
        old_name, new_name = (system_name(item.uri, item.uri_bytes) for item in (old, new))
        root = self._root_of(new_name)
        within = new_name[len(root.rstrip("/")) :]
        was = old_name[: len(old_name) - len(within)]
        same_file = within.startswith("/") or Path(was).name == Path(root).name
        if not old_name.endswith(within) or self._was.setdefault(root, was) != was or not same_file:
            raise OtherCorpus(f"{new.uri} stands where {old.uri} stood")
        if (old.size, old.offset, old.column) != (new.size, new.offset, new.column):
            raise OtherCorpus(f"{new.uri} has another size or place than {old.uri} had")

    def unmoved(self) -> bool:
        """Whether every source still is what stands at its old place."""
        try:
            return all(Path(was or "/").samefile(root) for root, was in self._was.items())
        except OSError:
            return False

    def _root_of(self, name: str) -> str:
        while self._left:
            root = self._left[-1]
            if name == root or name.startswith((root.rstrip("/") + "/", root + "#")):
                return root
            self._left.pop()  # items come source by source
        raise OtherCorpus(f"{name} lies outside of what was named")


def refuse_shards(folder: Path, shards: int) -> None:
    """A move rewrites every part, so that no other run may be at work."""
    if shards > 1:
        raise ConfigError(f"the corpus of {folder} has moved: run this once without --shard, then the shards again")
