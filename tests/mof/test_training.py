"""A run ends in a model that others load; killed at any step, it ends in the same model; another recipe is refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_run import run_small, small_recipe

from blindpairs.errors import ConfigError, InputError
from blindpairs.mof.building import build_mof, load_mof
from blindpairs.mof.data import StageData
from blindpairs.mof.recipe import Lora, Rates, Recipe, with_setting
from blindpairs.mof.run import DONE, Run
from blindpairs.mof.stages import accumulation, fitted, freeze, part_of
from blindpairs.mof.training import Watching, train
from blindpairs.progress import Progress
from blindpairs.system import child_environment
from blindpairs.vlm import Failure


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small run, trained without a stop."""
    folder = tmp_path_factory.mktemp("finished")
    run_small(folder, small_recipe(folder))
    return folder


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    model = Run(folder / "runs" / "run").model()
    assert model is not None
    return load_file(model / "model.safetensors")


def steps_of(folder: Path) -> list[tuple[int, int, float, float]]:
    rows = Run(folder / "runs" / "run").rows()
    return [(row["stage"], row["step"], row["loss"], row["learning_rate"]) for row in rows]


def lives(folder: Path, *places: str) -> list[int]:
    """How each process of the small run ended that goes on until one of `places`."""
    script = Path(__file__).parents[1] / "small_run.py"
    environment = child_environment() | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *places], env=environment, capture_output=True, text=True, check=True
    )
    return [int(code) for code in done.stdout.split()]


def test_killed_run_ends_in_the_same_weights_and_log_and_never_loads_half_a_checkpoint(
    tmp_path: Path, finished: Path
) -> None:
    small_recipe(tmp_path)
    # Before the first checkpoint, right at one, after the last step, in stage 2, and after its last step.
    killed = lives(tmp_path, "1:2", "1:3", "1:8", "2:4", "2:8")
    assert killed == [-signal.SIGKILL] * 5
    run = Run(tmp_path / "runs" / "run")
    assert run.model() is None
    torn = run.stage(2) / ".saving" / "checkpoint-7"  # as a process leaves it that is killed while it writes
    torn.mkdir(parents=True)
    (torn / "trained.safetensors").write_bytes(b"half")
    assert run.checkpoint(2) == run.stage(2) / "checkpoint-6"
    assert lives(tmp_path, "end") == [0]
    assert steps_of(tmp_path) == steps_of(finished)
    wanted, found = trained_weights(finished), trained_weights(tmp_path)
    assert wanted.keys() == found.keys()
    assert [name for name, tensor in wanted.items() if not torch.equal(tensor, found[name])] == []


def test_every_step_is_in_the_log_once_with_rates_and_ranks(finished: Path) -> None:
    rows = Run(finished / "runs" / "run").rows()
    assert [(row["stage"], row["step"]) for row in rows] == [(stage, step) for stage in (1, 2) for step in range(1, 9)]
    last = rows[-1]
    assert last["tokens_per_second"] > 0
    assert 0 < last["flops_utilisation"] < 1
    ranks = next(row["effective_rank"] for row in rows if "effective_rank" in row)
    assert set(ranks) == {"multi_modal_projector", "aux_projector"}
    assert all(1 < rank < 128 for rank in ranks.values())


def test_model_of_a_run_is_loaded_by_transformers_in_a_fresh_process_and_answers(finished: Path) -> None:
    model = Run(finished / "runs" / "run").model()
    program = f"""
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained({str(model)!r})
model = AutoModelForImageTextToText.from_pretrained({str(model)!r}, trust_remote_code=True)
turn = {{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": "which?"}}]}}
text = processor.apply_chat_template([turn], add_generation_prompt=True)
inputs = processor(images=[Image.new("RGB", (64, 64))], text=text, return_tensors="pt")
answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
print(type(model).__name__, answer.shape[1] - inputs["input_ids"].shape[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": ""},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    name, tokens = done.stdout.split()[-2:]
    assert name == "MofLlavaForConditionalGeneration"
    assert 1 <= int(tokens) <= 3


def test_recipe_of_the_readme_asks_a_run_and_reads_the_tokens_of_both_towers(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^```python3\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    shutil.copytree(finished / "runs" / "run", tmp_path / "blindpairs-work" / "runs" / "demo-interleaved")
    Image.new("RGB", (90, 60), "red").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"Path": Path}
    exec(recipe, found)
    (reply,) = found["replies"]
    assert reply.key == "mine"
    assert not isinstance(reply, Failure) or reply.code == "empty"
    clip, dino, tokens = (found[name] for name in ("clip", "dino", "tokens"))
    assert (clip.shape, dino.shape, tokens.shape[:2]) == ((1, 64, 128), (1, 64, 128), (1, 128))
    assert torch.equal(tokens, torch.stack(found["mof"].model.get_image_features(found["pixels"]).pooler_output))


def test_what_is_done_is_not_done_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*.safetensors")}
    assert run_small(finished, small_recipe(finished)).steps == 0
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*.safetensors")} == before


def test_another_recipe_and_other_data_are_refused_and_the_run_stays(finished: Path) -> None:
    recipe = small_recipe(finished)
    with pytest.raises(ConfigError, match=r"is a run of another recipe: fusion.mode was 'interleaved', is 'clip'\n"):
        run_small(finished, with_setting(recipe, "mode", "clip"))
    rows = json.loads((finished / "data.json").read_text())
    other = finished / "other.json"
    other.write_text(json.dumps(rows[:-1]))
    with pytest.raises(ConfigError, match="data stage1 has changed"):
        run_small(finished, replace(recipe, stage1=replace(recipe.stage1, data=str(other))))
    assert run_small(finished, recipe).steps == 0


@pytest.mark.slow  # three processes that load everything
def test_two_processes_do_the_steps_of_one(tmp_path: Path, finished: Path) -> None:
    small_recipe(tmp_path)
    script = Path(__file__).parents[1] / "small_run.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(script), str(tmp_path), "together"]
    environment = child_environment() | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, capture_output=True, check=True)
    # Until the end of the epoch, 18 samples in fours, which two processes fill up so that both have as many.
    whole = [loss for _, _, loss, _ in steps_of(finished)][:4]
    assert [loss for _, _, loss, _ in steps_of(tmp_path)][:4] == pytest.approx(whole, rel=1e-5)
    assert [(stage, step) for stage, step, _, _ in steps_of(tmp_path)] == [
        (stage, step) for stage, step, _, _ in steps_of(finished)
    ]
    assert Run(tmp_path / "runs" / "run").model() is not None


def test_stages_one_by_one_are_the_same_as_both(tmp_path: Path, finished: Path) -> None:
    recipe, folder = small_recipe(tmp_path), tmp_path / "runs" / "run"
    first = train(recipe, folder, stages=[1])
    assert first.steps == 8
    projectors = load_file(folder / "stage1" / "trained.safetensors")
    assert {part_of(name) for name in projectors} == {"projectors"}
    loaded, _ = load_mof(first.model)
    parameters = dict(loaded.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in projectors.items())
    assert train(recipe, folder, stages=[1]).steps == 0
    assert train(recipe, folder, stages=[2]).steps == 8
    wanted, found = trained_weights(finished), trained_weights(tmp_path)
    assert [name for name, tensor in wanted.items() if not torch.equal(tensor, found[name])] == []


def test_stage_1_after_a_stage_2_that_had_none_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    recipe = replace(recipe, stage2=replace(recipe.stage2, steps=1), stage1=replace(recipe.stage1, steps=1))
    folder = tmp_path / "runs" / "second"
    train(recipe, folder, stages=[2])
    for stages in ([1], [1, 2]):
        with pytest.raises(ConfigError, match="was trained without stage 1, which cannot follow it: name another run"):
            train(recipe, folder, stages=stages)
    assert train(recipe, folder, stages=[2]).steps == 0


def test_stage_trains_the_parts_that_have_a_rate_and_nothing_else(tmp_path: Path, finished: Path) -> None:
    recipe = small_recipe(finished)
    before = build_mof("demo:clip", "demo:dino", recipe.language_model, recipe.fusion, seed=recipe.seed)[0].state_dict()
    only_language = replace(recipe, stage1=replace(recipe.stage1, rates=Rates(language_model=1e-3, dino=1e-3)))
    report = train(only_language, tmp_path / "runs" / "other", stages=[1])
    after = load_file(report.model / "model.safetensors")
    changed = {part_of(name) for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"language_model", "dino"}


def test_features_that_are_kept_train_as_pixels_do(tmp_path: Path, finished: Path) -> None:
    recipe = replace(small_recipe(finished), cache_features=True)
    report = run_small(tmp_path, recipe)
    cached = Run(report.folder).rows()
    assert (tmp_path / "prepared" / "features").is_dir()
    pairs = zip(cached, Run(finished / "runs" / "run").rows(), strict=True)
    assert max(abs(one["loss"] - other["loss"]) for one, other in pairs) < 2e-3  # features are kept in float16


def test_packed_samples_and_low_rank_adapters_end_in_a_plain_model(tmp_path: Path, finished: Path) -> None:
    recipe = small_recipe(finished)
    second = replace(recipe.stage2, packing=True, max_length=400, steps=3, lora=Lora(4, 8, 0.0), group_by_length=False)
    report = run_small(tmp_path, replace(recipe, stage2=second))
    plain, found = trained_weights(finished), load_file(report.model / "model.safetensors")
    assert found.keys() == plain.keys()  # merged: no name of an adapter
    before = load_file(report.folder / "stage1" / "trained.safetensors")
    assert any(not torch.equal(found[name], tensor) for name, tensor in before.items())


def test_packed_run_that_goes_on_in_a_later_epoch_does_the_steps_of_one_that_never_stopped(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    second = replace(recipe.stage2, packing=True, max_length=700, batch=2, steps=0, epochs=3, group_by_length=False)
    packed = replace(recipe, stage1=replace(recipe.stage1, steps=1), stage2=second)
    whole = Run(run_small(tmp_path, packed, "whole").folder).rows()
    last = whole[-1]["step"]

    def bars(label: str, unit: str) -> Progress:
        def show(done: int, total: int, failed: int = 0, /) -> None:
            if unit == "steps" and label.endswith("stage 2") and done == last - 1:
                raise KeyboardInterrupt

        return show

    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path, packed, "stopped", Watching(bars))
    assert run_small(tmp_path, packed, "stopped").steps < last
    stopped = Run(tmp_path / "runs" / "stopped").rows()
    assert [(row["step"], row["loss"]) for row in stopped] == [(row["step"], row["loss"]) for row in whole]


def test_run_stopped_before_its_model_was_written_takes_over_what_its_stages_trained(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(finished)
    adapted = replace(recipe, stage2=replace(recipe.stage2, steps=2, lora=Lora(4, 8, 0.0)))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("blindpairs.mof.training.save_mof", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_small(tmp_path, adapted)
    assert Run(tmp_path / "runs" / "run").model() is None
    assert run_small(tmp_path, adapted).steps == 0
    run_small(tmp_path / "other", adapted)
    wanted, found = trained_weights(tmp_path / "other"), trained_weights(tmp_path)
    assert [name for name, tensor in wanted.items() if not torch.equal(tensor, found[name])] == []


def test_loss_of_micro_batches_is_the_mean_of_their_means(tmp_path: Path, finished: Path) -> None:
    recipe = small_recipe(finished)
    whole = replace(recipe, stage1=replace(recipe.stage1, micro_batch=4))
    same = run_small(tmp_path / "a", whole).folder
    first = next(row["loss"] for row in Run(same).rows())
    assert first == pytest.approx(steps_of(finished)[0][2], rel=1e-5)  # over tokens, micro-batches do not matter
    means = replace(recipe, stage1=replace(recipe.stage1, loss="micro_batches", steps=1))
    other = next(row["loss"] for row in Run(run_small(tmp_path / "b", means).folder).rows())
    assert abs(other - first) > 1e-6


def test_data_that_cannot_be_used_end_the_run_before_it_starts_unless_they_are_skipped(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    (tmp_path / "images" / "3.png").unlink()
    with pytest.raises(InputError, match=r"of 18 rows cannot be used.*3.png.*\n.*--skip unusable"):
        run_small(tmp_path, recipe)
    report = run_small(tmp_path, replace(recipe, skip="unusable"), "skipped")
    left_out = Run(report.folder).facts()["checked"]["stage2"]["left_out"]
    assert [row["id"] for row in left_out] == ["3"]


def test_texts_alone_train_with_kept_features_and_packed(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    rows = [one for one in json.loads((tmp_path / "data.json").read_text()) if "image" not in one]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    second = replace(recipe.stage2, steps=1)
    for stage in (second, replace(second, packing=True)):
        given = replace(recipe, cache_features=True, stage2=stage)
        assert train(given, tmp_path / "runs" / f"packing-{stage.packing}", stages=[2]).steps == 1


def test_samples_longer_than_a_table_of_positions_are_found_before_training(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    recipe = small_recipe(tmp_path)
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 101}
    GPT2LMHeadModel(GPT2Config(**sizes, n_positions=130)).save_pretrained(recipe.language_model)
    with pytest.raises(ConfigError, match=r"stage1: a sample has 1\d\d ids, and .* positions for 130"):
        run_small(tmp_path, recipe)


def test_folder_of_images_that_is_none_is_one_fault_and_not_one_an_image(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    for name, what in (("nowhere", "does not exist"), ("data.json", "is no folder")):
        stage = replace(recipe.stage1, images=str(tmp_path / name))
        with pytest.raises(InputError, match=rf"the folder of images .*{name} {what}: name it with --images FOLDER"):
            run_small(tmp_path, replace(recipe, stage1=stage))


def test_image_that_goes_while_it_trains_ends_the_run_in_a_line_and_it_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path)
    images, away = tmp_path / "images", tmp_path / "away"

    def bars(label: str, unit: str) -> Progress:
        def show(done: int, total: int, failed: int = 0, /) -> None:
            if unit == "steps" and done == 3 and images.exists() and not away.exists():
                images.rename(away)

        return show

    monkeypatch.setattr(StageData, "workers", 1)  # a process of its own reads the images
    with pytest.raises(InputError) as fault:
        run_small(tmp_path, recipe, watching=Watching(bars))
    assert re.fullmatch(
        r"row '\d+': its image .*png cannot be used \(missing: .*\): mend it, and run the same command again",
        str(fault.value),
    )
    away.rename(images)
    away.mkdir()
    assert run_small(tmp_path, recipe).steps == 13


def test_full_disk_is_a_line_and_the_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from small_run import *
from blindpairs.mof.data import StageData
StageData.workers = 0  # those share memory by files, which the limit would meet first
def bars(label, unit):
    def show(done, total, failed=0, /):
        if unit == "steps" and label.endswith("1") and done == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
    return show
folder = Path({str(tmp_path)!r})
run_small(folder, small_recipe(folder), watching=Watching(bars))
"""
    environment = child_environment() | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(r"blindpairs.errors.InputError: no room to write .*stage1.*; free space, then run the same", last)
    assert Run(tmp_path / "runs" / "run").checkpoint(1) == tmp_path / "runs" / "run" / "stage1" / "checkpoint-3"
    assert run_small(tmp_path, recipe).steps == 13


def test_faults_of_stage_2_are_found_before_stage_1_is_trained(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    rows = json.loads((tmp_path / "data.json").read_text())
    rows[0]["image"] = "gone.png"
    (tmp_path / "bad.json").write_text(json.dumps(rows))
    faults = {
        "gone.png": replace(recipe.stage2, data=str(tmp_path / "bad.json")),
        "no chat template.*--set stage2.template=vicuna_v1": replace(recipe.stage2, template="chat"),
        "cut into micro_batch 3": replace(recipe.stage2, micro_batch=3),
    }
    for message, stage in faults.items():
        with pytest.raises((InputError, ConfigError), match=message):
            run_small(tmp_path, replace(recipe, stage2=stage))  # the one before is mended
        assert Run(tmp_path / "runs" / "run").rows() == []


def test_batch_that_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    with pytest.raises(ConfigError, match=r"a batch of 4 cannot be cut into micro_batch 3 x 1 devices: choose"):
        accumulation(replace(recipe.stage1, micro_batch=3), 1)
    assert accumulation(recipe.stage1, 2) == 1
    assert fitted(replace(recipe.stage1, micro_batch=16), 2).micro_batch == 2
    with pytest.raises(ConfigError, match=r"a batch of 4 leaves some of 8 devices without a sample: raise batch"):
        fitted(recipe.stage1, 8)


def test_every_parameter_belongs_to_a_part(finished: Path) -> None:
    recipe: Recipe = small_recipe(finished)
    model: Any = build_mof("demo:clip", "demo:dino", recipe.language_model, recipe.fusion)[0]
    rates = Rates(projectors=1.0, language_model=2.0, clip=3.0, dino=4.0)
    found = freeze(model, rates)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert found["lm_head.weight"] == 2.0
    assert found["model.aux_projector.linear_1.bias"] == 1.0
    assert {rate for name, rate in found.items() if "vision_tower" in name} == {3.0}
    assert {rate for name, rate in found.items() if "aux_tower" in name} == {4.0}


def test_folder_marked_as_done_has_the_hashes_of_its_model(finished: Path) -> None:
    from blindpairs.workspace import read_json, sha256_file

    run = Run(finished / "runs" / "run")
    model = run.model()
    assert model is not None
    assert read_json(run.folder / DONE)["weights"] == {"model.safetensors": sha256_file(model / "model.safetensors")}
    assert not list((finished / "runs").rglob(".saving*"))
