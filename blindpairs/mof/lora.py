"""Low-rank adapters in the language model, by peft, for the length of a stage.

Promise: after merging, the model is a plain one again, whose outputs are those of the adapted one to rounding.
"""

import warnings
from typing import Any

import torch

from blindpairs.mof.recipe import Lora


def add_lora(model: Any, lora: Lora, seed: int) -> None:
    """Put adapters on every linear layer of the language model but its head; nothing for a rank of 0."""
    if not lora.rank:
        return
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", bias="none"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for things by their old names
        torch.manual_seed(seed)
        model.model.language_model = get_peft_model(model.model.language_model, config)


def merge_lora(model: Any) -> None:
    """Add the adapters to the weights and take them away; nothing for a model without any."""
    language = model.model.language_model
    if hasattr(language, "merge_and_unload"):
        model.model.language_model = language.merge_and_unload()
