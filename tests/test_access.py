"""An error about a file names its real cause. Run by an account to which permissions apply."""

import errno
import os
import sys
from pathlib import Path

import pytest
from unprivileged import bound_run

from blindpairs.access import listed, obstacle, present, unwritable
from blindpairs.errors import Refused

ROOT = Path(__file__).parents[1]


def bound(code: str, *arguments: object) -> str:
    """What Python code prints where permissions hold."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = bound_run(command, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


ASK = """
import sys
from pathlib import Path
from blindpairs import access, workspace
from blindpairs.errors import BlindpairsError
path = Path(sys.argv[2])
try:
    question = getattr(access, sys.argv[1], None) or getattr(workspace, sys.argv[1])
    given = (path, {}) if sys.argv[1] == "write_json" else (path,)
    answer = question(*given)
    print(answer if answer is None or isinstance(answer, (bool, list)) else type(answer).__name__)
except BlindpairsError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("question", ["present", "sha256_file", "read_json", "write_json", "remove", "RunLock"])
def test_folder_that_may_not_be_entered_is_named_with_its_owner(tmp_path: Path, question: str) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "a.json").write_text("{}")
    closed.chmod(0)
    message = bound(ASK, question, closed / "a.json")
    closed.chmod(0o700)
    assert "Permission denied" in message
    assert f"{closed} belongs to " in message
    assert "mode 0, and this runs as " in message
    assert not {"remove", "delete", "damaged", "--overwrite"} & set(message.split())


@pytest.mark.parametrize("question", ["sha256_file", "read_json"])
def test_file_that_may_not_be_read_is_refused_and_not_called_damaged(tmp_path: Path, question: str) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    path.chmod(0)
    message = bound(ASK, question, path)
    assert message.startswith(f"Refused cannot read {path}: Permission denied ({path} belongs to ")
    assert bound(ASK, "present", path) == "True\n"


def test_folder_that_may_not_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o300)
    assert bound(ASK, "listed", closed).startswith(f"Refused cannot read {closed}: Permission denied")
    assert listed(tmp_path / "absent") == []


def test_lock_of_another_account_and_lock_that_is_a_folder_are_sentences(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.write_text("")
    lock.chmod(0o444)
    assert f"cannot write {lock}: Permission denied ({lock} belongs to " in bound(ASK, "RunLock", tmp_path)
    lock.unlink()
    lock.mkdir()
    assert f"cannot write {lock}: Is a directory" in bound(ASK, "RunLock", tmp_path)


def test_link_that_leads_nowhere_is_neither_present_nor_absent(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("/nonexistent/disk")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for name in ("gone", "loop"):
        with pytest.raises(Refused, match=f"{name} is a link to .*, which leads nowhere"):
            present(tmp_path / name)
    assert present(tmp_path / "file" / "below") is False
    assert obstacle(tmp_path / "file" / "below") == f"{tmp_path / 'file'} is a file, not a folder"
    assert obstacle(tmp_path / "new" / "folder") == ""


def test_folder_that_may_not_be_made_is_named_by_the_nearest_that_exists(tmp_path: Path) -> None:
    denied = unwritable(tmp_path / "runs" / "mine" / "file", PermissionError(errno.EACCES, "Permission denied"))
    assert f"({tmp_path} belongs to " in str(denied)
