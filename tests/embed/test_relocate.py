"""A store follows its corpus to another place only where the images are proven the same, and wherever it is killed."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bad_files as make
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_process import SIZE, make_photos, toy, tree
from PIL import Image

from blindpairs import workspace
from blindpairs.embed import EmbedOptions, EmbedReport, embed
from blindpairs.errors import ConfigError
from blindpairs.images import CorpusOptions, open_corpus
from blindpairs.store import Store, moving

SMALL = EmbedOptions(part_rows=4, batch=4, workers=1)
BOTH = {"clip": "toy:a", "dino": "toy:b"}


def run(
    sources: list[Path], folder: Path, encoders: dict[str, str] = BOTH, options: EmbedOptions = SMALL
) -> EmbedReport:
    return embed(open_corpus([os.fspath(path) for path in sources]), folder, encoders, toy, options)


def folder_of_files(folder: Path) -> list[Path]:
    photos = make_photos(folder / "sub", 6)
    photos[1].write_bytes(b"")
    photos[3].write_bytes(make.ERROR_PAGE)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(photos[0].read_bytes())
    return [folder]


def tars(folder: Path) -> list[Path]:
    scenes = [make.png(SIZE, SIZE, seed) for seed in range(6)]
    folder.mkdir()
    make.tar(folder / "0.tar", [(f"{place}.png", data) for place, data in enumerate(scenes[:3])])
    make.tar(folder / "1.tar.gz", [(f"a/{place}.png", data) for place, data in enumerate(scenes[3:])], "w:gz")
    whole = make.tar(folder / "2.tar", [("x.png", scenes[0]), ("y.png", scenes[1])]).read_bytes()
    (folder / "2.tar").write_bytes(whole[:-9000])
    return sorted(folder.iterdir())


def parquet(folder: Path) -> list[Path]:
    folder.mkdir()
    cells = [make.png(SIZE, SIZE, seed) for seed in range(5)]
    pq.write_table(pa.table({"image": [*cells, None]}), folder / "a.parquet")
    return [folder]


def single_files(folder: Path) -> list[Path]:
    return make_photos(folder, 5)


CORPORA = [folder_of_files, tars, parquet, single_files]


@pytest.mark.parametrize("keep_times", [True, False])
@pytest.mark.parametrize("corpus", CORPORA)
def test_store_of_a_moved_corpus_becomes_that_of_a_fresh_run(
    tmp_path: Path, corpus: Callable[[Path], list[Path]], keep_times: bool
) -> None:
    sources = corpus(tmp_path / "old")
    run(sources, tmp_path / "store")
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copy2 if keep_times else shutil.copyfile)
    shutil.rmtree(tmp_path / "old")
    moved = [tmp_path / "new" / path.relative_to(tmp_path / "old") for path in sources]

    report = run(moved, tmp_path / "store")

    assert report.embedded == 0
    assert not (tmp_path / "store" / "moved").exists()
    assert any("the corpus has moved from" in warning for warning in report.warnings)
    run(moved, tmp_path / "fresh")
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")
    again = run(moved, tmp_path / "store")
    assert (again.embedded, again.warnings) == (0, [])
    added = run(moved, tmp_path / "store", {"more": "toy:c"})
    assert (added.rows, added.failed) == (report.rows, report.failed)


class Killed(BaseException):
    """What stands for a SIGKILL: nothing catches it."""


def kill_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Die just before the step-th file gets its name."""
    left = [step]
    real = workspace.rename_durably

    def rename(aside: Path, path: Path) -> None:
        if path.name != ".writable":
            left[0] -= 1
            if left[0] < 0:
                raise Killed
        real(aside, path)

    patch.setattr(workspace, "rename_durably", rename)
    patch.setattr(moving, "rename_durably", rename)


def test_move_that_is_killed_before_any_file_is_finished_by_the_next_run(tmp_path: Path) -> None:
    folder_of_files(tmp_path / "old")
    run([tmp_path / "old"], tmp_path / "whole")
    (tmp_path / "old").rename(tmp_path / "new")
    run([tmp_path / "new"], tmp_path / "fresh")
    expected = tree(tmp_path / "fresh")
    vectors = Store.open(tmp_path / "whole").column("clip").tobytes()
    for step in range(100):
        shutil.copytree(tmp_path / "whole", tmp_path / "store")
        with pytest.MonkeyPatch.context() as patch:
            kill_at(step, patch)
            try:
                run([tmp_path / "new"], tmp_path / "store")
            except Killed:
                killed = True
            else:
                killed = False
        if killed and (tmp_path / "store" / "moved" / "manifest.json").exists():
            with pytest.raises(ConfigError, match="being moved to where their corpus is now"):
                Store.open(tmp_path / "store")
        report = run([tmp_path / "new"], tmp_path / "store")
        assert report.embedded == 0
        assert tree(tmp_path / "store") == expected
        assert Store.open(tmp_path / "store").column("clip").tobytes() == vectors
        shutil.rmtree(tmp_path / "store")
        if not killed:
            break
    assert step > 8  # a plan, a manifest, two parts of three files each, written and taken


def test_part_that_was_unfinished_is_embedded_from_the_new_place(tmp_path: Path) -> None:
    make_photos(tmp_path / "old", 10)
    run([tmp_path / "old"], tmp_path / "store")
    for path in tmp_path.glob("store/part-00001*"):
        path.unlink()
    (tmp_path / "old").rename(tmp_path / "new")
    assert run([tmp_path / "new"], tmp_path / "store").embedded == 4
    run([tmp_path / "new"], tmp_path / "fresh")
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")


def grown(folder: Path) -> None:
    make_photos(folder, 10)


def shrunk(folder: Path) -> None:
    (folder / "image-0008.png").unlink()


def renamed(folder: Path) -> None:
    (folder / "image-0003.png").rename(folder / "image-0003b.png")


def resized(folder: Path) -> None:
    Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(folder / "image-0003.png")


def repainted(folder: Path) -> None:
    pixels = np.random.default_rng(9).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    size = (folder / "image-0003.png").stat().st_size
    Image.fromarray(pixels).save(folder / "image-0003.png", compress_level=0)
    assert (folder / "image-0003.png").stat().st_size == size  # only its bytes tell


def exchanged(folder: Path) -> None:
    one, other = folder / "image-0000.png", folder / "image-0001.png"
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)
    os.utime(one)


@pytest.mark.parametrize("change", [grown, shrunk, renamed, resized, repainted, exchanged])
def test_corpus_that_is_not_the_same_is_refused_and_nothing_changes(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    make_photos(tmp_path / "old", 9)
    run([tmp_path / "old"], tmp_path / "store")
    before = tree(tmp_path / "store")
    (tmp_path / "old").rename(tmp_path / "new")
    change(tmp_path / "new")
    with pytest.raises(ConfigError, match=r"was made of another corpus: .* it has not just moved \(.*\)"):
        run([tmp_path / "new"], tmp_path / "store")
    assert tree(tmp_path / "store") == before


def test_corpus_that_is_reached_by_another_name_is_the_same_and_nothing_is_rewritten(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 6)
    run([tmp_path / "photos"], tmp_path / "store")
    before = tree(tmp_path / "store")
    (tmp_path / "link").symlink_to("photos")
    for name in ("link", "link/../link", "photos/../photos"):
        report = run([tmp_path / name], tmp_path / "store")
        assert (report.embedded, report.warnings) == (0, [])
        assert tree(tmp_path / "store") == before
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    (tmp_path / "photos").symlink_to("elsewhere")
    report = run([tmp_path / "photos"], tmp_path / "store")
    assert (report.embedded, report.warnings, tree(tmp_path / "store")) == (0, [], before)


def test_shard_does_not_move_what_others_write(tmp_path: Path) -> None:
    make_photos(tmp_path / "old", 6)
    run([tmp_path / "old"], tmp_path / "store")
    before = tree(tmp_path / "store")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(ConfigError, match="run this once without --shard"):
        run([tmp_path / "new"], tmp_path / "store", options=replace(SMALL, shard=(0, 2)))
    assert tree(tmp_path / "store") == before


def test_overwrite_leaves_nothing_of_a_killed_move(tmp_path: Path) -> None:
    make_photos(tmp_path / "old", 6)
    run([tmp_path / "old"], tmp_path / "store")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(4, patch)
        with pytest.raises(Killed):
            run([tmp_path / "new"], tmp_path / "store")
    assert (tmp_path / "store" / "moved" / "manifest.json").exists()
    run([tmp_path / "new"], tmp_path / "store", options=replace(SMALL, overwrite=True))
    run([tmp_path / "new"], tmp_path / "fresh")
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")


def test_options_of_the_corpus_still_have_to_agree(tmp_path: Path) -> None:
    make_photos(tmp_path / "old", 6)
    run([tmp_path / "old"], tmp_path / "store")
    (tmp_path / "old").rename(tmp_path / "new")
    corpus = open_corpus([str(tmp_path / "new")], CorpusOptions(follow_symlinks=True))
    with pytest.raises(ConfigError, match=r"follow_symlinks \(--allow symlinks\) is False there and True now"):
        embed(corpus, tmp_path / "store", BOTH, toy, SMALL)
