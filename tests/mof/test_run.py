"""The folder of a run: whole or not there, one writer, one recipe, each step in the log once."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from blindpairs.errors import ConfigError, InputError, Locked
from blindpairs.mof.recipe import Rates, Recipe, Stage
from blindpairs.mof.run import METRICS, Run

TRAINED = Stage(rates=Rates(projectors=1e-3))
RECIPE = Recipe(clip="demo:clip", dino="demo:dino", language_model="demo:lm", stage1=TRAINED, stage2=TRAINED)
FACTS = {"data": {"stage1": "aa"}, "weights": {"clip": "bb"}}


def test_other_recipe_other_data_and_other_weights_are_refused_with_the_difference(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.start(RECIPE, FACTS)
    run.log([{"stage": 1, "step": 1}])
    run.start(RECIPE, FACTS)
    run.start(replace(RECIPE, stage1=replace(TRAINED, data="moved.json", save_every=7)), FACTS)
    with pytest.raises(ConfigError, match=r"seed was 42, is 7; data stage1 has changed; weights clip has changed\n"):
        run.start(replace(RECIPE, seed=7), {"data": {"stage1": "ab"}, "weights": {"clip": "bc"}})
    assert run.recipe().seed == RECIPE.seed


def test_what_no_step_was_made_with_may_be_mended(tmp_path: Path) -> None:
    run, mended = Run(tmp_path / "run"), {"data": {"stage1": "ab", "stage2": "cc"}, "weights": {"clip": "bc"}}
    run.start(RECIPE, FACTS)
    run.record({"checked": {"stage1": {}}})
    run.start(replace(RECIPE, seed=7), mended)  # no stage has begun
    assert run.recipe().seed == 7
    assert "checked" not in run.facts()
    run.log([{"stage": 1, "step": 1}])
    run.record({"checked": {"stage1": {}, "stage2": {}}})
    run.start(replace(RECIPE, seed=7), mended)
    assert set(run.facts()["checked"]) == {"stage1", "stage2"}
    other = replace(RECIPE, seed=7, skip="unusable", stage2=replace(TRAINED, template="plain"))
    run.start(other, {"data": {"stage2": "dd"}})  # stage 2 has not
    assert run.recipe() == other
    assert run.facts()["data"] == {"stage1": "ab", "stage2": "dd"}
    assert set(run.facts()["checked"]) == {"stage1"}
    with pytest.raises(ConfigError, match="data stage1 has changed"):
        run.start(other, {"data": {"stage1": "aa"}})


def test_data_of_a_later_stage_are_recorded_when_it_starts(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.start(RECIPE, FACTS)
    run.log([{"stage": 1, "step": 1}])
    run.start(RECIPE, {"data": {"stage2": "cc"}})
    assert run.facts()["data"] == {"stage1": "aa", "stage2": "cc"}
    run.log([{"stage": 2, "step": 1}])
    with pytest.raises(ConfigError, match="data stage2 has changed"):
        run.start(RECIPE, {"data": {"stage2": "dd"}})


def test_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no run: it has no config.toml"):
        Run(tmp_path).recipe()


def test_checkpoint_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    run = Run(tmp_path)
    final = run.stage(1) / "checkpoint-5"

    def cut_short() -> None:
        with run.saving(final) as aside:
            (aside / "optimizer.pt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert run.checkpoint(1) is None
    with run.saving(final) as aside:
        (aside / "optimizer.pt").write_text("whole")
    with run.saving(run.stage(1) / "checkpoint-12"):
        pass
    assert run.checkpoint(1) == run.stage(1) / "checkpoint-12"
    run.drop_checkpoints(1, keep=final)
    assert run.checkpoint(1) == final
    with run.locked():  # what a killed process left
        assert sorted(path.name for path in run.stage(1).iterdir()) == ["checkpoint-5"]
    assert (final / "optimizer.pt").read_text() == "whole"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    hold = (
        f"from pathlib import Path\nfrom blindpairs.mof.run import Run\nwith Run(Path({str(tmp_path)!r})).locked():\n"
    )
    command = [sys.executable, "-c", hold + "    print('held', flush=True)\n    input()"]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Locked), Run(tmp_path).locked():
            pass
        other.communicate("\n")
    with Run(tmp_path).locked():
        pass


def test_log_has_each_step_once_after_a_rewind(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log([{"stage": 1, "step": 1}, {"stage": 1, "step": 2}, {"stage": 2, "step": 1}])
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"stage": 2, "st')  # cut off
    assert len(run.rows()) == 3
    run.rewind(1, 1)
    run.log([{"stage": 1, "step": 2}])
    assert [(row["stage"], row["step"]) for row in run.rows()] == [(1, 1), (1, 2)]


@pytest.mark.parametrize("line", [b'{"stage": 1, "st', b"\xff", b"[" * 100_000, b"5", b'{"stage": 1}', b""])
def test_damaged_line_of_the_log_is_named(tmp_path: Path, line: bytes) -> None:
    run = Run(tmp_path)
    run.log([{"stage": 1, "step": 1}])
    with (tmp_path / METRICS).open("ab") as file:
        file.write(line + b"\n")
    run.log([{"stage": 1, "step": 3}])
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2 is damaged \(.*\): repair it, or remove it"):
        run.rows()


def test_stage_ends_with_its_figures_and_without_its_checkpoints(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.saving(run.stage(2) / "checkpoint-3"):
        pass
    assert run.ended(2) is None
    run.end(2, {"loss": 0.5})
    ended = run.ended(2)
    assert ended is not None
    assert ended["loss"] == 0.5
    assert run.checkpoint(2) is None
