"""Three steps of training a tiny MoF model: in this process, and under FSDP2 on two processes over gloo.

One process of the two has texts alone, with an image of no weight; the other has images. Both towers are sharded whole,
which changes their classes: features that were recorded by class would be gone.
"""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from tiny_mof import VOCABULARY, question, tiny_mof
from torch import Tensor

STEPS = 3
Batch = dict[str, Tensor]


def _model() -> Any:
    model = tiny_mof(mode="interleaved").train()
    model.model.vision_tower.requires_grad_(False)  # one tower is frozen, the other is trained
    return model


def _batches(step: int, model: Any) -> list[Batch]:
    """That of each process: images, and texts alone."""
    images = question(model, images=2, seed=step)
    images["labels"] = images["input_ids"].masked_fill(images["input_ids"] == 4, -100)
    ids = torch.randint(5, VOCABULARY, (2, 10), generator=torch.Generator().manual_seed(step))
    side = model.config.resolution
    return [images, {"input_ids": ids, "labels": ids, "pixel_values": torch.zeros(1, 3, side, side)}]


def _optimizer(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-3, eps=1e-4)


def trained_alone() -> dict[str, Tensor]:
    """The weights after training on the mean of both batches' losses."""
    model = _model()
    optimizer = _optimizer(model)
    for step in range(STEPS):
        torch.stack([model(**batch).loss for batch in _batches(step, model)]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: one.detach() for name, one in model.named_parameters()}


def trained_on_two_processes() -> dict[str, Tensor]:
    """The same, each process with its batch: this one the images, a new one the texts."""
    with tempfile.TemporaryDirectory() as folder:
        other = torch.multiprocessing.get_context("spawn").Process(target=_rank, args=(1, folder))
        other.start()
        weights = _rank(0, folder)
        other.join()
    assert other.exitcode == 0
    return weights


def _rank(rank: int, folder: str) -> dict[str, Tensor]:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    meeting, patience = f"file://{Path(folder) / 'meeting'}", timedelta(minutes=2)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
    mesh = init_device_mesh("cpu", (2,))
    model = _model()
    inner = model.model
    parts = [*inner.language_model.layers, inner.vision_tower, inner.aux_tower]
    for part in [*parts, inner.multi_modal_projector, inner.aux_projector, model]:
        fully_shard(part, mesh=mesh)
    assert type(inner.vision_tower).__name__.startswith("FSDP")
    optimizer = _optimizer(model)
    for step in range(STEPS):
        model(**_batches(step, model)[rank]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    whole = {name: one.full_tensor().detach().clone() for name, one in model.named_parameters()}
    dist.destroy_process_group()
    return whole
