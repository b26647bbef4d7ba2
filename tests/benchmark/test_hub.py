"""The folder for the Hugging Face hub: `datasets` reads it, its record describes it, and nothing foreign is touched."""

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from nasty_texts import NASTY
from pictured_pairs import benchmark_of
from PIL import Image

from blindpairs.benchmark import HeldImages, Question
from blindpairs.benchmark.checks import Finding, check
from blindpairs.benchmark.hub import export_hub
from blindpairs.benchmark.native import DATA, read_native
from blindpairs.errors import InputError


def record_of(folder: Path) -> dict[str, Any]:
    loaded = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_folder_holds_data_card_and_record_and_reads_back_whole(tmp_path: Path) -> None:
    benchmark = replace(benchmark_of(5), provenance={"made": "by hand"})
    exported = export_hub(benchmark, tmp_path / "out")
    assert sorted(files_of(tmp_path / "out")) == ["README.md", "benchmark.json", DATA]
    assert (exported.folder, exported.pairs, exported.refused) == (tmp_path / "out", 5, {})
    read = read_native(tmp_path / "out")
    assert replace(read, images=benchmark.images) == benchmark
    assert dict(read.images(read.image_ids)) == dict(benchmark.images(benchmark.image_ids))


def test_record_states_counts_fingerprint_checks_and_the_hash_of_the_data(tmp_path: Path) -> None:
    benchmark = benchmark_of(4)
    pairs = list(benchmark.pairs)
    pairs[1] = replace(pairs[1], patterns=("Texts", "State and Condition"), second=None, statement_a="", statement_b="")
    pairs[3] = replace(pairs[3], control_of=pairs[0].pair_id)
    benchmark = replace(benchmark, pairs=tuple(pairs), provenance={"seed": 7})
    findings = check(benchmark)
    export_hub(benchmark, tmp_path / "out", findings=findings)
    record = record_of(tmp_path / "out")
    assert {key: value for key, value in record.items() if key not in ("schema_version", "blindpairs")} == {
        "name": "doors",
        "fingerprint": benchmark.fingerprint,
        "data": DATA,
        "sha256": hashlib.sha256((tmp_path / "out" / DATA).read_bytes()).hexdigest(),
        "images": True,
        "pairs": 4,
        "blind_pairs": 3,
        "controls": 1,
        "questions": 4,
        "second_questions": 3,
        "statements": 3,
        "patterns": {"State and Condition": 4, "Color and Appearance": 0, "Texts": 1},
        "ground_truth": "original",
        "other_ground_truths": [],
        "checks": [asdict(finding) for finding in findings],
        "provenance": {"seed": 7},
    }


def test_pairs_that_the_checks_left_out_are_listed(tmp_path: Path) -> None:
    benchmark = benchmark_of(2)
    findings = [
        Finding("gone", "same_answer", "'Open' is the answer for both images"),
        Finding(benchmark.pairs[0].pair_id, "no_pattern", "it has none", refuses=False),
    ]
    exported = export_hub(benchmark, tmp_path / "out", findings=findings)
    assert exported.refused == {"gone": "'Open' is the answer for both images"}


def test_without_images_there_are_ids_and_uris_and_the_card_says_so(tmp_path: Path) -> None:
    benchmark = benchmark_of(3)
    held = benchmark.images
    assert isinstance(held, HeldImages)
    held.images.clear()  # none is needed
    export_hub(benchmark, tmp_path / "out", images=False)
    assert read_native(tmp_path / "out").pairs == benchmark.pairs
    assert record_of(tmp_path / "out")["images"] is False
    assert "**This copy has no images.**" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_same_benchmark_gives_the_same_bytes_and_replaces_its_older_export(tmp_path: Path) -> None:
    export_hub(benchmark_of(4), tmp_path / "one")
    export_hub(benchmark_of(9), tmp_path / "other")
    export_hub(benchmark_of(4), tmp_path / "other")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")


def test_what_else_lies_in_the_folder_stays(tmp_path: Path) -> None:
    export_hub(benchmark_of(1), tmp_path)
    others = {"exports/mmvp/Questions.csv": b"x", ".gitattributes": b"y", "LICENSE": b"z"}
    for name, content in others.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    export_hub(benchmark_of(2), tmp_path)
    assert {name: files_of(tmp_path)[name] for name in others} == others
    assert read_native(tmp_path).pairs == benchmark_of(2).pairs


def test_export_that_was_stopped_between_its_files_is_finished_by_the_next(tmp_path: Path) -> None:
    export_hub(benchmark_of(2), tmp_path / "whole")
    for missing in (["README.md"], ["README.md", "benchmark.json"]):
        folder = tmp_path / f"without-{len(missing)}"
        export_hub(benchmark_of(2), folder)
        for name in missing:
            (folder / name).unlink()
        export_hub(benchmark_of(2), folder)
        assert files_of(folder) == files_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("README.md", b"# mine", "holds README.md and no export of blindpairs"),
        ("photo.jpg", b"", "holds photo.jpg and no export of blindpairs"),
        ("benchmark.json", b"{}", "was not written by blindpairs"),
        ("data/train-00000-of-00001.parquet", b"", "also holds train-00000-of-00001.parquet"),
        ("data/test-00001-of-00002.parquet", b"", "also holds test-00001-of-00002.parquet"),
    ],
)
def test_folder_of_somebody_else_is_refused_and_left_as_it_was(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        export_hub(benchmark_of(1), tmp_path / "out")
    assert files_of(tmp_path / "out") == {name: content}


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"x")
    with pytest.raises(InputError, match="out is a file: name a folder"):
        export_hub(benchmark_of(1), tmp_path / "out")


def test_data_that_blindpairs_did_not_write_is_refused_under_its_own_name_too(tmp_path: Path) -> None:
    (tmp_path / DATA).parent.mkdir()
    (tmp_path / DATA).write_bytes(b"PAR1 of another tool")
    with pytest.raises(InputError, match="was not written by blindpairs"):
        export_hub(benchmark_of(1), tmp_path)
    assert (tmp_path / DATA).read_bytes() == b"PAR1 of another tool"


def test_unreadable_image_leaves_the_older_export_whole(tmp_path: Path) -> None:
    export_hub(benchmark_of(2), tmp_path / "out")
    before = files_of(tmp_path / "out")
    broken = benchmark_of(3)
    assert isinstance(broken.images, HeldImages)
    del broken.images.images[broken.pairs[1].image_id_a]
    with pytest.raises(InputError, match=f"pair {broken.pairs[1].pair_id}"):
        export_hub(broken, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


def test_benchmark_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doors has no pairs to export"):
        export_hub(replace(benchmark_of(1), pairs=()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_licences_are_said(tmp_path: Path) -> None:
    exported = export_hub(benchmark_of(2, license=""), tmp_path / "out")
    assert "Pairs without a licence of their images: 2. Find it before you publish them." in exported.notes


def test_datasets_reads_the_folder_offline_with_images_and_typed_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets: Any = pytest.importorskip("datasets", reason="datasets is not installed: install blindpairs[dev]")
    texts = [text for name, text in NASTY.items() if name not in ("surrogate", "empty")]
    benchmark = benchmark_of(len(texts) + 1)
    pairs = [
        replace(pair, question=Question(text, (text, "Other"), (0, 1)))
        for pair, text in zip(benchmark.pairs[:-1], texts, strict=True)
    ]
    benchmark = replace(benchmark, pairs=(*pairs, replace(benchmark.pairs[-1], question=None, second=None)))
    export_hub(benchmark, tmp_path / "out")
    (tmp_path / "out" / "exports").mkdir()
    (tmp_path / "out" / "exports" / "test-1.csv").write_text("not,of\nthe,data\n")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["test"]
    images = dict(benchmark.images(benchmark.image_ids))
    assert len(loaded["test"]) == len(benchmark.pairs)
    for row, pair in zip(loaded["test"], benchmark.pairs, strict=True):
        assert row["pair_id"] == pair.pair_id
        assert row["options"] == (list(pair.question.options) if pair.question else None)
        assert row["question"] == (pair.question.text if pair.question else None)
        assert row["patterns"] == list(pair.patterns)
        data = images[pair.image_id_a]
        assert isinstance(data, bytes)
        assert row["image_a"].tobytes() == Image.open(io.BytesIO(data)).tobytes()
    assert loaded["test"][0]["second"]["answers"] == [1, 0]
    assert loaded["test"][-1]["second"] is None
