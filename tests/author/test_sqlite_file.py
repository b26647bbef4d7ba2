"""Files that cannot be used: a sentence, and nothing in them changes."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from authored import DRAFT, authoring
from unprivileged import bound_run

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft
from blindpairs.author.sqlite_file import network_file_system
from blindpairs.errors import InputError, Locked
from blindpairs.system import child_environment


def test_a_newer_version_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    authoring(tmp_path).close()
    path = tmp_path / "authoring.sqlite"
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 3")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"newer blindpairs \(its tables have version 3, this one knows 2\): update"):
        AuthoringDatabase(path)
    assert path.read_bytes() == before


def test_the_database_of_another_program_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE urls (url TEXT)")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the database of another program: give another path"):
        AuthoringDatabase(path)
    assert path.read_bytes() == before


def test_a_file_of_another_kind_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "authoring.sqlite"
    path.write_bytes(b"pair_id,question\n" * 100)
    with pytest.raises(InputError, match=r"is damaged or no database \(file is not a database\): restore a copy"):
        AuthoringDatabase(path)
    assert path.read_bytes() == b"pair_id,question\n" * 100


def test_damage_inside_is_a_sentence(tmp_path: Path) -> None:
    with authoring(tmp_path, 300) as database:
        size = database.path.stat().st_size
    path = tmp_path / "authoring.sqlite"
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    size = path.stat().st_size
    with path.open("r+b") as file:  # everything but the page that holds the table of contents
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(InputError, match=r"is damaged .*\.recover"), AuthoringDatabase(path) as database:
        list(database.histories())


def test_a_folder_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "authoring.sqlite").mkdir()
    with pytest.raises(InputError, match=r"authoring\.sqlite is a folder where a file should be"):
        AuthoringDatabase(tmp_path / "authoring.sqlite")


def test_another_writer_is_waited_for_and_then_said(tmp_path: Path) -> None:
    with authoring(tmp_path, 1) as database:
        other = sqlite3.connect(database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with AuthoringDatabase(database.path, busy_seconds=0.1) as late:
            with pytest.raises(Locked, match="being written by another process: nothing was changed"):
                late.add_draft("p0", "another", DRAFT)
            assert [one.author for one in late.history("p0")] == ["model"]  # reading is never locked out
            other.execute("ROLLBACK")
            assert late.add_draft("p0", "another", DRAFT).id == 2
        other.close()


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path, kept: bool) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    if kept:
        authoring(folder, 1).close()
        (folder / "authoring.sqlite").chmod(0o444)
    folder.chmod(0o555)
    code = (
        "import sys; from pathlib import Path; from blindpairs.author.database import AuthoringDatabase\n"
        "from blindpairs.errors import InputError\n"
        "try: AuthoringDatabase(Path(sys.argv[1])).add_pairs([])\n"
        "except InputError as error: sys.exit(str(error))"
    )
    command = [sys.executable, "-c", code, str(folder / "authoring.sqlite")]
    done = bound_run(command, child_environment())
    folder.chmod(0o755)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"cannot write {folder / 'authoring.sqlite'} (")
    assert "must be writable" in done.stderr


def test_a_full_disk_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    with authoring(tmp_path, 3) as database:
        pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
        database._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own full disk
        long = "x" * 100_000
        with pytest.raises(InputError, match=r"no room to write .* what was reported as saved is safe"):
            database.add_draft("p0", "another", Draft(statement_a=long, statement_b="b"))
        assert [one.author for one in database.history("p0")] == ["model"]
        database._connection.execute("PRAGMA max_page_count = 1000000")
        assert database.add_draft("p0", "another", DRAFT).author == "another"


def test_opening_the_file_again_keeps_the_locks_of_this_process(tmp_path: Path) -> None:
    path = tmp_path / "authoring.sqlite"
    code = (
        "import sqlite3, sys; other = sqlite3.connect(sys.argv[1]); other.execute('SELECT * FROM pairs'); other.close()"
    )
    with authoring(tmp_path, 1):
        AuthoringDatabase(path).close()
        # Whoever closes the file last removes its write-ahead log: this process is still there, so it stays.
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        assert path.with_name("authoring.sqlite-wal").exists()
    assert not path.with_name("authoring.sqlite-wal").exists()


MOUNTS = """/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local ext4 rw 0 0
share /mnt/my\\040share cifs rw 0 0
host: /mnt/far fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/a.sqlite", ""),
        ("/home/ann/a.sqlite", "nfs4"),
        ("/homes/a.sqlite", ""),
        ("/home/local/a.sqlite", ""),
        ("/mnt/my share/a.sqlite", "cifs"),
        ("/mnt/far/deep/a.sqlite", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_recognised(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert network_file_system(Path(path), tmp_path / "mounts") == kind


def test_a_local_disk_has_no_notice(tmp_path: Path) -> None:
    with authoring(tmp_path) as database:
        assert database.notice == ""
