"""The whole path from another tool's embeddings to pairs: import -> mine -> gallery -> index -> plan, as commands.

Whatever the corpus is, every step answers with 0, or with a sentence and 3 where nothing can be built of nothing; and
nothing but our own sentences reaches stderr.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from blindpairs.cli import app
from blindpairs.store import Store
from blindpairs.workspace import read_json, write_json

Vectors = NDArray[np.floating[Any]]
LOOSE = ("--clip-min", "-1", "--dino-max", "0.9")
STEPS = [
    ("mine", *LOOSE),
    ("mine", *LOOSE, "--json"),
    ("mine", *LOOSE, "--plan"),
    ("mine", *LOOSE, "--plan", "--json"),
    ("mine", *LOOSE, "--center", "--rank", "rarity", "--distinct"),
    ("mine", "--clip-quantile", "0.5", "--dino-quantile", "0.5"),
    *(("mine", *LOOSE, "--method", method) for method in ("ivf", "hnsw", "flat")),
    *(("index", "--kind", kind) for kind in ("ivf", "hnsw", "flat")),
]


def unit(rows: int, dimension: int, seed: int) -> Vectors:
    values = np.random.default_rng(seed).standard_normal((rows, dimension))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float16)


def write_folder(folder: Path, partitions: list[Vectors], paths: list[list[str]] | None = None) -> Path:
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True)
    for number, vectors in enumerate(partitions):
        names = paths[number] if paths else [f"{row:09d}" for row in range(len(vectors))]  # as webdataset names them
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors)
        table = pa.table({"image_path": pa.array(names, pa.string())})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "blindpairs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"NO_COLOR": "1"})


def call(work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--work", str(work)])


def imported(tmp_path: Path, clip: list[Vectors], dino: list[Vectors], paths: list[list[str]] | None = None) -> Path:
    """The work folder of an import of two columns."""
    folders = [write_folder(tmp_path / name, parts, paths) for name, parts in (("clip", clip), ("dino", dino))]
    done = call(tmp_path / "work", "import", folders[0], "--second", f"dino={folders[1]}")
    assert (done.exit_code, done.stderr) == (0, "")
    return tmp_path / "work"


NOTHING = np.empty((0, 16), np.float16)
CORPORA: dict[str, tuple[list[Vectors], int]] = {
    "no row": ([NOTHING], 0),
    "no row in two partitions": ([NOTHING, NOTHING], 0),
    "rows in the first partition only": ([unit(3, 16, 0), NOTHING], 3),
    "rows in the last partition only": ([NOTHING, unit(3, 16, 0)], 3),
    "every row failed": ([np.full((5, 16), np.nan, np.float16)], 0),
    "every row of zeros": ([np.zeros((5, 16), np.float32)], 0),
    "one image": ([unit(1, 16, 0)], 1),
    "two images": ([unit(2, 16, 0)], 2),
    "identical images": ([np.ones((6, 16), np.float16)], 6),
    "too few for the lists of an index": ([unit(45, 16, 0)], 45),
    "one dimension": ([np.array([[1], [-1], [1], [-3]], np.float16)], 4),
    "very long vectors": ([unit(9, 16, 0).astype(np.float32) * np.float32(1e30)], 9),
}


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_step_answers_for_a_corpus_of_any_size(
    tmp_path: Path, corpus: str, capfd: pytest.CaptureFixture[str]
) -> None:
    partitions, rows = CORPORA[corpus]
    work = imported(tmp_path, partitions, partitions)
    for step in STEPS:
        done = call(work, *step)
        if step[0] == "index" and rows == 0:
            assert (done.exit_code, done.stdout) == (3, ""), step
            assert done.stderr == "error: there are no vectors to index: embed or import some images first\n"
        else:
            assert done.exit_code == 0, (step, done.output)
        if step == ("mine", *LOOSE, "--json"):
            assert json.loads(done.stdout)["counts"]["images"] == rows
    assert capfd.readouterr() == ("", "")  # FAISS would write past Python


def test_images_that_can_be_read_are_shown_and_the_others_have_their_place(tmp_path: Path) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(4)]
    for number, picture in enumerate(pictures):
        noise = np.random.default_rng(number).integers(0, 256, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(picture)
    paths = [[*map(str, pictures), "000000000", "000000001"]] * 2
    work = imported(tmp_path, [unit(6, 16, 0), unit(6, 16, 1)], [unit(6, 8, 2), unit(6, 8, 3)], paths)
    result = run("mine", *LOOSE, "--work", work)
    assert result.returncode == 0
    assert result.stderr.splitlines()[-1].startswith("warning: 4 of the page's 8 images could not be read (4 missing)")
    assert (work / "pairs" / "gallery.html").read_text().count("data:image/") >= 4
    counts = read_json(work / "pairs" / "pairs.json")["counts"]
    # The four files are in both partitions, with other vectors: one image each. The keys are another image each time.
    assert (counts["images"], counts["identical"], counts["id_conflicts"]) == (12, 4, 4)
    assert "4 of the identical images share an id with another image but have different vectors" in result.stdout


def test_keys_that_every_shard_repeats_are_other_images(tmp_path: Path) -> None:
    clip = [unit(20, 16, seed) for seed in (0, 1, 2)]
    dino = [unit(20, 8, seed) for seed in (3, 4, 5)]
    work = imported(tmp_path, clip, dino)
    assert call(work, "mine", *LOOSE).exit_code == 0
    counts = read_json(work / "pairs" / "pairs.json")["counts"]
    assert (counts["images"], counts["identical"], counts["kept"] > 0) == (60, 0, True)
    pairs = pq.read_table(work / "pairs" / "pairs.parquet")
    assert len(set(pairs["pair_id"].to_pylist())) == len(pairs)


def test_pairs_from_ray_are_those_of_this_process(tmp_path: Path) -> None:
    work = imported(tmp_path, [unit(40, 16, 0)], [unit(40, 8, 1)])
    assert call(work, "mine", *LOOSE).exit_code == 0
    here = pq.read_table(work / "pairs" / "pairs.parquet")
    done = run("mine", *LOOSE, "--work", work, "--executor", "ray")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(work / "pairs" / "pairs.parquet").equals(here)


def test_embed_does_not_touch_what_was_imported_and_loads_nothing_for_it(tmp_path: Path) -> None:
    work = imported(tmp_path, [unit(3, 16, 0)], [unit(3, 8, 1)])
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    done = call(work, "embed", tmp_path / "a.png", "--encoder", "x=hf:nobody/has-this")
    assert done.exit_code == 3
    assert "holds imported embeddings" in " ".join(done.stderr.split())
    assert Store.open(work / "embeddings").encoders == ("clip", "dino")


def test_a_store_that_an_older_release_imported_is_mined_and_tells_of_ids_that_stand_for_paths(tmp_path: Path) -> None:
    work = imported(tmp_path, [unit(4, 16, 0)], [unit(4, 8, 1)])
    folder = work / "embeddings"
    manifest = read_json(folder / "manifest.json")
    for name in ("limits", "image_id", "relative paths are below"):
        del manifest["settings"][name]
    write_json(folder / "manifest.json", manifest)
    assert call(work, "mine", *LOOSE).exit_code == 0
    again = call(work, "import", tmp_path / "clip", "--second", f"dino={tmp_path / 'dino'}")
    assert again.exit_code == 3
    assert "made image ids by another rule" in " ".join(again.stderr.split())
