"""The model of a run is its newest checkpoint that is complete; without one, the message says what there is."""

import json
from pathlib import Path

import pytest

from blindpairs.errors import InputError
from blindpairs.vlm.runs import missing_weights, newest_checkpoint


def checkpoint(run: Path, step: int, *, whole: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if whole:
        (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_highest_step_that_is_complete_is_taken(tmp_path: Path) -> None:
    run = tmp_path / "mof"
    checkpoint(run, 9)
    wanted = checkpoint(run, 100)
    checkpoint(run, 200, whole=False)
    (run / "checkpoint-best").mkdir()
    (run / ".checkpoint-300.host.1.abc.tmp").mkdir()
    assert newest_checkpoint(tmp_path, "mof") == wanted


def test_run_that_is_not_there_lists_those_that_are_and_says_how_to_train(tmp_path: Path) -> None:
    with pytest.raises(InputError) as none:
        newest_checkpoint(tmp_path / "runs", "mof")
    assert str(none.value) == (
        f"run:mof: there is no such run, there are none in {tmp_path / 'runs'}; train one with `blindpairs train-mof`"
    )
    checkpoint(tmp_path / "runs" / "a", 1)
    checkpoint(tmp_path / "runs" / "b", 1)
    (tmp_path / "runs" / "failed-before-its-first-step").mkdir()
    with pytest.raises(InputError, match=r"there is no such run, there are a, b; train one with"):
        newest_checkpoint(tmp_path / "runs", "mof")


def test_run_without_a_complete_checkpoint_says_so(tmp_path: Path) -> None:
    checkpoint(tmp_path / "mof", 1, whole=False)
    with pytest.raises(InputError, match=r"has no complete checkpoint yet: run `blindpairs train-mof` to resume it"):
        newest_checkpoint(tmp_path, "mof")


def test_every_file_of_sharded_weights_must_be_there(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1, whole=False)
    assert missing_weights(folder) == ["model.safetensors"]
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    (folder / parts["a"]).write_bytes(b"")
    assert missing_weights(folder) == [parts["b"]]
    (folder / parts["b"]).write_bytes(b"")
    assert missing_weights(folder) == []
    (folder / "model.safetensors.index.json").write_text("{")
    assert missing_weights(folder) == ["model.safetensors.index.json (it is damaged)"]
