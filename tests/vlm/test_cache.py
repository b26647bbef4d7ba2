"""A reply is found again for exactly the same ask of the same model, after whatever ended the process."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blindpairs.errors import InputError
from blindpairs.vlm import Ask, Picture, Reply, open_cache
from blindpairs.vlm.asking import Keep, keep_nothing
from blindpairs.vlm.cache import SCHEMA, content_key

ASK = Ask("one", ("Look:", Picture(b"pixels", "image/png"), "Which?"), "Be brief.", {"type": "object"}, 9, 0.5)
SETTINGS: dict[str, Any] = {"kind": "test", "model": "m"}


class Silent:
    """A model that is only named."""

    name = "silent"
    settings: Mapping[str, Any] = SETTINGS

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply]:
        return iter(())


def test_everything_that_decides_a_reply_is_in_its_key() -> None:
    changes: list[dict[str, Any]] = [
        {"parts": ("Look: ", *ASK.parts[1:])},
        {"parts": ASK.parts[::-1]},
        {"parts": ("Look:", Picture(b"pixelz", "image/png"), "Which?")},
        {"parts": ("Look:", Picture(b"pixels", "image/jpeg"), "Which?")},
        {"system": ""},
        {"schema": None},
        {"schema": {"type": "object", "required": []}},
        {"max_tokens": 10},
        {"temperature": 0.0},
    ]
    keys = [content_key(SETTINGS, replace(ASK, **change)) for change in changes]
    keys += [content_key(SETTINGS | {"model": "n"}, ASK), content_key(SETTINGS, ASK)]
    assert len(set(keys)) == len(changes) + 2


def test_key_of_the_caller_and_order_of_settings_are_not_in_it() -> None:
    assert content_key(SETTINGS, replace(ASK, key="two")) == content_key(dict(reversed(SETTINGS.items())), ASK)


def test_text_is_no_image_whatever_it_says() -> None:
    image = ASK.pictures[0]
    fake = "af7bc5a2e72b5d4ee86a0a8ff3d9c3b3"
    assert content_key(SETTINGS, Ask("", (image,))) != content_key(SETTINGS, Ask("", (fake,)))


def test_stored_reply_comes_back_whole_and_the_first_one_stays(tmp_path: Path) -> None:
    reply = Reply("key", "A\x00 dog 🐕\n", 0.25, None, 3, "length")
    with open_cache(tmp_path / "deep" / "replies.sqlite") as cache:
        assert cache.get("key") is None
        cache.put(Silent(), reply)
        cache.put(Silent(), replace(reply, text="another"))
    with open_cache(tmp_path / "deep" / "replies.sqlite") as cache:
        assert cache.get("key") == replace(reply, cached=True)


def test_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE replies (unknown TEXT)")
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"newer blindpairs \(schema {SCHEMA + 1}, this one reads {SCHEMA}\)"):
        open_cache(path).__enter__()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, and longer than a header of one\n" * 9, None])
def test_what_is_no_file_of_replies_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "replies.sqlite"
    path.mkdir() if content is None else path.write_bytes(content)
    why = "is a folder where a file should be" if content is None else "it is not a file of replies: move it away"
    with pytest.raises(InputError, match=rf"cannot use {path}: .*\(.*{why}\)"):
        open_cache(path).__enter__()
    assert path.is_dir() or path.read_bytes() == content
