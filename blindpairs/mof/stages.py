"""What a stage does to a model before and while it trains: what is trained, in what pieces, what is computed again.

Promise: a plan and a training run ask the same questions here, so that what is planned is what is trained.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from blindpairs.errors import ConfigError
from blindpairs.mof.recipe import Rates, Stage


def part_of(name: str) -> str:
    """The part of a recipe's rates that a parameter of a MoF model belongs to, by its name."""
    if "projector" in name:
        return "projectors"
    if ".vision_tower." in name:
        return "clip"
    return "dino" if ".aux_tower." in name else "language_model"


def freeze(model: nn.Module, rates: Rates) -> dict[str, float]:
    """Let the parts with a rate be trained and freeze the others: {name of a parameter: its rate}.

    Of a language model with LoRA, the adapters alone are trained.
    """
    adapted = any("lora_" in name for name, _ in model.named_parameters())
    found = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        rate = getattr(rates, part)
        trained = rate > 0 and not (adapted and part == "language_model" and "lora_" not in name)
        parameter.requires_grad_(trained)
        if trained:
            found[name] = rate
    return found


def fitted(stage: Stage, processes: int) -> Stage:
    """The stage, whose micro-batches are no larger than the share that a device has of a batch, and make it up.

    ConfigError where there is no such cut.
    """
    if stage.batch < processes:
        raise ConfigError(f"a batch of {stage.batch} leaves some of {processes} devices without a sample: raise batch")
    stage = replace(stage, micro_batch=min(stage.micro_batch, stage.batch // processes))
    accumulation(stage, processes)
    return stage


def accumulation(stage: Stage, processes: int) -> int:
    """Micro-batches of a step on each device. ConfigError where they do not make up the batch."""
    at_once = stage.micro_batch * processes
    if stage.batch % at_once:
        raise ConfigError(
            f"a batch of {stage.batch} cannot be cut into micro_batch {stage.micro_batch} x {processes} devices: "
            f"choose a micro_batch that divides {stage.batch // processes}"
        )
    return stage.batch // at_once


@torch.no_grad()
def check_packing(model: Any, source: str) -> None:
    """ConfigError where samples that are packed into a row would see each other in the language model.

    Those with a state along the row, or with positions of their own making, do (Mamba, LFM2, Bloom, OPT), and training
    would not show it: their loss falls as others' does.
    """
    two = torch.arange(32)[None] % model.config.text_config.vocab_size  # (1, 2 x 16)
    places = torch.arange(16).repeat(2)[None]  # (1, 2 x 16): they restart at the second
    whole, alone = (
        model.model(input_ids=ids, position_ids=at, use_cache=False).last_hidden_state[:, -16:]
        for ids, at in ((two, places), (two[:, 16:], places[:, 16:]))
    )
    if not torch.allclose(whole, alone, rtol=0, atol=1e-3 * float(alone.abs().max())):
        kind = model.config.text_config.model_type
        raise ConfigError(f"{source}.packing: packed samples of a {kind} see each other: set {source}.packing=false")


def check_places(model: Any, longest: int, source: str) -> None:
    """ConfigError where a sample is longer than a table of positions, as those of GPT-2 and OPT; others have none."""
    language, places = model.model.language_model, getattr(model.config.text_config, "max_position_embeddings", None)
    tables = [one for one in language.modules() if isinstance(one, nn.Embedding)]
    tables = [one for one in tables if one is not language.get_input_embeddings()]
    if places and longest > places and any(places <= one.num_embeddings <= places + 2 for one in tables):
        raise ConfigError(
            f"{source}: a sample has {longest:,} ids, and the language model has positions for {places:,}: set "
            f"{source}.max_length={places}, or take a smaller resolution"
        )


@contextmanager
def recomputing(model: Any, wanted: bool) -> Iterator[None]:
    """Activation checkpointing of the language model and of what is trained below it, for the length of a block."""
    if not wanted:
        yield
        return
    # The older names are gone in transformers 6, the newer ones came with 5.
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(model, f"{kind}_checkpointing_disable")()
