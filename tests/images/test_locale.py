"""A corpus has one plan and the same bytes in every locale: a cron job's and a login shell's runs share a store."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF_8 = {"LC_ALL": "C", "PYTHONUTF8": "1"}
SCRIPT = """
import pickle, sys
from blindpairs.images import CorpusOptions, open_corpus, read_item, read_many
root, plan, act = sys.argv[1:]
if act == "plan":
    corpus = open_corpus([root], CorpusOptions(allow_paths=True))
    made = [item.uri for item in corpus.items()], corpus.fingerprint()
    pickle.dump((list(corpus.items()), made), open(plan, "wb"))
items, made = pickle.load(open(plan, "rb"))
again = dict(read_many((item.uri, item.uri_bytes) for item in items))
print(ascii((made, items, [read_item(item) for item in items], [again[place] for place in range(len(items))])))
"""


def in_locale(locale: dict[str, str], root: Path, plan: Path, act: str) -> str:
    command = [sys.executable, "-c", SCRIPT, str(root), str(plan), act]
    done = subprocess.run(command, env=os.environ | locale, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Names that are UTF-8, and names that are not, of files, containers, members, columns and cells."""
    root = tmp_path / "é"
    root.mkdir()
    for name in (b"\xc3\xa9.jpg", b"\xff.jpg", b"\xc3\xa9\xff.jpg"):
        (root / os.fsdecode(name)).write_bytes(name)
    for stem, layout in (("gnu-é.tar", tarfile.GNU_FORMAT), ("pax-é.tar", tarfile.PAX_FORMAT)):
        with tarfile.open(root / stem, "w", format=layout, errors="surrogateescape") as archive:
            for member in ("ü.jpg", "\udcff#.jpg"):
                info = tarfile.TarInfo(member)
                info.size = 1
                archive.addfile(info, io.BytesIO(b"x"))
    for stem in ("ö", "\udcff"):
        with (root / f"{stem}.parquet").open("wb") as file:
            pq.write_table(pa.table({"größe": [b"a", b"b"]}), file)
    pq.write_table(pa.table({"image": ["é.jpg", "é.jpg"]}), root / "paths.parquet")
    return root


@pytest.mark.parametrize(("first", "second"), [(ASCII, UTF_8), (UTF_8, ASCII)])
def test_what_is_planned_in_one_locale_is_read_in_another(
    tmp_path: Path, root: Path, first: dict[str, str], second: dict[str, str]
) -> None:
    planned = in_locale(first, root, tmp_path / "plan", "plan")
    assert in_locale(second, root, tmp_path / "plan", "read") == planned
    assert in_locale(second, root, tmp_path / "other", "plan") == planned
