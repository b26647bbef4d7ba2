"""Embedding: what is written, what a second run adds, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from embed_process import SIZE, ToyEncoder, make_photos, run, toy, tree
from PIL import Image
from torch import Tensor

from blindpairs.embed import EmbedOptions, embed
from blindpairs.errors import ConfigError, InputError
from blindpairs.images import open_corpus
from blindpairs.images.decode import Limits, image_id
from blindpairs.store import Store

SMALL = EmbedOptions(part_rows=16, batch=8, workers=1)


def expected_vectors(paths: list[Path], spec: str) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return ToyEncoder(spec).encode(batch).numpy().astype(np.float16)


def test_every_image_has_its_row_with_id_place_and_vectors(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 40)

    report = run(tmp_path / "photos", tmp_path / "store")

    assert (report.rows, report.failed, report.embedded) == (40, 0, 40)
    store = Store.open(tmp_path / "store")
    metadata = store.metadata().to_pydict()
    assert metadata["uri"] == [str(path) for path in paths]
    assert metadata["image_id"] == [image_id(path.read_bytes()) for path in paths]
    assert set(metadata["width"]) == set(metadata["height"]) == {SIZE}
    for name, spec in (("clip", "toy:a"), ("dino", "toy:b")):
        np.testing.assert_allclose(
            store.column(name).astype(np.float32), expected_vectors(paths, spec).astype(np.float32), atol=1e-3
        )


def test_failed_images_are_rows_of_the_failures_and_the_counts_add_up(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 40)
    paths[3].write_bytes(b"")
    paths[20].write_bytes(paths[20].read_bytes()[:100])
    Image.new("RGB", (SIZE, SIZE)).save(paths[30])  # black: the toy encoder has no finite vector for it

    report = run(tmp_path / "photos", tmp_path / "store")

    assert (report.rows, report.failed) == (37, 3)
    assert report.failures_by_code == {"empty": 1, "non_finite": 1, "truncated": 1}
    store = Store.open(tmp_path / "store")
    failures = {row["uri"]: (row["row"], row["code"]) for row in store.failures().to_pylist()}
    assert failures == {
        str(paths[3]): (3, "empty"),
        str(paths[20]): (4, "truncated"),
        str(paths[30]): (14, "non_finite"),
    }
    assert np.isfinite(store.column("clip")).all()
    kept = [path for number, path in enumerate(paths) if number not in (3, 20, 30)]
    assert store.metadata()["uri"].to_pylist() == [str(path) for path in kept]
    np.testing.assert_allclose(
        store.column("dino").astype(np.float32), expected_vectors(kept, "toy:b").astype(np.float32), atol=1e-3
    )


def test_corpus_of_failures_only_still_commits_its_parts(tmp_path: Path) -> None:
    for path in make_photos(tmp_path / "photos", 20):
        path.write_bytes(b"")
    report = run(tmp_path / "photos", tmp_path / "store")
    assert (report.rows, report.failed) == (0, 20)
    assert Store.open(tmp_path / "store").column("clip").shape == (0, 8)


def test_second_run_embeds_nothing_and_changes_nothing(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 20)
    run(tmp_path / "photos", tmp_path / "store")
    before = tree(tmp_path / "store")

    report = run(tmp_path / "photos", tmp_path / "store")

    assert (report.embedded, report.rows) == (0, 20)
    assert tree(tmp_path / "store") == before


def test_added_encoder_leaves_the_first_ones_vectors_byte_for_byte(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 40)
    paths[5].write_bytes(b"<html>")
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a"})
    before = Store.open(tmp_path / "store").column("clip")
    loaded: list[str] = []

    def load(name: str, spec: str) -> ToyEncoder:
        loaded.append(name)
        return toy(name, spec)

    corpus = open_corpus([str(tmp_path / "photos")])
    report = embed(corpus, tmp_path / "store", {"siglip": "toy:c"}, load, SMALL)

    store = Store.open(tmp_path / "store")
    assert loaded == ["siglip"]
    assert store.encoders == ("clip", "siglip")
    assert (report.rows, report.failed, report.failures_by_code) == (39, 1, {"not_image": 1})
    assert store.column("clip").tobytes() == before.tobytes()
    kept = [path for path in paths if path != paths[5]]
    np.testing.assert_allclose(
        store.column("siglip").astype(np.float32), expected_vectors(kept, "toy:c").astype(np.float32), atol=1e-3
    )


def test_image_that_changed_before_an_encoder_is_added_becomes_a_failure(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 10)
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a"})
    paths[4].write_bytes(paths[5].read_bytes())

    report = run(tmp_path / "photos", tmp_path / "store", {"dino": "toy:b"})

    assert (report.rows, report.failures_by_code) == (9, {"changed": 1})
    store = Store.open(tmp_path / "store")
    assert len(store.column("clip")) == len(store.column("dino")) == 9
    assert str(paths[4]) not in store.metadata()["uri"].to_pylist()


@pytest.mark.parametrize("damage", ["missing", "short", "flipped"])
def test_part_that_is_not_what_its_marker_says_is_embedded_again(tmp_path: Path, damage: str) -> None:
    make_photos(tmp_path / "photos", 40)
    run(tmp_path / "photos", tmp_path / "store")
    before = tree(tmp_path / "store")
    data = tmp_path / "store" / "part-00001.parquet"
    content = bytearray(data.read_bytes())
    if damage == "missing":
        data.unlink()
    elif damage == "short":
        data.write_bytes(content[:-10])
    else:
        content[len(content) // 2] ^= 1
        data.write_bytes(content)

    # Asking for one encoder must not leave the part without the other.
    report = run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a"})

    assert report.warnings == ["part-00001.parquet does not match its marker: it is embedded again"]
    assert report.embedded == 16
    assert tree(tmp_path / "store") == before


@pytest.mark.parametrize(
    ("encoders", "options", "message"),
    [
        ({"clip": "toy:other"}, SMALL, "encoder.clip.spec is 'toy:a' there and 'toy:other' now"),
        ({"clip": "toy:a"}, replace(SMALL, part_rows=8), "part_rows is 16 there and 8 now"),
        ({"clip": "toy:a"}, replace(SMALL, limits=Limits(max_pixels=99)), "max_pixels is 178956970 there and 99 now"),
        (
            {"clip": "toy:a"},
            replace(SMALL, limits=Limits(allow_truncated=True)),
            "limits.allow_truncated (--allow truncated) is False there and True now",
        ),
    ],
)
def test_other_settings_are_refused_with_the_difference(
    tmp_path: Path, encoders: dict[str, str], options: EmbedOptions, message: str
) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a"})
    before = tree(tmp_path / "store")

    with pytest.raises(ConfigError) as refusal:
        run(tmp_path / "photos", tmp_path / "store", encoders, options)

    assert message in str(refusal.value)
    assert "--overwrite" in str(refusal.value)
    assert tree(tmp_path / "store") == before


def test_other_corpus_in_the_same_store_is_refused(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    make_photos(tmp_path / "others", 4, seed=1)
    run(tmp_path / "photos", tmp_path / "store")
    with pytest.raises(ConfigError, match=r"it was .*photos.* and is .*others.* now"):
        run(tmp_path / "others", tmp_path / "store")


def test_overwrite_embeds_anew_what_another_config_left(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 40)
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a"})
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:z"}, replace(SMALL, overwrite=True))
    run(tmp_path / "photos", tmp_path / "fresh", {"clip": "toy:z"})
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")


def test_parts_that_a_killed_overwrite_left_are_not_taken_for_this_runs(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 40)
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a"})
    (tmp_path / "store" / "manifest.json").unlink()  # the first thing that removing a store does
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:z"})
    run(tmp_path / "photos", tmp_path / "fresh", {"clip": "toy:z"})
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")


def test_new_file_is_told_and_not_embedded_behind_the_plans_back(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "store")
    make_photos(tmp_path / "photos", 5)
    report = run(tmp_path / "photos", tmp_path / "store")
    assert report.rows == 4
    assert report.warnings == ["the corpus has changed since it was planned: new images need --overwrite"]


def test_shards_together_equal_one_run(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 90)
    run(tmp_path / "photos", tmp_path / "one")
    for index in (2, 0, 1):
        run(tmp_path / "photos", tmp_path / "shards", options=replace(SMALL, shard=(index, 3)))
    assert tree(tmp_path / "shards") == tree(tmp_path / "one")


def test_unfinished_store_cannot_be_opened_and_says_how_to_finish(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 40)
    run(tmp_path / "photos", tmp_path / "store", options=replace(SMALL, shard=(0, 2)))
    with pytest.raises(ConfigError, match=r"1 of 3 parts are missing; run the same `blindpairs embed` again"):
        Store.open(tmp_path / "store")


def test_batch_is_halved_until_memory_suffices(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 16)
    encoder = ToyEncoder("toy:a")
    real = encoder.encode

    def greedy(batch: Tensor) -> Tensor:
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(batch)

    encoder.encode = greedy  # type: ignore[method-assign]
    embed(open_corpus([str(tmp_path / "photos")]), tmp_path / "store", {"clip": "x"}, lambda *_: encoder, SMALL)

    assert max(encoder.batches) == 2
    np.testing.assert_allclose(
        Store.open(tmp_path / "store").column("clip").astype(np.float32),
        expected_vectors(paths, "toy:a").astype(np.float32),
        atol=1e-3,
    )


def test_too_little_memory_for_one_image_says_what_to_do(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 2)
    encoder = ToyEncoder("toy:a")

    def greedy(batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    encoder.encode = greedy  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="too little memory for one image"):
        embed(open_corpus([str(tmp_path / "photos")]), tmp_path / "store", {"clip": "x"}, lambda *_: encoder, SMALL)


def test_progress_goes_from_nothing_to_the_total_and_counts_failures(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 40)
    paths[39].write_bytes(b"")
    seen: list[tuple[int, int, int]] = []
    corpus = open_corpus([str(tmp_path / "photos")])
    embed(corpus, tmp_path / "store", {"clip": "toy:a"}, toy, SMALL, lambda *counts: seen.append(counts))
    assert (seen[0], seen[-1]) == ((0, 40, 0), (39, 40, 1))
    assert seen == sorted(seen)


def test_image_is_decoded_once_for_all_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blindpairs.images.workers import DecodePool

    make_photos(tmp_path / "photos", 20)
    asked: list[str] = []
    real = DecodePool.outcomes

    def counted(self: DecodePool, items: object) -> object:
        for item, outcome in real(self, items):  # type: ignore[arg-type]
            asked.append(item.uri)
            yield item, outcome

    monkeypatch.setattr(DecodePool, "outcomes", counted)
    run(tmp_path / "photos", tmp_path / "store", {"a": "toy:a", "b": "toy:b", "c": "toy:c"})
    assert len(asked) == len(set(asked)) == 20


def test_byte_equal_copies_share_an_id_and_keep_both_places(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 4)
    paths[3].write_bytes(paths[0].read_bytes())
    run(tmp_path / "photos", tmp_path / "store")
    metadata = Store.open(tmp_path / "store").metadata().to_pydict()
    assert metadata["image_id"][0] == metadata["image_id"][3]
    assert metadata["uri"][0] != metadata["uri"][3]


def test_marker_counts_what_the_part_holds(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 17)
    Image.new("RGB", (SIZE, SIZE), (9, 9, 9)).save(paths[16])
    run(tmp_path / "photos", tmp_path / "store")
    marker = json.loads((tmp_path / "store" / "part-00001.done.json").read_text())
    assert (marker["rows"], marker["failed"], marker["flags"]) == (1, 0, {"low_information": 1})


def test_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="photos"):
        run(tmp_path / "photos", tmp_path / "store")


def test_pipelined_batches_never_cross_a_part(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 40)
    encoder = ToyEncoder("toy:a")
    embed(open_corpus([str(tmp_path / "photos")]), tmp_path / "store", {"clip": "x"}, lambda *_: encoder, SMALL)
    assert encoder.batches == [8, 8, 8, 8, 8]


def test_unmounted_corpus_costs_no_finished_vector_when_an_encoder_is_added(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 20)
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a"})
    for path in sorted((tmp_path / "photos").iterdir())[:10]:
        path.rename(tmp_path / path.name)
    with pytest.raises(InputError, match=r"is in the store but cannot be read now .*: nothing was changed"):
        run(tmp_path / "photos", tmp_path / "store", {"dino": "toy:b"})
    for path in sorted(tmp_path.glob("*.png")):
        path.rename(tmp_path / "photos" / path.name)
    report = run(tmp_path / "photos", tmp_path / "store", {"dino": "toy:b"})
    assert (report.rows, report.failed) == (20, 0)


def test_overwrite_with_a_folder_without_images_costs_nothing(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    run(tmp_path / "photos", tmp_path / "store")
    before = tree(tmp_path / "store")
    with pytest.raises(InputError, match="notes"):
        run(tmp_path / "notes", tmp_path / "store", options=replace(SMALL, overwrite=True))
    assert tree(tmp_path / "store") == before


def test_repair_with_other_weights_is_refused(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "store", {"clip": "toy:a", "dino": "toy:b"})
    (tmp_path / "store" / "part-00000.done.json").unlink()

    def load(name: str, spec: str) -> ToyEncoder:
        return ToyEncoder(spec, dimension=8 if name == "clip" else 9)

    corpus = open_corpus([str(tmp_path / "photos")])
    with pytest.raises(ConfigError, match=r"encoder\.dino\.dimension is 8 there and 9 now"):
        embed(corpus, tmp_path / "store", {"clip": "toy:a"}, load, SMALL)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_lost_plan_is_made_again_where_the_corpus_is_as_it_was(tmp_path: Path, damage: str) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "store")
    before = tree(tmp_path / "store")
    plan = tmp_path / "store" / "plan.parquet"
    plan.unlink() if damage == "missing" else plan.write_bytes(plan.read_bytes()[:-9])
    report = run(tmp_path / "photos", tmp_path / "store")
    assert (report.rows, report.embedded) == (4, 0)
    assert "plan.parquet was missing or damaged: it was made again" in report.warnings[0]
    assert tree(tmp_path / "store") == before


def test_lost_plan_of_a_corpus_that_changed_is_told_with_its_price(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "store")
    (tmp_path / "store" / "plan.parquet").unlink()
    make_photos(tmp_path / "photos", 5)
    with pytest.raises(ConfigError, match="is missing or damaged: --overwrite embeds everything again"):
        run(tmp_path / "photos", tmp_path / "store")


def test_file_from_the_far_future_is_embedded(tmp_path: Path) -> None:
    import os

    path = make_photos(tmp_path / "photos", 1)[0]
    os.utime(path, (13_569_465_600, 13_569_465_600))  # the year 2400: more nanoseconds than 64 bits hold
    assert run(tmp_path / "photos", tmp_path / "store").rows == 1


def test_work_folder_inside_the_corpus_is_not_taken_for_images(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "photos" / "work")
    report = run(tmp_path / "photos", tmp_path / "other")
    assert (report.rows, report.failed) == (4, 0)
