"""Files that somebody changed: nothing wrong is ever read, the error is one sentence, and embedding again repairs it.

Every file of a finished work folder, every way to damage it, every command that reads it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_process import make_photos, run, tree
from typer.testing import CliRunner

from blindpairs.cli import app
from blindpairs.errors import BlindpairsError
from blindpairs.store import Store
from blindpairs.store.imports import import_clip_retrieval

LOOSE = ("--clip-min", "-0.5", "--dino-max", "0.9")
COMMANDS = {
    "mine": ("mine", *LOOSE, "--no-gallery"),
    "plan": ("mine", "--plan"),
    "index": ("index", "--kind", "flat"),
    "through the index": ("mine", "--method", "flat", *LOOSE, "--no-gallery"),
}


def call(*arguments: object) -> tuple[int, str]:
    """A command's exit code and output; a traceback fails the test."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images in three parts, two of them broken, with an index and pairs."""
    folder = tmp_path_factory.mktemp("whole")
    paths = make_photos(folder / "photos", 40)
    paths[3].write_bytes(b"")
    paths[20].write_bytes(b"<html>")
    run(folder / "photos", folder / "work" / "embeddings")
    for name in ("index", "mine"):
        assert call(*COMMANDS[name], "--work", folder / "work")[0] == 0
    return folder


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """What another tool does that loads a table and stores it."""
    return lambda path: pq.write_table(change(pq.read_table(path)), path)


def _loose_lists(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_fixed_size_list(field.type):
            values = [[float(value) for value in row] for row in table[field.name].to_pylist()]
            table = table.set_column(place, field.name, pa.array(values, pa.list_(pa.float32())))
    return table


def _flip(path: Path) -> None:
    """One bit: of a JSON file in the hash that it vouches with, since most of its bytes are for people."""
    content = bytearray(path.read_bytes())
    vouching = re.compile(rb'"sha256": (?:\{\s*"data": )?"[0-9a-f]').search(content)
    place = vouching.end() - 1 if path.suffix == ".json" and vouching else len(content) // 2
    content[place] ^= 4
    path.write_bytes(content)


def _swap(path: Path) -> None:
    other = next(each for each in sorted(path.parent.glob("part-*" + "".join(path.suffixes))) if each != path)
    ours = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(ours)


ANY: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "braces": lambda path: path.write_text("{}"),
    "flipped": _flip,
    "removed": Path.unlink,
}
TABLE = {
    "other types": rewritten(_loose_lists),
    "more rows": rewritten(lambda table: pa.concat_tables([table, table.slice(0, 1)])),
    "fewer rows": rewritten(lambda table: table.slice(1)),
    "a column less": rewritten(lambda table: table.drop_columns(table.column_names[-1:])),
    "other order": rewritten(lambda table: table.select(table.column_names[::-1])),
    "same content": rewritten(lambda table: table),
}
PART = [
    (file, name)
    for file in ("part-00001.parquet", "failures/part-00001.parquet", "part-00001.done.json")
    for name in (*ANY, "swapped", *(TABLE if file.endswith(".parquet") else ()))
]


def damaged(whole: Path, work: Path, file: str, how: str) -> None:
    """A copy of the finished work folder with one file damaged."""
    shutil.copytree(whole / "work", work)
    way: Callable[[Path], object] = _swap if how == "swapped" else TABLE[how] if how in TABLE else ANY[how]
    way(work / file)


@pytest.mark.parametrize(("file", "how"), PART)
def test_damaged_part_is_refused_by_every_reader_and_mended_by_embedding_again(
    tmp_path: Path, whole: Path, file: str, how: str
) -> None:
    work = tmp_path / "work"
    damaged(whole, work, f"embeddings/{file}", how)
    for name, command in COMMANDS.items():
        status, output = call(*command, "--work", work)
        assert status == 3, name
        assert "run the same `blindpairs embed` again to " in output
        assert "part-0000" in output or "parts are missing" in output
        assert len(output.splitlines()) <= 2
    run(whole / "photos", work / "embeddings")
    assert tree(work) == tree(whole / "work")


@pytest.mark.parametrize("how", ANY)
@pytest.mark.parametrize("file", ["index/clip-flat.faiss", "index/clip-flat.json"])
def test_damaged_index_is_built_again(tmp_path: Path, whole: Path, file: str, how: str) -> None:
    damaged(whole, tmp_path / "work", file, how)
    status, output = call(*COMMANDS["through the index"], "--work", tmp_path / "work")
    assert status == 0, output
    index = {name: content for name, content in tree(whole / "work").items() if name.startswith("index/")}
    assert index.items() <= tree(tmp_path / "work").items()


@pytest.mark.parametrize("how", ANY)
def test_damaged_manifest_or_plan_is_told_or_mended_and_costs_nothing_unasked(
    tmp_path: Path, whole: Path, how: str
) -> None:
    for file in ("manifest.json", "plan.parquet"):
        work = tmp_path / file / "work"
        damaged(whole, work, f"embeddings/{file}", how)
        for command in COMMANDS.values():
            assert call(*command, "--work", work)[0] in (0, 3)
        warnings, refusal = embedded_again(whole, work)
        if refusal:
            assert file == "manifest.json"
            assert "overwrite" in refusal
            assert len(list((work / "embeddings").glob("part-*"))) == 6
        else:
            assert warnings
            assert tree(work / "embeddings") == tree(whole / "work" / "embeddings")


def embedded_again(whole: Path, work: Path) -> tuple[list[str], str]:
    """The warnings of a run, or why it refused."""
    try:
        return run(whole / "photos", work / "embeddings").warnings, ""
    except BlindpairsError as refusal:
        return [], str(refusal)


@pytest.mark.parametrize("name", ["settings", "plan", "encoders", "fingerprint"])
@pytest.mark.parametrize("value", [None, 3, [], {"clip": 3}])
def test_manifest_of_another_shape_is_damaged(tmp_path: Path, whole: Path, name: str, value: object) -> None:
    if (name, value) == ("settings", {"clip": 3}):
        return  # what was asked for is a matter of embedding
    work = tmp_path / "work"
    shutil.copytree(whole / "work", work)
    path = work / "embeddings" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    status, output = call("mine", "--work", work)
    assert (status, "manifest.json is damaged: `embed --overwrite`" in output) == (3, True)


def test_folder_in_the_place_of_a_file_is_told_as_that(tmp_path: Path, whole: Path) -> None:
    for file in ("embeddings/manifest.json", "embeddings/part-00001.parquet", "index/clip-flat.faiss"):
        work = tmp_path / Path(file).name
        shutil.copytree(whole / "work", work)
        (work / file).unlink()
        (work / file).mkdir()
        status, output = call(*COMMANDS["through the index"], "--work", work)
        assert status == 3
        assert f"{Path(file).name} is a folder where a file should be (move it away)" in output


@pytest.mark.parametrize(
    "file", ["embeddings/manifest.json", "embeddings/part-00001.done.json", "index/clip-flat.faiss"]
)
def test_pipe_in_the_place_of_a_file_is_never_waited_for(tmp_path: Path, whole: Path, file: str) -> None:
    shutil.copytree(whole / "work", tmp_path / "work")
    (tmp_path / "work" / file).unlink()
    os.mkfifo(tmp_path / "work" / file)
    command = [sys.executable, "-m", "blindpairs", "mine", "--method", "flat", "--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)


def test_damaged_part_of_an_import_is_remade_by_importing_again(tmp_path: Path) -> None:
    for kind in ("img_emb", "metadata"):
        (tmp_path / "given" / kind).mkdir(parents=True)
    np.save(tmp_path / "given" / "img_emb" / "img_emb_0.npy", np.eye(8, dtype=np.float32))
    table = pa.table({"image_path": [f"{row}.jpg" for row in range(8)]})
    pq.write_table(table, tmp_path / "given" / "metadata" / "metadata_0.parquet")
    import_clip_retrieval(tmp_path / "given", tmp_path / "store", read_images=False)
    before = tree(tmp_path / "store")
    _flip(tmp_path / "store" / "part-00000.parquet")
    with pytest.raises(BlindpairsError, match="run the same `blindpairs import` again to repair it"):
        Store.open(tmp_path / "store").column("clip")
    import_clip_retrieval(tmp_path / "given", tmp_path / "store", read_images=False)
    assert tree(tmp_path / "store") == before
