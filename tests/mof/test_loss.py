"""The loss at the labelled positions is the loss over all logits, however it is cut up."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blindpairs.mof import loss
from blindpairs.mof.loss import label_loss
from blindpairs.mof.templates import IGNORE

VOCABULARY, WIDTH = 37, 8


def batch(labelled: float) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(5)
    hidden = torch.randn(3, 11, WIDTH, requires_grad=True)
    head = torch.randn(VOCABULARY, WIDTH, requires_grad=True)
    labels = torch.randint(VOCABULARY, (3, 11))
    labels[torch.rand(3, 11) >= labelled] = IGNORE
    return hidden, head, labels


def over_all_logits(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    logits = (hidden @ head.T)[:, :-1].flatten(0, 1)
    return functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum")


@pytest.mark.parametrize("way", ["at once", "of torch", "in blocks"])
@pytest.mark.parametrize("labelled", [1.0, 0.3])
def test_labelled_positions_alone_give_the_loss_and_gradients_of_all_logits(
    way: str, labelled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "at once":
        monkeypatch.setattr(loss, "AT_ONCE", 100)
    if way == "in blocks":
        monkeypatch.delattr(functional, "linear_cross_entropy", raising=False)
    elif way == "of torch" and not hasattr(functional, "linear_cross_entropy"):
        pytest.skip("this torch has no linear_cross_entropy")
    hidden, head, labels = batch(labelled)
    value, count = label_loss(hidden, head, labels)
    wanted = over_all_logits(hidden, head, labels)
    assert count == (labels[:, 1:] != IGNORE).sum()
    torch.testing.assert_close(value, wanted)
    gradients = [torch.autograd.grad(one, [hidden, head]) for one in (value, wanted)]
    torch.testing.assert_close(*gradients)


def test_batch_without_a_label_has_no_loss_and_no_gradient() -> None:
    hidden, head, labels = batch(0.0)
    value, count = label_loss(hidden, head, labels)
    assert (float(value.detach()), int(count)) == (0.0, 0)
    gradients: tuple[Any, ...] = torch.autograd.grad(value, [hidden, head])
    assert all(not bool(one.any()) for one in gradients)
