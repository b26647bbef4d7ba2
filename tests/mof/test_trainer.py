"""The parts of the trainer: the effective rank, and the order of samples that a resumed run goes on in."""

import math
from typing import Any

import pytest
import torch

from blindpairs.errors import InputError
from blindpairs.mof.meter import Ranks, effective_rank
from blindpairs.mof.trainer import Collate


def test_batch_that_no_shared_memory_can_hold_is_an_error_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    # Under a limit of file sizes torch fails in a thread of the worker, and the training waited for ever.
    def full(_: torch.Tensor) -> None:
        raise RuntimeError("unable to resize file: File too large (27)")

    batch: dict[str, Any] = {
        "input_ids": torch.ones(1, 4),
        "labels": torch.ones(1, 4),
        "features": (torch.ones(1, 2, 3),),
    }
    collate = Collate(lambda examples: dict(batch))
    examples = [{"input_ids": torch.ones(4)}]
    assert not any(one.is_shared() for one in (collate(examples)["labels"], batch["features"][0]))
    monkeypatch.setattr("blindpairs.mof.trainer.get_worker_info", object)
    shared = collate(examples)
    assert shared["labels"].is_shared()
    assert shared["features"][0].is_shared()
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(InputError, match=r"does not fit into shared memory .*File too large.*: raise the limit"):
        collate(examples)


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_features_that_spread_evenly_over_directions_have_that_rank(directions: int) -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, directions)).Q  # (16, directions)
    features = torch.randn(4000, directions) @ basis.T
    assert effective_rank(features.reshape(40, 100, 16)) == pytest.approx(directions, rel=0.01)


def test_rank_is_the_exponential_of_the_entropy_of_singular_values() -> None:
    torch.manual_seed(0)
    values = torch.tensor([4.0, 2.0, 1.0])
    rows = torch.linalg.qr(torch.randn(300, 3) - 0.0).Q
    rows = torch.linalg.qr(rows - rows.mean(dim=0)).Q  # orthonormal and centred
    features = rows * values
    shares = [value / 7 for value in (4.0, 2.0, 1.0)]
    assert effective_rank(features) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-4)


def test_no_more_rows_are_used_than_is_said() -> None:
    torch.manual_seed(0)
    features = torch.randn(2 * Ranks.ROWS - 1, 4)
    assert effective_rank(features) == effective_rank(features[::2])


def test_features_that_are_all_the_same_have_no_direction() -> None:
    assert effective_rank(torch.ones(2, 10, 4)) == pytest.approx(1.0, abs=0.01)


def test_looking_at_features_leaves_no_hook_behind() -> None:
    class Inner(torch.nn.Module):
        multi_modal_projector = None

        def __init__(self) -> None:
            super().__init__()
            self.aux_projector = torch.nn.Linear(4, 2)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Inner()

    whole = Whole()
    ranks = Ranks(whole)
    ranks.looking = True
    whole.model.aux_projector(torch.randn(3, 5, 4))
    assert set(ranks.take()["effective_rank"]) == {"aux_projector"}
    assert ranks.take() == {}
    ranks.end()
    whole.model.aux_projector(torch.randn(3, 5, 4))
    assert ranks.take() == {}
