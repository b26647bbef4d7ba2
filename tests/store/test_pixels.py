"""Images are read again by id: the very bytes that were embedded, or the reason, and none is left out."""

from pathlib import Path

import bad_files as make
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_process import SIZE, toy

from blindpairs.embed import EmbedOptions, embed
from blindpairs.errors import Undecodable
from blindpairs.images import Limits, image_id, open_corpus
from blindpairs.images.decode import decode
from blindpairs.store import Store, images_of, pixels_of

SMALL = EmbedOptions(part_rows=4, batch=4, workers=1)
SCENES = [make.png(SIZE, SIZE, seed) for seed in range(6)]
IDS = [image_id(scene) for scene in SCENES]


def folder_of_files(folder: Path) -> None:
    folder.mkdir()
    for place, scene in enumerate(SCENES):
        (folder / f"{place}.png").write_bytes(scene)


def tars(folder: Path) -> None:
    folder.mkdir()
    make.tar(folder / "0.tar", [(f"{place}.png", data) for place, data in enumerate(SCENES[:3])])
    make.tar(folder / "1.tar.gz", [(f"{place}.png", data) for place, data in enumerate(SCENES[3:])], "w:gz")


def parquet(folder: Path) -> None:
    folder.mkdir()
    pq.write_table(pa.table({"image": SCENES}), folder / "a.parquet")


def stored(corpus: Path, options: EmbedOptions = SMALL) -> Store:
    embed(open_corpus([str(corpus)]), corpus.parent / "store", {"clip": "toy:a"}, toy, options)
    return Store.open(corpus.parent / "store")


@pytest.mark.parametrize("write", [folder_of_files, tars, parquet])
def test_every_id_gives_its_own_bytes_and_pixels_from_every_kind_of_corpus(tmp_path: Path, write: object) -> None:
    assert callable(write)
    write(tmp_path / "corpus")
    store = stored(tmp_path / "corpus")
    asked = [IDS[5], IDS[0], IDS[3], IDS[0]]  # in no order, and one twice
    found = list(images_of(store, asked))
    assert dict(found) == {IDS[place]: SCENES[place] for place in (0, 3, 5)}
    assert len(found) == 3
    for key, pixels in pixels_of(store, asked):
        np.testing.assert_array_equal(pixels, decode(SCENES[IDS.index(key)]).pixels)


def test_what_cannot_be_had_comes_with_its_reason_and_costs_no_other(tmp_path: Path) -> None:
    folder_of_files(tmp_path / "corpus")
    store = stored(tmp_path / "corpus")
    (tmp_path / "corpus" / "1.png").write_bytes(SCENES[0])  # replaced by another image
    (tmp_path / "corpus" / "2.png").unlink()
    for read in (images_of, pixels_of):
        found = dict(read(store, [*IDS, "0" * 32]))
        assert found.keys() == {*IDS, "0" * 32}
        codes = {key: value.code for key, value in found.items() if isinstance(value, Undecodable)}
        assert codes == {IDS[1]: "changed", IDS[2]: "missing", "0" * 32: "not_in_store"}
    assert "no longer the image that was embedded" in str(found[IDS[1]])


def test_copies_are_read_once_and_nothing_is_asked_of_the_corpus_for_nothing(tmp_path: Path) -> None:
    folder_of_files(tmp_path / "corpus")
    (tmp_path / "corpus" / "9.png").write_bytes(SCENES[0])
    store = stored(tmp_path / "corpus")
    (tmp_path / "corpus" / "9.png").unlink()  # the second copy
    assert list(images_of(store, [IDS[0]])) == [(IDS[0], SCENES[0])]
    assert list(pixels_of(store, [])) == []


def test_pixels_are_decoded_under_the_limits_of_the_store(tmp_path: Path) -> None:
    folder_of_files(tmp_path / "corpus")
    store = stored(tmp_path / "corpus")
    store.manifest["settings"]["limits"]["max_pixels"] = SIZE
    ((_, refused),) = pixels_of(store, [IDS[0]])
    assert isinstance(refused, Undecodable)
    assert refused.code == "too_many_pixels"
    del store.manifest["settings"]["limits"]  # as older releases imported it
    ((_, pixels),) = pixels_of(store, [IDS[0]])
    assert isinstance(pixels, np.ndarray)
    assert Limits().max_pixels > SIZE


def test_imported_path_ids_carry_no_hash_to_check(tmp_path: Path) -> None:
    folder_of_files(tmp_path / "corpus")
    store = stored(tmp_path / "corpus")
    rows = store.metadata(["image_id", "uri", "uri_bytes"])
    renamed = rows.set_column(0, "image_id", pa.array([f"uri:{row}" for row in range(len(rows))]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "metadata", lambda *_: renamed)
        assert list(images_of(store, ["uri:4"])) == [("uri:4", SCENES[4])]
