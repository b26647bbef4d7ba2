"""The log of the demo's sweep: torn lines, and runs that are done."""

import json
from pathlib import Path

from blindpairs.demo.sweep import LOG, read_sweep, run_sweep
from blindpairs.mof.presets import load_preset
from blindpairs.mof.sweep import planned


def test_a_torn_last_line_is_taken_away(tmp_path: Path) -> None:
    log = tmp_path / LOG
    log.write_text('{"run": "one"}\n{"run": "tw', encoding="utf-8")
    assert read_sweep(log) == [{"run": "one"}]
    with log.open("a", encoding="utf-8") as file:
        file.write('{"run": "two"}\n')
    assert [row["run"] for row in read_sweep(log)] == ["one", "two"]


def test_without_a_log_nothing_is_done(tmp_path: Path) -> None:
    assert read_sweep(tmp_path / LOG) == []


def test_runs_that_have_a_line_are_not_trained_again(tmp_path: Path) -> None:
    found = load_preset("demo-sweep")
    runs = planned(found.name, found.recipe, found.runs)
    assert len(runs) == 21
    lines = "".join(json.dumps({"run": one.name}) + "\n" for one in runs)
    (tmp_path / LOG).write_text(lines, encoding="utf-8")
    assert list(run_sweep(tmp_path)) == []
    assert [path.name for path in tmp_path.iterdir()] == [LOG]
