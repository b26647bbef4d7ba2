"""The training loss: cross-entropy at the positions that have a label, and no logits anywhere else.

An image alone takes hundreds of positions without a label; with a vocabulary of 32,000 their logits would be most of
the memory of a step. Promise: value and gradients are those of the loss over all logits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from blindpairs.mof.templates import IGNORE

AT_ONCE = 1 << 25  # logits that may be in memory together: 128 MB in float32


class LabelLoss(nn.Module):
    """A model as the Trainer sees it: a batch in, the sum of the loss over its labels and their number out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # where FSDP may cut

    def forward(self, labels: Tensor, **inputs: Any) -> tuple[Tensor, Tensor]:
        """Labels (B, T) and the inputs of the model -> two scalars."""
        # Without a cache: with one, samples that are packed into a row would see each other.
        hidden = self.model.model(**inputs, use_cache=False).last_hidden_state  # (B, T, D)
        return label_loss(hidden, self.model.lm_head.weight, labels)


def label_loss(hidden: Tensor, head: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states (B, T, D), head (V, D), labels (B, T) -> the sum of the cross-entropies, and their number.

    The state at a position predicts the label of the next one.
    """
    targets = labels[:, 1:]
    labelled = targets != IGNORE
    states, targets = hidden[:, :-1][labelled], targets[labelled]  # (n, D), (n)
    return summed_cross_entropy(states, head, targets), labelled.sum()


def summed_cross_entropy(states: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """States (n, D), head (V, D), targets (n) -> the sum, in float32, of at most AT_ONCE logits at a time."""
    if len(states) * len(head) <= AT_ONCE:
        return _of_block(states, head, targets)
    if hasattr(functional, "linear_cross_entropy"):  # torch 2.15
        options = nn.LinearCrossEntropyOptions()
        weight = head.to(states.dtype)
        return functional.linear_cross_entropy(states, weight, targets, reduction="sum", options=options).float()
    rows = max(1, AT_ONCE // len(head))
    blocks = zip(states.split(rows), targets.split(rows), strict=True)
    sums = [checkpoint(_of_block, some, head, wanted, use_reentrant=False) for some, wanted in blocks]
    return torch.stack(sums).sum()


def _of_block(states: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    logits = functional.linear(states, head.to(states.dtype)).float()
    return functional.cross_entropy(logits, targets, reduction="sum")
