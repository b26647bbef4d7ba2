"""LLaVA with a Mixture of Features (arXiv 2401.06209): CLIP, a vision-only encoder such as DINOv2, or both.

This file is saved with every checkpoint, so it imports nothing but torch and transformers:
`AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)` needs no other code.

Promises: the two towers see one tensor of pixels and give tokens of one grid; `encode` (frozen, so that its results can
be cached) and `fuse` (trainable) together are `get_image_features`; with mode "clip", or "additive" with a
`clip_weight` of 1, every logit is bit-equal to that of transformers' own LLaVA; a tower has only the blocks that its
features need.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, LlavaConfig, LlavaForConditionalGeneration, LlavaModel
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
from transformers.utils.generic import can_return_tuple

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHOICES = {
    "mode": ("clip", "dino", "additive", "interleaved", "concat"),
    "feature_norm": ("none", "l2", "layernorm"),
    "projector_type": ("mlp2x_gelu", "linear"),
    "aux_normalization": ("own", "imagenet", "clip"),
}
# Where the classes of transformers and timm keep the norm after their last block.
FINAL_NORMS = ("post_layernorm", "layernorm", "norm")

# Without it a LLaVA checkpoint, which has older names, loads with a random language model and only a log line.
register_checkpoint_conversion_mapping("mof_llava", get_checkpoint_conversion_mapping("llava"), overwrite=True)


class MofLlavaConfig(LlavaConfig):  # type: ignore[misc]
    """A LLaVA's configuration with a second tower, `aux_vision_config`, and how the features of both are mixed.

    Pixels arrive normalised with `pixel_mean` and `pixel_std`, which are those of CLIP; the model maps them to
    `aux_mean` and `aux_std` for the second tower. ValueError for a word that is none of CHOICES.
    """

    model_type = "mof_llava"
    sub_configs_defaults = {  # noqa: RUF012
        **LlavaConfig.sub_configs_defaults,
        "aux_vision_config": SubConfigSpec(config_class=AutoConfig, model_type="dinov2", optional=True),
    }

    aux_vision_config: Any = None
    mode: str = "interleaved"
    clip_weight: float = 0.5  # the paper's alpha: additive features are clip_weight * CLIP + (1 - clip_weight) * DINO
    resolution: int = 336  # side of the square pixel_values
    aux_feature_layer: int = -1
    aux_feature_norm: bool = False  # whether the second tower's features are those after its final norm
    aux_normalization: str = "own"  # aux_mean and aux_std: the tower's own, ImageNet's, or the pixels' as they are
    pixel_mean: Any = CLIP_MEAN
    pixel_std: Any = CLIP_STD
    aux_mean: Any = None
    aux_std: Any = None
    feature_norm: str = "none"  # of each tower's features, before they are projected or mixed
    projector_type: str = "mlp2x_gelu"

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from the rest; ValueError for what cannot be."""
        if self.aux_vision_config is None and self.mode != "clip":
            self.aux_vision_config = {"model_type": "dinov2"}
        if self.mode == "dino":  # the only tower; its configuration stands where other programs look for one
            self.vision_config = self.aux_vision_config
        super().__post_init__(**kwargs)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        if not 0 <= self.clip_weight <= 1:
            raise ValueError(f"clip_weight is {self.clip_weight}; it must be from 0 to 1")
        if not isinstance(self.vision_feature_layer, int):
            raise ValueError("vision_feature_layer must be one layer: features of several layers are not supported")
        as_they_are = self.aux_normalization == "clip"
        mean, std = (self.pixel_mean, self.pixel_std) if as_they_are else (IMAGENET_MEAN, IMAGENET_STD)
        self.aux_mean = list(self.aux_mean or mean)
        self.aux_std = list(self.aux_std or std)
        self.pixel_mean, self.pixel_std = list(self.pixel_mean), list(self.pixel_std)


class MofProjector(nn.Module):
    """Features (..., width) -> token embeddings (..., D): two layers with a GELU between them, or one layer.

    Named and computed as LLaVA's own projector, so that weights of either fit the other.
    """

    def __init__(self, config: MofLlavaConfig, width: int) -> None:
        super().__init__()
        size, bias = config.text_config.hidden_size, config.multimodal_projector_bias
        self.linear_1 = nn.Linear(width, size, bias=bias)
        two = config.projector_type == "mlp2x_gelu"
        self.act: Any = ACT2FN[config.projector_hidden_act] if two else None
        self.linear_2: Any = nn.Linear(size, size, bias=bias) if two else None

    def forward(self, features: Tensor) -> Tensor:
        """(..., width) of any precision, as a cache may hold them -> (..., D)."""
        weight = self.linear_1.weight
        projected: Tensor = self.linear_1(features.to(weight.dtype) if weight.is_floating_point() else features)
        return projected if self.linear_2 is None else self.linear_2(self.act(projected))


def interleave(clip: Tensor, dino: Tensor) -> Tensor:
    """Alternate the two towers' tokens so that neighbours in the sequence show the same patch: c0 d0 c1 d1 ..."""
    return torch.stack([clip, dino], dim=2).flatten(1, 2)  # 2 x (B, N, D) -> (B, N, 2, D) -> (B, 2N, D)


def cut_tower(tower: Any, layer: int, *, norm: bool) -> Any:
    """Make `last_hidden_state` of a vision tower the tokens of `layer`, after or before the final norm.

    Later blocks, the pooling head and an unwanted norm are dropped, in place. Reading the last hidden state, not one
    that transformers records on the way, also works where FSDP has changed the class of the tower, which recording
    goes by. Layer k is the output of block k, -1 that of the last block, -2 that of the last but one.
    ValueError: no such layer, or no such norm.
    """
    body = getattr(tower, "timm_model", tower)
    blocks = _blocks(tower)
    kept = layer + len(blocks) + 1 if layer < 0 else layer
    if not 1 <= kept <= len(blocks):
        raise ValueError(f"there is no layer {layer}: this tower has {len(blocks)} blocks")
    del blocks[kept:]
    place = next((name for name in FINAL_NORMS if isinstance(getattr(body, name, None), nn.Module)), None)
    # A CLIP norms only its class token; a timm model without a norm for its tokens has an Identity in its place.
    has_norm = place is not None and not isinstance(getattr(body, place), nn.Identity)
    if norm and (not has_norm or tower.config.model_type == "clip_vision_model"):
        raise ValueError(f"a {tower.config.model_type} has no norm for its patch tokens; read them without it")
    if place is not None and not norm:
        setattr(body, place, nn.Identity())
    for name in ("pooler", "head", "attn_pool", "fc_norm"):
        if isinstance(getattr(body, name, None), nn.Module):
            setattr(body, name, nn.Identity() if name == "fc_norm" else None)
    if hasattr(body, "use_head"):
        body.use_head = False
    for part in [one for one in body.modules() if isinstance(getattr(one, "mask_token", None), nn.Parameter)]:
        token = part.mask_token.data  # of pretraining: as a parameter, DDP would wait for its gradient for ever
        del part.mask_token
        part.register_buffer("mask_token", token)
    return tower


def _blocks(tower: Any) -> Any:
    """The list of a tower's transformer blocks, found by its length: each class of transformers names it otherwise."""
    if hasattr(tower, "timm_model"):
        return tower.timm_model.blocks
    depth = tower.config.num_hidden_layers
    return next(part for part in tower.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)


def tower_width(tower: Any) -> int:
    """The number of channels of a tower's tokens."""
    return int(tower.timm_model.num_features if hasattr(tower, "timm_model") else tower.config.hidden_size)


def tower_patch(tower: Any) -> int:
    """The side of a tower's patches in pixels."""
    patch = tower.timm_model.patch_embed.patch_size if hasattr(tower, "timm_model") else tower.config.patch_size
    return int(patch if isinstance(patch, int) else patch[0])


class MofLlavaModel(LlavaModel):  # type: ignore[misc]
    """The towers, their projectors and the language model without its head. What the mode does not use is None."""

    config: MofLlavaConfig
    config_class = MofLlavaConfig
    # Those of the blocks that `cut_tower` drops.
    _keys_to_ignore_on_load_unexpected = [r"vision_tower\.", r"aux_tower\."]  # noqa: RUF012

    def __init__(self, config: MofLlavaConfig) -> None:
        super(LlavaModel, self).__init__(config)  # not LLaVA's own, which builds a tower and a projector in every mode
        mode = config.mode
        self.vision_tower: Any = None
        self.aux_tower: Any = None
        self.multi_modal_projector: Any = None
        self.aux_projector: Any = None
        if mode != "dino":
            tower = AutoModel.from_config(config.vision_config)
            self.vision_tower = cut_tower(tower, config.vision_feature_layer, norm=False)
        if mode != "clip":
            tower = AutoModel.from_config(config.aux_vision_config)
            self.aux_tower = cut_tower(tower, config.aux_feature_layer, norm=config.aux_feature_norm)
        self._build_projectors()
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def _build_projectors(self) -> None:
        widths = [tower_width(tower) for tower in self._towers().values()]
        mode = self.config.mode
        if mode == "additive" and widths[0] != widths[1]:
            raise ValueError(
                f"mode additive adds the features of the towers, which are {widths[0]} and {widths[1]} channels wide; "
                "take towers of one width, or mode concat or interleaved"
            )
        if mode != "dino":
            self.multi_modal_projector = MofProjector(self.config, sum(widths) if mode == "concat" else widths[0])
        if mode in ("dino", "interleaved"):
            self.aux_projector = MofProjector(self.config, widths[-1])

    def _towers(self) -> dict[str, Any]:
        named = {"clip": self.vision_tower, "dino": self.aux_tower}
        return {name: tower for name, tower in named.items() if tower is not None}

    @property
    def tower_names(self) -> tuple[str, ...]:
        """The towers in the order of what `encode` gives: "clip", "dino", or both."""
        return tuple(self._towers())

    @property
    def image_tokens(self) -> int:
        """The number of tokens that an image takes in the sequence."""
        return 2 * self.patches if self.config.mode == "interleaved" else self.patches

    @property
    def patches(self) -> int:
        """The number of tokens that each tower gives for an image."""
        return self._grid(self.config.resolution) ** 2

    def _grid(self, side: int) -> int:
        """Patches along a side of the image; both towers have those of the first."""
        return side // tower_patch(next(iter(self._towers().values())))

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) -> the selected tokens (B, N, width) of each tower of `tower_names`, all on one grid.

        Without gradients for a tower that is frozen.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[-1] != pixel_values.shape[-2]:
            raise ValueError(f"pixel_values are {tuple(pixel_values.shape)}; they must be (images, 3, side, side)")
        grid = self._grid(pixel_values.shape[-1])
        return tuple(self._tokens(name, tower, pixel_values, grid) for name, tower in self._towers().items())

    def _tokens(self, name: str, tower: Any, pixels: Tensor, grid: int) -> Tensor:
        if name == "dino":
            pixels = self._renormalised(pixels)
        patch = tower_patch(tower)
        if pixels.shape[-1] // patch != grid:  # patches of another size: the same grid from another number of pixels
            side = (grid * patch, grid * patch)
            pixels = functional.interpolate(
                pixels.float(), size=side, mode="bicubic", align_corners=False, antialias=True
            )
        first = next(tower.parameters())
        trainable = any(one.requires_grad for one in tower.parameters())
        if not trainable and tower.training:
            tower.eval()  # no dropout in features that are to be the same every time
        options = {"interpolate_pos_encoding": True} if _interpolates(tower) else {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and trainable):
            tokens: Tensor = tower(pixel_values=pixels.to(first.dtype), **options).last_hidden_state
        if tokens.ndim != 3 or tokens.shape[1] < grid * grid:
            raise ValueError(f"the {name} tower gives {tuple(tokens.shape)}, not at least {grid} x {grid} tokens")
        return tokens[:, tokens.shape[1] - grid * grid :]  # class token and registers come first

    def _renormalised(self, pixels: Tensor) -> Tensor:
        """Undo the normalisation of CLIP and apply that of the second tower, as one affine map a channel.

        From Python numbers: a buffer would come back as noise from `from_pretrained`, which builds it on no device.
        """
        config = self.config
        if (config.pixel_mean, config.pixel_std) == (config.aux_mean, config.aux_std):
            return pixels
        rules = zip(config.pixel_mean, config.pixel_std, config.aux_mean, config.aux_std, strict=True)
        channels = [
            one * (old_std / std) + (old_mean - mean) / std
            for one, (old_mean, old_std, mean, std) in zip(pixels.float().unbind(dim=1), rules, strict=True)
        ]
        return torch.stack(channels, dim=1)

    def fuse(self, features: tuple[Tensor, ...]) -> Tensor:
        """The features of `encode`, each (B, N, width), -> tokens of the language model (B, T, D)."""
        normed = [self._normed(one) for one in features]
        mode, weight = self.config.mode, self.config.clip_weight
        if mode == "interleaved":
            mixed: Tensor = interleave(self.multi_modal_projector(normed[0]), self.aux_projector(normed[1]))
            return mixed
        if mode == "additive":
            mixed = weight * normed[0] + (1 - weight) * normed[1]
        else:
            mixed = torch.cat(normed, dim=-1)  # one tower, or mode concat
        projector = self.aux_projector if mode == "dino" else self.multi_modal_projector
        projected: Tensor = projector(mixed)
        return projected

    def _normed(self, features: Tensor) -> Tensor:
        if self.config.feature_norm == "l2":
            return functional.normalize(features.float(), dim=-1).to(features.dtype)
        if self.config.feature_norm == "layernorm":
            return functional.layer_norm(features.float(), features.shape[-1:]).to(features.dtype)
        return features

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """(B, 3, S, S) -> `pooler_output`, a list of one (T, D) an image. The layer is the one that the model has."""
        if kwargs.get("vision_feature_layer") not in (None, self.config.vision_feature_layer):
            raise ValueError("vision_feature_layer is chosen when the model is built: later blocks are not there")
        return _as_output(self.fuse(self.encode(pixel_values)))

    def get_placeholder_mask(self, input_ids: Any, inputs_embeds: Tensor, image_features: Tensor) -> Tensor:
        """Where image features go in the sequence. ValueError if there are more or fewer places than features.

        In training, one image without any place for it is let through, with weight 0: with it a batch of texts alone
        runs the same modules as the other processes' batches, and every projector has a gradient.
        """
        if input_ids is None or torch.compiler.is_compiling():
            return super().get_placeholder_mask(input_ids, inputs_embeds, image_features)  # type: ignore[no-any-return]
        mask: Tensor = input_ids == self.config.image_token_id
        places, given, each = int(mask.sum()), len(image_features), self.image_tokens
        if places != given and not (self.training and places == 0 and given == each):
            raise ValueError(
                f"the prompts have {places} image tokens, and {given // each} images take {given}: "
                f"each <image> must become {each} image tokens, as the processor does"
            )
        return mask.unsqueeze(-1).to(inputs_embeds.device)

    def forward(self, input_ids: Any = None, features: Any = None, **kwargs: Any) -> Any:
        """LLaVA's forward, which also takes `features` that `encode` gave earlier, instead of `pixel_values`."""
        if features is not None:
            if kwargs.get("pixel_values") is not None or kwargs.get("mm_encoder_outputs") is not None:
                raise ValueError("give features, pixel_values or mm_encoder_outputs, not several of them")
            kwargs["mm_encoder_outputs"] = {"image": _as_output(self.fuse(features))}
        if self.training:
            kwargs.setdefault("use_cache", False)  # with a cache, packed samples would see each other
        return super().forward(input_ids=input_ids, **kwargs)


def _interpolates(tower: Any) -> bool:
    """Whether positions of another image size must be asked for; other towers always follow the size."""
    return "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters


def _as_output(tokens: Tensor) -> BaseModelOutputWithPooling:
    return BaseModelOutputWithPooling(pooler_output=list(tokens))


class MofLlavaForConditionalGeneration(LlavaForConditionalGeneration):  # type: ignore[misc]
    """The whole model, with the head of the language model."""

    config: MofLlavaConfig
    config_class = MofLlavaConfig
    _keys_to_ignore_on_load_unexpected = MofLlavaModel._keys_to_ignore_on_load_unexpected

    def __init__(self, config: MofLlavaConfig) -> None:
        super(LlavaForConditionalGeneration, self).__init__(config)  # not LLaVA's own, which builds a LlavaModel
        self.model = MofLlavaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        # LLaVA's own name for the table is that of a Llama; other language models call it otherwise.
        table = self.model.language_model.get_input_embeddings()
        name = next(name for name, part in self.named_modules() if part is table)
        self._tied_weights_keys = {"lm_head.weight": f"{name}.weight"}
        self.post_init()

    @property
    def tower_names(self) -> tuple[str, ...]:
        """As `MofLlavaModel.tower_names`."""
        return self.model.tower_names

    @property
    def image_tokens(self) -> int:
        """As `MofLlavaModel.image_tokens`."""
        return self.model.image_tokens

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """As `MofLlavaModel.encode`."""
        return self.model.encode(pixel_values)

    def fuse(self, features: tuple[Tensor, ...]) -> Tensor:
        """As `MofLlavaModel.fuse`."""
        return self.model.fuse(features)

    def save_pretrained(self, save_directory: Any, state_dict: Any = None, **kwargs: Any) -> None:
        """As transformers does, but under the names that the modules have, and without emptying `state_dict`.

        A Trainer that resumes loads the file by those names, and only logs what it does not find. The configuration
        names the classes for every AutoModel that takes them; transformers would name one.
        """
        whole, file = "MofLlavaForConditionalGeneration", "modeling_mof_llava"
        named = {"AutoModel": "MofLlavaModel", "AutoModelForImageTextToText": whole, "AutoModelForMultimodalLM": whole}
        self.config.auto_map = {"AutoConfig": f"{file}.MofLlavaConfig"} | {k: f"{file}.{v}" for k, v in named.items()}
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, state_dict=None if state_dict is None else dict(state_dict), **kwargs)


# `transformers serve` takes no model that is not in a list of its own, not even one whose code it was told to trust.
MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.setdefault(MofLlavaConfig.model_type, "MofLlavaForConditionalGeneration")
MofLlavaConfig.register_for_auto_class()
MofLlavaModel.register_for_auto_class("AutoModel")
MofLlavaForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
