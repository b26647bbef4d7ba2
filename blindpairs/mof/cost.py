"""What a run will take, before it is started: steps, operations, memory and hours on this device.

Operations follow from the shapes of the parts (`flops`), and no weights are needed. Memory is that of weights,
gradients and optimizer, and of what a step keeps for its backward pass: that is measured, not derived, on a step in
torch's fake mode, which has shapes and no numbers. Two language models of one and of two layers are enough, since all
layers are alike.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from blindpairs.encoders.weights import hub_folder
from blindpairs.errors import ConfigError
from blindpairs.mof.batches import packs_of
from blindpairs.mof.building import LANGUAGE_FILES, check_side, config_of
from blindpairs.mof.data import Instructions, Preparing
from blindpairs.mof.device import Device
from blindpairs.mof.flops import Work, shape_of
from blindpairs.mof.known_parts import language_config, language_model_path, vision_part
from blindpairs.mof.lora import add_lora
from blindpairs.mof.loss import AT_ONCE
from blindpairs.mof.modeling_mof_llava import MofLlavaConfig, MofLlavaForConditionalGeneration
from blindpairs.mof.processing import load_tokenizer
from blindpairs.mof.recipe import Recipe, Stage
from blindpairs.mof.stages import fitted, freeze, recomputing

UTILISATION = 0.4  # of the measured product rate; what is seen in practice is 0.3 to 0.55
# For a recipe without data, those of LLaVA-1.5: rows, and about how many tokens of text and of labels each has.
ASSUMED = {1: (558_128, 25, 20), 2: (665_298, 300, 180)}


@dataclass(frozen=True)
class StagePlan:
    """What a stage will take."""

    number: int
    rows: int
    assumed: bool  # whether rows and lengths are LLaVA-1.5's, because the recipe names no data
    steps: int
    trained: int  # weights
    flops: int  # of the model, in all
    computed: int  # with what activation checkpointing computes again
    memory: int  # bytes on each device, at most
    hours: float


@dataclass(frozen=True)
class Lengths:
    """The samples of a stage: how long each is, with its image, and how many of them have labels."""

    tokens: Any  # (rows,) int64
    images: int
    labels: int  # of one sample, on average
    assumed: bool = False


def plan(recipe: Recipe, stages: Sequence[int], device: Device, prepared: Path) -> list[StagePlan]:
    """The plans of some stages. AssetMissing: a part whose shape is not known here."""
    return [_plan(recipe, number, device, prepared) for number in stages]


def shape_model(recipe: Recipe) -> Any:
    """The model of a recipe without numbers: on torch's meta device."""
    config = model_config(recipe)  # outside of the block, which would take numbers from towers that are loaded
    try:
        with torch.device("meta"):
            return MofLlavaForConditionalGeneration(config)
    except ValueError as error:  # no such layer, or widths that do not fit
        raise ConfigError(f"{' with '.join(filter(None, recipe.towers()))}: {error}") from error


def model_config(recipe: Recipe) -> MofLlavaConfig:
    """The configuration of a recipe's model, for which no weights are needed."""
    vision, aux = (vision_part(one) if one else None for one in recipe.towers())
    first: Any = vision or aux
    side = recipe.fusion.resolution or first.size
    check_side(side, first.patch, first.size)
    return config_of(
        recipe.fusion,
        side,
        vision_config=vision.config if vision else None,
        aux_vision_config=aux.config if aux else None,
        text_config=language_config(language_model_path(recipe.language_model)),
    )


def _plan(recipe: Recipe, number: int, device: Device, prepared: Path) -> StagePlan:
    stage = fitted(recipe.stage(number), 1)  # a batch that cannot be cut is found here, too
    model = shape_model(recipe)  # of its own: the adapters of one stage are merged before the next
    with torch.device("meta"):
        add_lora(model, stage.lora, recipe.seed)
    freeze(model, stage.rates)
    shape = shape_of(model, stage.rates.trained)
    lengths = _lengths(recipe, number, model.image_tokens, prepared)
    rows = len(lengths.tokens)
    packs = len(packs_of(lengths.tokens, stage.max_length, np.random.default_rng(0))) if stage.packing else rows
    epochs = stage.steps * stage.batch / packs if stage.steps else stage.epochs
    tokens, squares = (int(epochs * some.sum()) for some in (lengths.tokens, lengths.tokens**2))
    work = Work(tokens, squares, int(epochs * lengths.images), int(epochs * rows * lengths.labels))
    flops = shape.step(work, cached=recipe.cache_features)
    computed = flops + (shape.again(work) if stage.activation_checkpointing else 0)
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return StagePlan(
        number=number,
        rows=rows,
        assumed=lengths.assumed,
        steps=stage.steps or int(np.ceil(np.ceil(packs / stage.batch) * stage.epochs)),
        trained=trained,
        flops=flops,
        computed=computed,
        memory=memory(model, stage, int(lengths.tokens.sum() / packs), device),
        hours=computed / (device.peak * UTILISATION) / 3600,
    )


def _lengths(recipe: Recipe, number: int, image_tokens: int, prepared: Path) -> Lengths:
    stage = recipe.stage(number)
    if not stage.data:
        rows, text, labels = ASSUMED[number]
        return Lengths(np.full(rows, min(text + image_tokens, stage.max_length)), rows, labels, assumed=True)
    index = Instructions(stage, tokenizer_of(recipe), Preparing(prepared)).index
    tokens = np.minimum(index.tokens + image_tokens * index.has_image, stage.max_length).astype(np.int64)
    return Lengths(tokens, int(index.has_image.sum()), int(index.tokens.mean()))


def tokenizer_of(recipe: Recipe) -> Any:
    """The tokenizer of a recipe's language model, whose weights are not loaded. AssetMissing: it is not here."""
    name = language_model_path(recipe.language_model)
    return load_tokenizer(hub_folder(name, name, LANGUAGE_FILES))


def memory(model: Any, stage: Stage, tokens: int, device: Device) -> int:
    """Bytes on the device at the end of a forward pass of one micro-batch of samples of `tokens` tokens each.

    Trained weights, their gradients and AdamW's two moments are in float32, what is frozen in the device's precision.
    Of adapters the weights are counted, and not what they keep for the backward pass: peft cannot be run in fake mode.
    """
    weights = {one: 16 if one.requires_grad else device.frozen_bytes for one in model.parameters()}
    held = sum(one.numel() * size for one, size in weights.items())
    one, two = (kept_for_backward(model, stage, tokens, device, layers) for layers in (1, 2))
    layers: int = model.config.text_config.num_hidden_layers
    kept = one + (layers - 1) * (two - one)
    if stage.activation_checkpointing:  # while a layer is computed again, what it keeps is there, too
        plain = [_kept(model, stage, tokens, device, count, again=False) for count in (1, 2)]
        kept += plain[1] - plain[0]
    logits = min(AT_ONCE, stage.micro_batch * tokens * int(model.config.text_config.vocab_size))
    return int(held + kept + 2 * 4 * logits)  # the logits and their gradient


def kept_for_backward(model: Any, stage: Stage, tokens: int, device: Device, layers: int) -> int:
    """Bytes that a forward pass through a language model of `layers` layers keeps, without its weights."""
    return _kept(model, stage, tokens, device, layers, again=stage.activation_checkpointing)


def _kept(model: Any, stage: Stage, tokens: int, device: Device, layers: int, *, again: bool) -> int:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModel

    config = copy.deepcopy(model.config.text_config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    trains = stage.rates.language_model > 0 and not stage.lora.rank
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old names of transformers, and autocast without a GPU
        with torch.device(device.kind):
            language = AutoModel.from_config(config, dtype=torch.float32).train()
            states = torch.empty(stage.micro_batch, tokens, config.hidden_size, requires_grad=True)
        if device.kind == "cuda" and not trains:
            for parameter in language.parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
            states = states.detach().to(torch.bfloat16).requires_grad_()
        language.requires_grad_(trains)
        autocast = torch.autocast(device.kind, torch.bfloat16, enabled=device.kind == "cuda")
        with recomputing(language, again), autocast:
            return saved_bytes(language, inputs_embeds=states, use_cache=False)


def saved_bytes(module: nn.Module, **inputs: Any) -> int:
    """Bytes of the storages that a forward pass keeps for its backward pass, but those of parameters."""
    own = {one.untyped_storage()._cdata for one in module.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        """Note its storage."""
        # In fake mode transformers writes out a causal mask, (B, 1, T, T), which a real step does without.
        if not (tensor.ndim == 4 and tensor.shape[1] == 1 and tensor.shape[2] == tensor.shape[3]):
            storage = tensor.untyped_storage()
            seen[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(**inputs)  # holds the graph, and with it every storage: none is counted twice
    del output
    return sum(size for storage, size in seen.items() if storage not in own)
