"""What the pages say of what cannot be done: the cause, and no step that only a terminal knows."""

import asyncio
import errno
import json
import sqlite3
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from blindpairs.access import unwritable
from blindpairs.author.refusals import refusals
from blindpairs.author.sqlite_file import connect, explained
from blindpairs.errors import BlindpairsError, InputError, Locked


def said(error: Exception) -> tuple[int, str]:
    """The status and the sentence for a script."""
    answer = refusals(lambda _, sentence: PlainTextResponse(sentence))[BlindpairsError]

    async def ask() -> Response:
        return await answer(Request({"type": "http", "headers": []}), error)

    response = asyncio.run(ask())
    return response.status_code, json.loads(bytes(response.body))["error"]


def raised_by(path: Path, statement: str) -> BlindpairsError:
    """What a change of a database says that another process writes, or that has no room."""
    connection = connect(path, 1, "CREATE TABLE texts (text)", busy_seconds=0)
    try:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(BlindpairsError) as raised, explained(path):
            connection.execute(statement)
        return raised.value
    finally:
        connection.close()


def test_locked_database_is_said_without_a_step_because_the_page_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    connect(path, 1, "CREATE TABLE texts (text)").close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    error = raised_by(path, "INSERT INTO texts VALUES (1)")
    other.close()
    assert isinstance(error, Locked)
    assert said(error) == (503, f"{path} is being written by another process: nothing was changed")


def test_folder_of_another_run_is_said_without_the_options_of_a_command(tmp_path: Path) -> None:
    error = Locked(
        f"{tmp_path} is being written by another run (process 7 on a); wait for it, or give this one another --work"
    )
    assert said(error) == (503, f"{tmp_path} is being written by another run (process 7 on a)")


def test_full_disk_says_to_free_space_and_names_no_command(tmp_path: Path) -> None:
    full = raised_by(tmp_path / "a.sqlite", "INSERT INTO texts VALUES (zeroblob(100000))")
    status, sentence = said(full)
    assert (status, sentence.rpartition(": ")[2]) == (
        507,
        "what was reported as saved is safe; free space on that disk",
    )
    error = OSError(errno.ENOSPC, "")
    unsaved = unwritable(tmp_path / "answers.jsonl", error)
    unsaved.__cause__ = error
    status, sentence = said(unsaved)
    assert status == 507
    assert sentence.endswith("answers.jsonl: No space left on device; free space on that disk")


def test_denied_file_names_its_owner_and_no_option_of_a_command(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "")
    denied = unwritable(tmp_path / "answers.jsonl", error)
    denied.__cause__ = error
    status, sentence = said(denied)
    assert (status, "--work" in sentence, "belongs to" in sentence) == (507, False, True)


def test_wrong_request_is_said_whole() -> None:
    assert said(InputError("the request names no cluster; reload the page")) == (
        422,
        "the request names no cluster; reload the page",
    )
