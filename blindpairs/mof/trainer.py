"""transformers' Trainer, thinly subclassed: rates of parts, loss at labels, checkpoints that are whole, a log a step.

Promises: a checkpoint has its name only when all of it is on disk, and holds the trained parts alone; training that
goes on from one does the same steps as training that never stopped, to the last bit; each step has a line in the log.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from blindpairs.errors import InputError
from blindpairs.mof.flops import Shape, work_of
from blindpairs.mof.loss import LabelLoss
from blindpairs.mof.meter import Meter
from blindpairs.mof.recipe import Stage
from blindpairs.mof.run import SAVING, TRAINED, Run, writing
from blindpairs.progress import Progress, silent

WORK = "work"  # key of a batch


@dataclass(frozen=True)
class Training:
    """One stage of one run, ready to start."""

    run: Run
    number: int
    stage: Stage
    seed: int
    accumulation: int  # micro-batches of a step, on each device
    rates: Mapping[str, float]  # name of a parameter -> its peak learning rate; the others are frozen
    shape: Shape
    peak: float  # operations a second that this device can do
    cached: bool = False
    workers: int = 0
    progress: Progress = silent
    on_row: Callable[[Mapping[str, Any]], None] = lambda row: None
    sampler: Any = None


class Collate:
    """A collator whose batches also say how much work they are."""

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]]) -> None:
        self._collator = collator

    def __call__(self, examples: list[Any]) -> dict[str, Any]:
        """Examples -> a batch."""
        batch = self._collator(examples)
        batch.pop("use_cache", None)  # never one in training
        lengths = [len(one["input_ids"]) for one in examples]
        pixels = batch.get("pixel_values", batch.get("features", [()])[0])
        batch[WORK] = work_of(batch["labels"], lengths, len(pixels))
        if get_worker_info() is not None:
            _shared(one for value in batch.values() for one in (value if isinstance(value, tuple) else (value,)))
        return batch


def _shared(tensors: Iterable[Any]) -> None:
    """Move a batch to shared memory here. InputError where it does not fit.

    Later, torch does it in a thread whose errors nobody hears of: the training would wait for the batch for ever.
    """
    try:
        for one in tensors:
            if isinstance(one, Tensor):
                one.share_memory_()
    except RuntimeError as error:
        raise InputError(
            f"a batch does not fit into shared memory ({error}): raise the limit of file sizes (ulimit -f), or take a "
            "smaller micro_batch"
        ) from error


class StageTrainer(Trainer):  # type: ignore[misc]
    """Trains the parts of a model that have a rate, for one stage."""

    def __init__(self, training: Training, model: Any, data: Any, collator: Callable[[list[Any]], Any]) -> None:
        self._training = training
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in training.rates)
        self.meter = Meter(training, model)
        super().__init__(LabelLoss(model), _arguments(training), Collate(collator), data, callbacks=[self.meter])
        self.remove_callback(PrinterCallback)
        self._loss_shifts_labels = True  # labels of the first positions are not predicted, and not counted

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with a group for each rate; biases and norms do not decay."""
        if self.optimizer is None:  # type: ignore[has-type]
            model = self.model if model is None else model
            decaying = set(self.get_decay_parameter_names(model))
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    decay = self.args.weight_decay if name in decaying else 0.0
                    groups.setdefault((self._training.rates[_own(name)], decay), []).append(parameter)
            settings = [{"params": some, "lr": lr, "weight_decay": decay} for (lr, decay), some in groups.items()]
            self.optimizer = torch.optim.AdamW(settings, fused=True)
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The share of this micro-batch in the loss of the step."""
        self.meter.add(inputs.pop(WORK))
        total, count = model(**inputs)
        if self._training.stage.loss == "micro_batches":
            share: Tensor = total / count.clamp(min=1) / self.current_gradient_accumulation_steps
            return share
        # Processes average their gradients, and the mean is over the labels of all of them.
        share = total / num_items_in_batch.clamp(min=1) * self.accelerator.num_processes
        return share

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a micro-batch; its loss goes to the log."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.meter.loss(loss)
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._training.sampler or super()._get_train_sampler(train_dataset)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._training.run.stage(self._training.number) / SAVING)  # _save_checkpoint renames it

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run, number = self._training.run, self._training.number
        self.meter.flush()  # the log must have what the checkpoint has
        with writing(run.stage(number)):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process has written its own part
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            run.commit(Path(self._get_output_dir(trial)) / name, run.stage(number) / name)
            run.drop_checkpoints(number, keep=run.stage(number) / name)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_trained(self.accelerator.unwrap_model(self.model), folder / TRAINED, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:  # its shards are in files of its own
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trained(self.model, Path(resume_from_checkpoint) / TRAINED)


def save_trained(model: nn.Module, path: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write the parameters of `model` that are trained; from `state`, where they are sharded over processes."""
    names = {name: one for name, one in model.named_parameters() if one.requires_grad}
    tensors = {name: state[name] if state else one.detach() for name, one in names.items()}
    save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, path)


def load_trained(model: nn.Module, path: Path) -> None:
    """Read what `save_trained` wrote into the same parameters; KeyError for any that is missing in either."""
    tensors = load_file(path)
    parameters = dict(model.named_parameters())
    if missing := {name for name, one in parameters.items() if one.requires_grad} ^ set(tensors):
        raise KeyError(f"{path} holds other parameters than are trained: {sorted(missing)[:3]}")
    for name, tensor in tensors.items():
        parameters[name].data.copy_(tensor)


def _own(name: str) -> str:
    """A parameter's name in the model, without what wraps it."""
    return name.removeprefix("module.").removeprefix("model.")


def _arguments(training: Training) -> TrainingArguments:
    stage, on_gpu = training.stage, torch.cuda.is_available()
    length = {"max_steps": stage.steps} if stage.steps else {"num_train_epochs": stage.epochs}
    return TrainingArguments(
        output_dir=str(training.run.stage(training.number)),
        per_device_train_batch_size=stage.micro_batch,
        gradient_accumulation_steps=training.accumulation,
        **length,
        warmup_steps=stage.warmup,  # a share of the steps, as it is below 1
        lr_scheduler_type="cosine",
        weight_decay=stage.weight_decay,
        max_grad_norm=1.0,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        seed=training.seed,
        data_seed=training.seed,
        dataloader_num_workers=training.workers,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        logging_strategy="no",  # the Meter logs
        save_strategy="no",  # the Meter asks
        report_to="none",
        disable_tqdm=True,
    )
