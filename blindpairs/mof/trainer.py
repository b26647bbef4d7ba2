"""transformers' Trainer, thinly subclassed: rates of parts, loss at labels, checkpoints that are whole, a log a step.

Promises: a checkpoint has its name only when all of it is on disk, and holds the trained parts alone; training that
goes on from one does the same steps as training that never stopped, to the last bit; each step has a line in the log.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from blindpairs.mof.flops import Shape, Work, work_of
from blindpairs.mof.loss import LabelLoss
from blindpairs.mof.recipe import Stage
from blindpairs.mof.run import TRAINED, Run, writing
from blindpairs.progress import Progress, silent

LOG_EVERY = 10  # steps between two looks at the clock; every step has its loss in the log
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
        return batch


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
        return str(self._training.run.stage(self._training.number) / ".saving")  # _save_checkpoint renames it

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


class Meter(TrainerCallback):  # type: ignore[misc]
    """Measures steps, and writes the log: the loss of each, and every LOG_EVERY steps rates and ranks."""

    def __init__(self, training: Training, model: Any) -> None:
        self._training, self._rows = training, list[dict[str, Any]]()
        self._losses: list[Tensor] = []  # of the micro-batches of this step
        self._work: list[Work] = []  # since the clock was read
        self._since, self._rate = time.monotonic(), 0.0
        self._ranks = Ranks(model)

    def add(self, work: Work) -> None:
        """Count a micro-batch."""
        self._work.append(work)

    def loss(self, value: Tensor) -> None:
        """Note the loss of a micro-batch."""
        self._losses.append(value)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._since = time.monotonic()
        self._training.progress(state.global_step, state.max_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at the features of a step that ends with a look at the clock."""
        self._ranks.looking = (state.global_step + 1) % LOG_EVERY == 0 or state.global_step == 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        """Note the highest rate of the parts: after the step it is the next one's."""
        self._rate = max(group["lr"] for group in context["optimizer"].param_groups)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the loss; flush now and then; ask for a checkpoint."""
        step = state.global_step
        loss = torch.stack(self._losses).sum()
        self._losses.clear()
        self._rows.append({"stage": self._training.number, "step": step, "loss": loss, "learning_rate": self._rate})
        self._training.progress(step, state.max_steps)
        if step % LOG_EVERY == 0 or step == state.max_steps:
            self.flush()
        control.should_save = step % self._training.stage.save_every == 0 and step < state.max_steps

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop looking."""
        self._ranks.end()

    def flush(self) -> None:
        """Write the lines of the steps since the last time."""
        if not self._rows:
            return
        losses = torch.stack([row["loss"] for row in self._rows])
        if dist.is_initialized():  # each process has the loss of its own share of the batch, times their number
            dist.all_reduce(losses)
            losses /= dist.get_world_size()
        for row, loss in zip(self._rows, losses.tolist(), strict=True):
            row["loss"] = loss
        self._rows[-1] |= self._figures() | self._ranks.take()
        if not dist.is_initialized() or dist.get_rank() == 0:
            self._training.run.log(self._rows)
            self._training.on_row(self._rows[-1])
        self._rows.clear()

    def _figures(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self._since, 1e-9)
        flops = sum(self._training.shape.step(one, cached=self._training.cached) for one in self._work)
        tokens = sum(one.tokens for one in self._work)
        self._since, self._work = time.monotonic(), []
        return {
            "seconds": round(seconds, 4),
            "tokens_per_second": round(tokens / seconds, 1),
            "flops_utilisation": round(flops / seconds / self._training.peak, 4),
        }


class Ranks:
    """The effective rank of what goes into each projector: how many directions of its input carry something.

    exp of the entropy of the normalised singular values (Roy and Vetterli 2007, "The effective rank"), of the centred
    features of one batch.
    """

    ROWS = 2048

    def __init__(self, model: Any) -> None:
        self.looking = False
        self._found: dict[str, Tensor] = {}
        named = {name: getattr(model.model, name, None) for name in ("multi_modal_projector", "aux_projector")}
        self._hooks = [one.register_forward_pre_hook(self._hook(name)) for name, one in named.items() if one]

    def end(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def look(_: nn.Module, given: tuple[Any, ...]) -> None:
            if self.looking:
                self._found[name] = given[0].detach()

        return look

    def take(self) -> dict[str, Any]:
        """{"effective_rank": {projector: rank}} of the last look, once."""
        found = {name: round(effective_rank(some[: self.ROWS]), 2) for name, some in self._found.items()}
        self._found.clear()
        return {"effective_rank": found} if found else {}


def effective_rank(features: Tensor) -> float:
    """Features (..., D), at most Ranks.ROWS of which are used -> from 1 to D."""
    rows = features.flatten(0, -2).float()
    rows = rows[:: max(1, len(rows) // Ranks.ROWS)]
    values = torch.linalg.svdvals(rows - rows.mean(dim=0))
    shares = values / values.sum().clamp(min=1e-30)
    return float(torch.special.entr(shares).sum().exp())


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
