"""The floating-point operations of a training step, from the shapes of a model's parts.

As torch counts them (`torch.utils.flop_counter`) with attention that is written out, which a test holds exactly: a
multiplication and an addition are two, the masked half of the attention counts, and norms, activations and the
optimizer do not. What is computed a second time, by activation checkpointing or by fused attention in its backward
pass, is no work of the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Work:
    """What goes through the model in one step, over all its samples."""

    tokens: int  # of the sequences, image tokens included
    squares: int  # the sum of their squared lengths
    images: int
    labels: int  # positions with a loss


@dataclass(frozen=True)
class Blocks:
    """A transformer: the weights that every token is multiplied by, and its attention."""

    weights: int
    layers: int
    width: int  # of all heads together
    stem: int = 0  # weights that make a token of a patch

    def linear(self, tokens: int) -> int:
        """A forward pass through the weights."""
        return 2 * self.weights * tokens

    def attention(self, squares: int) -> int:
        """A forward pass through the two products of the attention."""
        return 4 * self.layers * self.width * squares


@dataclass(frozen=True)
class Shape:
    """The parts of a model, and which of them a stage trains."""

    language: Blocks
    head: int  # weights
    towers: tuple[tuple[str, Blocks, int], ...]  # name, blocks, tokens of an image, a class token among them
    projectors: int  # weights
    first_layers: int  # those of them that take the features, which need no gradient
    grid: int  # tokens of an image through each projector
    trained: frozenset[str]
    adapters: int = 0  # weights of LoRA

    def forward(self, work: Work, *, cached: bool = False) -> int:
        """A forward pass; `cached`: the features of the frozen towers are given."""
        towers = 0 if cached else sum(self._tower(blocks, count) for _, blocks, count in self.towers)
        language = self.language.linear(work.tokens) + self.language.attention(work.squares)
        adapters = 2 * self.adapters * work.tokens
        projectors = 2 * self.projectors * self.grid
        return work.images * (towers + projectors) + language + adapters + 2 * self.head * work.labels

    def step(self, work: Work, *, cached: bool = False) -> int:
        """A forward and a backward pass. A frozen weight passes gradients on and gets none of its own."""
        language = self.language.linear(work.tokens)
        trains_language = "language_model" in self.trained and not self.adapters
        backward = language * (2 if trains_language else 1) + 2 * self.language.attention(work.squares)
        backward += 2 * self.head * work.labels * (2 if trains_language else 1)
        backward += 4 * self.adapters * work.tokens
        backward += work.images * self._backward_of_image()
        return self.forward(work, cached=cached) + backward

    def _backward_of_image(self) -> int:
        """Of the projectors and of the towers that are trained."""
        tuned = [(blocks, count) for name, blocks, count in self.towers if name in self.trained]
        # Gradients of the weights, of what is between the layers, and of the features, where a tower needs them.
        weights = self.projectors if "projectors" in self.trained else 0
        passed = self.projectors if tuned else self.projectors - self.first_layers if weights else 0
        flops = 2 * self.grid * (weights + passed)
        for blocks, count in tuned:
            flops += 2 * (blocks.linear(count) + blocks.attention(count * count)) + 2 * blocks.stem * self.grid
        return flops

    def again(self, work: Work) -> int:
        """What activation checkpointing computes a second time."""
        return self.language.linear(work.tokens) + self.language.attention(work.squares)

    def _tower(self, blocks: Blocks, tokens: int) -> int:
        return blocks.linear(tokens) + blocks.attention(tokens * tokens) + 2 * blocks.stem * self.grid


def shape_of(model: Any, trained: frozenset[str]) -> Shape:
    """The shape of a MofLlavaForConditionalGeneration, on any device, of which `trained` are the parts with a rate."""
    inner, config = model.model, model.config
    language = _language(inner.language_model, config.text_config)
    towers = [("clip", inner.vision_tower, config.vision_config), ("dino", inner.aux_tower, config.aux_vision_config)]
    projectors = [one for one in (inner.multi_modal_projector, inner.aux_projector) if one is not None]
    grid = model.image_tokens // (2 if config.mode == "interleaved" else 1)
    return Shape(
        language=language,
        head=model.lm_head.weight.numel(),
        towers=tuple((name, _tower(tower), _tokens(tower, grid)) for name, tower, _ in towers if tower is not None),
        projectors=sum(_weights(one) for one in projectors),
        first_layers=sum(one.linear_1.weight.numel() for one in projectors),
        grid=grid,
        trained=trained,
        adapters=sum(one.numel() for name, one in inner.language_model.named_parameters() if "lora_" in name),
    )


def work_of(labels: Tensor, lengths: list[int], images: int) -> Work:
    """The work of a batch: labels (B, T), the length of each sequence without padding, and its images."""
    counted = int((labels[:, 1:] >= 0).sum())
    return Work(sum(lengths), sum(one * one for one in lengths), images, counted)


def _language(language: Any, config: Any) -> Blocks:
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    weights = sum(one.numel() for name, one in _matrices(language) if "lora_" not in name)
    return Blocks(weights, config.num_hidden_layers, width)


def _tower(tower: Any) -> Blocks:
    body = getattr(tower, "timm_model", tower)
    depth = max(len(part) for part in body.modules() if isinstance(part, nn.ModuleList | nn.Sequential))
    width = int(body.num_features if hasattr(tower, "timm_model") else tower.config.hidden_size)
    stem = sum(part.weight.numel() for part in tower.modules() if isinstance(part, nn.Conv2d))
    return Blocks(_weights(tower), depth, width, stem)


def _tokens(tower: Any, grid: int) -> int:
    """Patches and what stands before them: a class token, registers."""
    body = getattr(tower, "timm_model", tower)
    if hasattr(tower, "timm_model"):
        return grid + int(body.num_prefix_tokens)
    has_class = any("class_embedding" in name or "cls_token" in name for name, _ in tower.named_parameters())
    return grid + int(has_class) + int(getattr(tower.config, "num_register_tokens", 0) or 0)


def _matrices(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            yield name, part.weight


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for _, weight in _matrices(module))
