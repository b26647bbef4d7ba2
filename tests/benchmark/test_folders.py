"""Folders of foreign formats: no file of somebody else is lost, nothing empty is written, records are checked."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pictured_pairs import benchmark_of

from blindpairs.benchmark import Benchmark
from blindpairs.benchmark.foreign import Exported
from blindpairs.benchmark.lmms_eval import export_lmms_eval
from blindpairs.benchmark.mmvp import export_mmvp, import_mmvp
from blindpairs.benchmark.mmvp_vlm import export_mmvp_vlm
from blindpairs.benchmark.naturalbench import export_naturalbench
from blindpairs.benchmark.vlmevalkit import export_vlmevalkit
from blindpairs.errors import InputError

EXPORTS: dict[str, Callable[[Benchmark, Path], Exported]] = {
    "mmvp": export_mmvp,
    "mmvp-vlm": export_mmvp_vlm,
    "naturalbench": export_naturalbench,
    "vlmevalkit": export_vlmevalkit,
    "lmms-eval": export_lmms_eval,
}


@pytest.mark.parametrize("form", EXPORTS)
def test_file_that_was_added_below_an_export_is_never_removed(tmp_path: Path, form: str) -> None:
    EXPORTS[form](benchmark_of(2), tmp_path / "out")
    below = next((place for place in sorted((tmp_path / "out").rglob("*")) if place.is_dir()), tmp_path / "out" / "new")
    below.mkdir(exist_ok=True)
    added = below / "answers.jsonl"
    added.write_text("an afternoon of work")
    with pytest.raises(InputError, match=f"also holds {added.relative_to(tmp_path / 'out')}, which blindpairs did not"):
        EXPORTS[form](benchmark_of(3), tmp_path / "out")
    assert added.read_text() == "an afternoon of work"


def test_files_that_systems_leave_in_every_folder_do_not_keep_an_export_from_its_place(tmp_path: Path) -> None:
    export_mmvp(benchmark_of(2), tmp_path / "out")
    for name in (".DS_Store", "MMVP Images/.DS_Store", "MMVP Images/Thumbs.db", "desktop.ini"):
        (tmp_path / "out" / name).write_bytes(b"\0")
    assert export_mmvp(benchmark_of(3), tmp_path / "out").pairs == 3


@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize("only", ["nothing", "refused", "controls"])
def test_format_that_would_get_no_blind_pair_is_an_error_and_no_folder(tmp_path: Path, form: str, only: str) -> None:
    made = benchmark_of(2)
    pairs = {
        "nothing": (),
        "refused": tuple(replace(pair, question=None, statement_a="") for pair in made.pairs),
        "controls": tuple(replace(pair, control_of="another") for pair in made.pairs),
    }[only]
    with pytest.raises(InputError, match=r"can hold no blind pair of doors: (?:it has |its )"):
        EXPORTS[form](replace(made, pairs=pairs), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"name": 5}, {"patterns": "abc"}, {"patterns": [1]}, {"ground_truth": []}])
def test_record_that_was_changed_is_an_error_that_names_the_field(tmp_path: Path, change: dict[str, object]) -> None:
    export_mmvp(benchmark_of(1), tmp_path / "out")
    record = tmp_path / "out" / "blindpairs.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(InputError, match=f"blindpairs.json was changed: its {next(iter(change))} is"):
        import_mmvp(tmp_path / "out")


def test_benchmark_without_a_name_or_a_taxonomy_comes_back_without(tmp_path: Path) -> None:
    export_mmvp(replace(benchmark_of(1), name="", patterns=()), tmp_path / "out")
    read = import_mmvp(tmp_path / "out").benchmark
    assert (read.name, read.patterns) == ("", ())
