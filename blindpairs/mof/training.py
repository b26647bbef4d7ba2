"""A recipe becomes a model: stage 1 trains the projectors, stage 2 the language model with them.

    train(load_preset("demo").recipe, work / "runs" / "mine")

Promises: the same call again goes on where it was killed, at any step, and ends in the same model to the last bit; what
is done is not done again; a folder of another recipe, other data or other weights is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from blindpairs.access import remove
from blindpairs.encoders.weights import state_hash
from blindpairs.errors import ConfigError, InputError
from blindpairs.mof.building import build_mof, parts, save_mof
from blindpairs.mof.card import write_card
from blindpairs.mof.chat_templates import processor_template
from blindpairs.mof.data import Instructions, Preparing, StageData, hash_of
from blindpairs.mof.device import Device, this_device, to_precision
from blindpairs.mof.flops import shape_of
from blindpairs.mof.generation import end_at
from blindpairs.mof.known_parts import language_model_path
from blindpairs.mof.lora import add_lora, merge_lora
from blindpairs.mof.recipe import Recipe, check
from blindpairs.mof.run import DONE, TRAINED, Run, writing
from blindpairs.mof.stages import accumulation, check_packing, check_places, fitted, freeze, recomputing
from blindpairs.mof.templates import TurnTokenizer
from blindpairs.mof.trainer import StageTrainer, Training, load_trained, save_trained
from blindpairs.progress import Notice, Progress, drop_notice, silent
from blindpairs.workspace import sha256_file, stamp, write_json, written_atomically

Bars = Callable[[str, str], Progress]  # (label, unit) -> what shows that part of the work


@dataclass(frozen=True)
class Watching:
    """Who is told what."""

    bars: Bars = lambda label, unit: silent
    notice: Notice = drop_notice
    rows: Callable[[Mapping[str, Any]], None] = lambda row: None  # each line of the log that has rates


@dataclass(frozen=True)
class Report:
    """What a call of `train` did."""

    folder: Path
    model: Path  # as transformers loads it
    steps: int  # that this call did
    losses: dict[int, float]  # stage -> its loss at the end, the mean of its last tenth


def train(
    recipe: Recipe,
    folder: Path,
    watching: Watching = Watching(),
    *,
    stages: Sequence[int] = (1, 2),
    preparing: Preparing | None = None,
) -> Report:
    """Train, or go on training, the run in `folder`. By default data are prepared in prepared/ of the work folder.

    ConfigError: a recipe that cannot be, or another one than the folder's. InputError: data that cannot be used.
    AssetMissing: weights that are not here.
    """
    check(recipe, folder.name)
    processes = PartialState(cpu=not torch.cuda.is_available())
    run = Run(folder)
    with run.locked() if processes.is_main_process else nullcontext():
        preparing = preparing or Preparing(folder.parent.parent / "prepared", notice=watching.notice)
        return _Session(recipe, run, watching, processes, preparing).all(stages)


class _Session:
    """One call of `train`."""

    def __init__(self, recipe: Recipe, run: Run, watching: Watching, processes: Any, preparing: Preparing) -> None:
        self.recipe, self.run, self.watching, self.processes = recipe, run, watching, processes
        self.preparing = preparing
        self.steps = 0
        self._given: dict[int, Instructions] = {}  # by stage

    def all(self, stages: Sequence[int]) -> Report:
        """Every stage that is not done, and the model."""
        self._refuse(stages)
        hashes = {f"stage{number}": hash_of(self.recipe.stage(number)) for number in stages}
        if self._finished(stages):
            self._start({"data": hashes})
            return self._report()
        clip, dino = self.recipe.towers()
        language_model = language_model_path(self.recipe.language_model)
        model, processor = build_mof(clip, dino, language_model, self.recipe.fusion, seed=self.recipe.seed)
        for number in (number for number in stages if self.recipe.stage(number).packing):
            check_packing(model, f"stage{number}")
        frozen = {name: state_hash(part) for name, part in parts(model).items() if "projector" not in name}
        self._start({"data": hashes, "weights": frozen})
        self._look_at_data(stages, model, processor)
        device = this_device()
        for number in (1, 2):
            if self.run.ended(number):
                self._take_over(number, model)
            elif number in stages:
                self._stage(number, model, processor, device)
            elif number < max(stages):
                self.watching.notice(f"stage {number} was not trained: stage {max(stages)} starts without it")
        if self.processes.is_main_process:
            self._finish(model, processor, max(stages))
        self.processes.wait_for_everyone()
        return self._report()

    def _refuse(self, stages: Sequence[int]) -> None:
        """ConfigError for a batch that cannot be cut, and for a stage 1 that would follow stage 2."""
        for number in stages:
            fitted(self.recipe.stage(number), self.processes.num_processes)
        if 1 in stages and not self.run.ended(1) and self.run.begun(2):
            raise ConfigError(
                f"stage 2 of {self.run.folder} was trained without stage 1, which cannot follow it: name another run, "
                "with --run NAME"
            )

    def _look_at_data(self, stages: Sequence[int], model: Any, processor: Any) -> None:
        """Find what is wrong with the data of every stage before the first one: a fault of stage 2 costs no stage 1."""
        if self.processes.is_main_process:
            for number in stages:
                if not self.run.ended(number):
                    given, stage = self._instructions(number, processor), self.recipe.stage(number)
                    self._left_out(number, given, model.image_tokens)
                    longest = int((given.index.tokens + model.image_tokens * given.index.has_image).max())
                    check_places(model, min(longest, stage.max_length), f"stage{number}")
        self.processes.wait_for_everyone()

    def _start(self, facts: Mapping[str, Any]) -> None:
        if self.processes.is_main_process:
            self.run.start(self.recipe, facts)
        self.processes.wait_for_everyone()

    def _finished(self, stages: Sequence[int]) -> bool:
        return (self.run.folder / DONE).is_file() and all(self.run.ended(number) for number in stages)

    def _take_over(self, number: int, model: Any) -> None:
        """Put what a stage trained into the model."""
        stage = self.recipe.stage(number)
        add_lora(model, stage.lora, self.recipe.seed)
        freeze(model, stage.rates)
        load_trained(model, self.run.stage(number) / TRAINED)
        merge_lora(model)

    def _stage(self, number: int, model: Any, processor: Any, device: Device) -> None:
        stage, label = self.recipe.stage(number), f"{self.run.folder.name} stage {number}"
        add_lora(model, stage.lora, self.recipe.seed)
        rates = freeze(model, stage.rates)
        to_precision(model, rates, device.kind)
        data = self._data(number, model, processor)
        stage = fitted(stage, self.processes.num_processes)
        training = Training(
            run=self.run,
            number=number,
            stage=stage,
            seed=self.recipe.seed,
            accumulation=accumulation(stage, self.processes.num_processes),
            rates=rates,
            shape=shape_of(model, stage.rates.trained),
            peak=device.peak,
            cached=data.cached,
            workers=data.workers,
            progress=self.watching.bars(label, "steps"),
            on_row=self.watching.rows,
            sampler=data.sampler(stage, self.recipe.seed),
        )
        with recomputing(model, stage.activation_checkpointing):
            self._fit(training, model, data)
        merge_lora(model)

    def _data(self, number: int, model: Any, processor: Any) -> StageData:
        """The data of a stage. The main process makes index and features, the others then read them."""
        bars = self.watching.bars
        for first in (True, False):
            if self.processes.is_main_process == first:
                given = self._instructions(number, processor)
                rows = given.without(self._left_out(number, given, model.image_tokens))
                bar = bars(f"features for stage {number}", "images") if self.recipe.cache_features else None
                data = given.data(rows, model, processor, bar)
            self.processes.wait_for_everyone()
        return data

    def _instructions(self, number: int, processor: Any) -> Instructions:
        """Opened once: the file is hashed for it, and may have a million rows."""
        if number not in self._given:
            self._given[number] = Instructions(self.recipe.stage(number), processor.tokenizer, self.preparing)
        return self._given[number]

    def _left_out(self, number: int, given: Instructions, image_tokens: int) -> set[int]:
        """Numbers of the rows that are not trained on: found once in a run, before its first step, and recorded."""
        checked = self.run.facts().get("checked", {})
        if f"stage{number}" not in checked:
            bar = self.watching.bars(f"check of the data of stage {number}", "images")
            findings = given.findings(image_tokens, bar)
            findings.kept(given.index, self.recipe.skip)  # InputError for rows that cannot be used and are not skipped
            if findings.found:
                self.watching.notice(f"stage {number}: " + "\n".join(findings.lines(3)))
            checked[f"stage{number}"] = findings.describe(self.recipe.skip)
            self.run.record({"checked": checked})
        return {row["number"] for row in checked[f"stage{number}"]["left_out"]}

    def _fit(self, training: Training, model: Any, data: StageData) -> None:
        number, checkpoint = training.number, self.run.checkpoint(training.number)
        done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        if self.processes.is_main_process:
            self.run.rewind(number, done)
        trainer = StageTrainer(training, model, data.examples, data.collator)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except InputError as error:
            # One of a loader's process comes with the traceback of that process in its message.
            raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from error
        self.steps += trainer.state.global_step - done
        if self.processes.is_main_process:
            # In this order: a stage that is marked as done has what it trained.
            place = self.run.stage(number) / TRAINED
            with writing(place), written_atomically(place) as aside:
                save_trained(model, aside)
            self.run.end(number, {"steps": trainer.state.global_step, "loss": self._loss(number)})
        self.processes.wait_for_everyone()

    def _loss(self, number: int) -> float:
        losses = [row["loss"] for row in self.run.rows() if row["stage"] == number]
        last = losses[-max(1, len(losses) // 10) :]
        return float(sum(last) / len(last))

    def _finish(self, model: Any, processor: Any, last: int) -> None:
        ended = {number: self.run.ended(number) for number in (1, 2)}
        steps = sum(one["steps"] for one in ended.values() if one)
        model.eval().requires_grad_(False)
        if torch.cuda.is_available():
            model.to(torch.bfloat16)
        stage = self.recipe.stage(last)
        processor.image_processor.do_pad = stage.pad
        processor.chat_template = processor_template(stage.template, processor.tokenizer)
        end_at(model, TurnTokenizer(processor.tokenizer, stage.template).ends())
        place = self.run.folder / f"checkpoint-{steps}"
        with self.run.saving(place) as aside:
            save_mof(model, processor, aside)
        write_card(self.run)
        figures = {
            "steps": steps,
            "losses": {f"stage{number}": one["loss"] for number, one in ended.items() if one},
            "weights": {path.name: sha256_file(path) for path in sorted(place.glob("*.safetensors"))},
        }
        write_json(self.run.folder / DONE, {**stamp(), **figures})
        if self.run.ended(2):
            remove(self.run.stage(2) / TRAINED)  # it is in the model

    def _report(self) -> Report:
        model = self.run.model()
        if model is None:
            raise InputError(f"{self.run.folder} is marked as done and has no model: remove its {DONE} and train again")
        ended = {number: self.run.ended(number) for number in (1, 2)}
        losses = {number: one["loss"] for number, one in ended.items() if one}
        return Report(self.run.folder, model, self.steps, losses)
