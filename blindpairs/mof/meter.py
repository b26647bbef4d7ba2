"""The log of a training run: the loss of each step, how fast the steps are, and the rank of what projectors are given.

Promises: each step has a line, and a checkpoint comes after the lines of its steps; the device is waited for only where
lines are written, every LOG_EVERY steps.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import TrainerCallback

from blindpairs.mof.building import PROJECTORS
from blindpairs.mof.flops import Work

if TYPE_CHECKING:
    from blindpairs.mof.trainer import Training

LOG_EVERY = 10  # steps between two looks at the clock; every step has its loss in the log


class Meter(TrainerCallback):  # type: ignore[misc]
    """Measures steps, and writes the log: the loss of each, and every LOG_EVERY steps rates and ranks."""

    def __init__(self, training: "Training", model: Any) -> None:
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
        named = {name: getattr(model.model, name) for name in PROJECTORS}
        self._hooks = [one.register_forward_pre_hook(self._hook(name)) for name, one in named.items() if one]

    def end(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def look(_: nn.Module, given: tuple[Any, ...]) -> None:  # (B, N, D)
            """Keep what goes in."""
            if self.looking:
                self._found[name] = given[0].detach()

        return look

    def take(self) -> dict[str, Any]:
        """{"effective_rank": {projector: rank}} of the last look, once."""
        found = {name: round(effective_rank(some), 2) for name, some in self._found.items()}
        self._found.clear()
        return {"effective_rank": found} if found else {}


def effective_rank(features: Tensor) -> float:
    """Features (..., D), at most Ranks.ROWS of which are used -> from 1 to D."""
    rows = features.flatten(0, -2).float()
    rows = rows[:: -(-len(rows) // Ranks.ROWS)]  # spread over the images of the batch
    values = torch.linalg.svdvals(rows - rows.mean(dim=0))
    shares = values / values.sum().clamp(min=1e-30)
    return float(torch.special.entr(shares).sum().exp())
