"""Where a model lies is told without loading it, and what changed there is never taken for the same."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from blindpairs.encoders import origins
from blindpairs.encoders.origins import file_record, is_unchanged, origin_of
from blindpairs.errors import BlindpairsError
from blindpairs.workspace import demo_folder


def times(file: Path) -> tuple[int, int]:
    return file.stat().st_atime_ns, file.stat().st_mtime_ns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "model" / "checkpoint-1").mkdir()
    return tmp_path / "model"


def test_specs_of_this_machine_are_their_folders_and_files(folder: Path) -> None:
    assert origin_of("demo:clip") == (demo_folder() / "clip").resolve()
    assert origin_of(f"open_clip:local-dir:{folder}") == folder
    assert origin_of(f"hf:{folder}?size=64") == folder
    file = folder / "model.safetensors"
    assert origin_of(f"open_clip:ViT-B-32/{file}") == file
    assert origin_of("open_clip:ViT-B-32/openai") is None
    assert origin_of("timm:vit_small_patch14_dinov2.lvd142m") is None
    with pytest.raises(BlindpairsError, match="there is no folder"):
        origin_of(f"hf:{folder}/not-here")


def test_relative_names_are_of_the_folder_that_they_are_given_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert origin_of("hf:model") == folder
    monkeypatch.chdir(folder)
    with pytest.raises(BlindpairsError):
        origin_of("hf:model")


def test_what_is_untouched_is_the_same_and_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = json.loads(json.dumps(file_record(folder)))

    def never(path: Path) -> str:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr(origins, "sha256_file", never)
    assert is_unchanged(seen, folder)
    (folder / "checkpoint-1" / "more").write_text("sub-folders are not loaded")
    assert is_unchanged(seen, folder)


def test_copied_bytes_are_the_same_although_all_times_differ(folder: Path) -> None:
    seen = file_record(folder)
    file = folder / "model.safetensors"
    file.unlink()
    file.write_bytes(b"weights")
    os.utime(file, ns=(1, 1))
    assert is_unchanged(seen, folder)


def other_bytes(folder: Path) -> None:
    """Of the same size, with the times of before: only the time of the change itself, which nobody sets, differs."""
    file = folder / "model.safetensors"
    before = times(file)
    time.sleep(0.02)  # file systems count time in steps of some milliseconds
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=before)


CHANGES: dict[str, Callable[[Path], object]] = {
    "other bytes of the same size and time": other_bytes,
    "one file more": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"more"),
    "one file less": lambda folder: (folder / "config.json").unlink(),
    "longer": lambda folder: (folder / "config.json").write_text("{} "),
    "no folder": lambda folder: folder.rename(folder.with_name("away")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_not_the_same(folder: Path, change: str) -> None:
    seen = file_record(folder)
    CHANGES[change](folder)
    assert not is_unchanged(seen, folder)


def test_other_release_of_a_library_is_not_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = file_record(folder)
    monkeypatch.setattr(origins, "version", lambda name: "99")
    assert not is_unchanged(seen, folder)


@pytest.mark.parametrize("damage", [{"files": 3}, {"files": {}}, {"origin": None}, {"libraries": {}}])
def test_damaged_record_is_not_the_same(folder: Path, damage: dict[str, object]) -> None:
    assert not is_unchanged(file_record(folder) | damage, folder)
    cut = file_record(folder)
    cut["files"] = {name: values[:2] for name, values in cut["files"].items()}
    assert not is_unchanged(cut, folder)


def test_file_of_the_hub_is_the_same_only_while_it_is_of_the_current_revision(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--clip"
    file = repository / "snapshots" / "abc" / "open_clip_model.safetensors"
    for path, text in ((file, "weights"), (repository / "refs" / "main", "abc")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    seen = file_record(file)
    assert is_unchanged(seen, file)
    (repository / "refs" / "main").write_text("def")
    assert not is_unchanged(seen, file)
