"""Vision towers in the hub's layout (config.json, preprocessor_config.json, weights), read with transformers.

The text half of a CLIP or SigLIP is read by `texts_from_transformers.py`.

Promises: the tower runs in float32 for checkpoints of any precision; a tensor that the checkpoint lacks is an error
(transformers fills it with random numbers and a log line); the text half of a CLIP or SigLIP is never built here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blindpairs.encoders.encoder import Tower
from blindpairs.encoders.specs import Spec
from blindpairs.encoders.tokens import Transformer
from blindpairs.encoders.weights import CONFIGS, hub_folder, loading, quiet, read_config, refuse_missing, state_hash
from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Preprocess


@dataclass(frozen=True)
class Family:
    """One model_type: transformers' class for its vision tower, and its poolings.

    The first pool is the default. For DINOv2 it is the class token after the final norm; transformers calls the same
    vector pooler_output. A plain ViT's pooler is left out: most checkpoints never trained one.
    """

    class_name: str
    pools: tuple[str, ...]
    norm: str = "layernorm"  # the attribute that holds the final norm
    class_tokens: int = 1
    interpolates: bool = False  # whether position embeddings of another size need interpolate_pos_encoding=True


FAMILIES = {
    "dinov2": Family("Dinov2Model", ("cls", "mean", "pooler")),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", ("cls", "mean", "pooler")),
    # Its own processor resizes floats. Ours rounds to bytes after the resize: the vectors stay the same in practice.
    "dinov3_vit": Family("DINOv3ViTModel", ("cls", "mean", "pooler"), "norm"),
    "vit": Family("ViTModel", ("cls", "mean"), interpolates=True),
    "clip": Family("CLIPVisionModelWithProjection", ("projection", "cls", "mean"), "post_layernorm", interpolates=True),
    "clip_vision_model": Family("CLIPVisionModel", ("pooler", "cls", "mean"), "post_layernorm", interpolates=True),
    "siglip": Family("SiglipVisionModel", ("pooler", "mean"), "post_layernorm", 0, interpolates=True),
    "siglip_vision_model": Family("SiglipVisionModel", ("pooler", "mean"), "post_layernorm", 0, interpolates=True),
}


def load_transformers(spec: Spec) -> Tower:
    """A hub repository or a local folder -> its vision tower, with the preprocessing stored beside it."""
    import transformers

    folder = hub_folder(spec.text, spec.target, CONFIGS)
    config = read_config(spec.text, folder / CONFIGS[0])
    family = _family(spec, config)
    preprocess = _preprocess(spec, folder)
    model = _model(spec, folder, family, config)
    pool = spec.pool_among(family.pools)
    transformer = _transformer(spec, model, family, preprocess.size)
    spec.check_size(int(model.config.patch_size))
    return Tower(
        module=model,
        pooled=_pooled(model, family, transformer, pool),
        transformer=transformer,
        dimension=int(model.config.projection_dim if pool == "projection" else transformer.width),
        preprocess=preprocess,
        facts={
            "library": "transformers",
            "version": transformers.__version__,
            "architecture": family.class_name,
            "pool": pool,
            "revision": folder.name if folder.parent.name == "snapshots" else "",
        },
        weights_hash=state_hash(model),
    )


def _family(spec: Spec, config: dict[str, Any]) -> Family:
    model_type = config.get("model_type")
    # Saved from the class with the projection, a vision tower has the model_type of the one without it.
    if model_type == "clip_vision_model" and "CLIPVisionModelWithProjection" in (config.get("architectures") or ()):
        model_type = "clip"
    if model_type not in FAMILIES:
        raise ConfigError(f"{spec.text}: model_type {model_type!r} is not supported; supported: {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def _model(spec: Spec, folder: Path, family: Family, raw: dict[str, Any]) -> Any:
    import transformers

    model_class = getattr(transformers, family.class_name)
    extra = {"add_pooling_layer": False} if family.class_name == "ViTModel" else {}
    with loading(spec.text, folder), quiet():
        config = model_class.config_class.from_pretrained(folder)
        if "vision_config" in raw and "projection_dim" in raw:
            config.projection_dim = raw["projection_dim"]  # that of the whole CLIP; vision_config may have another
        model, report = model_class.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, **extra
        )
    refuse_untrained(spec, folder, report)
    return model


def refuse_untrained(spec: Spec, folder: Path, report: Mapping[str, Any]) -> None:
    """ConfigError if the checkpoint lacks tensors, by transformers' loading info."""
    # A mask token is only used in pretraining: a checkpoint may lack it.
    refuse_missing(spec.text, folder, sorted(key for key in report["missing_keys"] if not key.endswith("mask_token")))


def _preprocess(spec: Spec, folder: Path) -> Preprocess:
    """What the folder's image processor does, with the defaults of its class; ConfigError for what is not supported."""
    import transformers

    config = _processor_config(spec, folder)
    # Old repositories have an old name of the class. Its defaults complete what their file leaves out.
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    kind = kind.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    if not kind.endswith("ImageProcessor") or not hasattr(transformers, kind):
        raise ConfigError(f"{spec.text}: transformers has no image processor {kind!r}, which {folder} asks for")
    processor = getattr(transformers, kind).from_dict(config)
    resize, short_side, size = _geometry(spec, processor)
    if spec.size is not None:
        short_side, size = round(short_side * spec.size / size), spec.size  # keeps the share that the crop cuts off
    return Preprocess(
        size=size,
        resize="squash" if resize == "squash" else "shortest",
        short_side=short_side,
        interpolation="bicubic" if _resample(spec, processor) == 3 else "bilinear",
        crop_rounding="floor",
        mean=tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
        std=tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
    )


def _processor_config(spec: Spec, folder: Path) -> dict[str, Any]:
    """preprocessor_config.json, or its part in the processor_config.json that transformers 5 writes for a CLIP."""
    if not (folder / CONFIGS[1]).is_file() and (folder / CONFIGS[2]).is_file():
        return dict(read_config(spec.text, folder / CONFIGS[2]).get("image_processor") or {})
    return read_config(spec.text, folder / CONFIGS[1])


def _geometry(spec: Spec, processor: Any) -> tuple[str, int, int]:
    """(resize rule, side after the resize, side after the crop)."""
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    if processor.do_resize and processor.do_rescale and not getattr(processor, "do_pad", False):
        if size.shortest_edge and not size.longest_edge and crop and crop.height == crop.width:
            return "shortest", int(size.shortest_edge), int(crop.height)
        if size.height and size.height == size.width and (crop is None or crop.height == crop.width):
            return "squash", int(size.height), int(crop.height if crop else size.height)
    asked = f"size={dict(size)} and crop_size={dict(crop) if crop else None}"
    raise ConfigError(f"{spec.text}: a preprocessing with {asked} is not supported")


def _resample(spec: Spec, processor: Any) -> int:
    resample = int(processor.resample)
    if resample not in (2, 3):
        raise ConfigError(f"{spec.text}: resample={resample} is not supported; supported: 2 (bilinear), 3 (bicubic)")
    return resample


def _transformer(spec: Spec, model: Any, family: Family, size: int) -> Transformer:
    """How to read a tower's tokens. Class token and registers come first; other sizes interpolate the positions."""
    config = model.config
    vision = getattr(model, "vision_model", model)
    norm: nn.Module = getattr(vision, family.norm)

    def forward(pixels: Tensor) -> Tensor:
        tokens: Tensor = _output(model, family, pixels).last_hidden_state
        # (B, P + N, D). CLIP alone norms its class token only.
        return norm(tokens) if family.class_name.startswith("CLIP") else tokens

    return Transformer(
        spec=spec.text,
        forward=forward,
        # The attribute has another name in each release of transformers: the list is found by its length.
        blocks=tuple(next(part for part in vision.modules() if _are_blocks(part, config.num_hidden_layers))),
        norm=norm,
        width=int(config.hidden_size),
        prefix=family.class_tokens + int(getattr(config, "num_register_tokens", 0)),
        has_class_token=family.class_tokens > 0,
        patch_size=(int(config.patch_size), int(config.patch_size)),
        size=size,
        any_size=True,
    )


def _are_blocks(part: nn.Module, depth: int) -> bool:
    return isinstance(part, nn.ModuleList) and len(part) == depth


def _output(model: Any, family: Family, pixels: Tensor) -> Any:
    native = (model.config.image_size, model.config.image_size)
    options = {"interpolate_pos_encoding": True} if family.interpolates and pixels.shape[-2:] != native else {}
    return model(pixel_values=pixels, **options)


def _pooled(model: Any, family: Family, transformer: Transformer, pool: str) -> Callable[[Tensor], Tensor]:
    if pool in ("cls", "mean"):
        return partial(transformer.pooled, pool=pool)
    name = {"projection": "image_embeds", "pooler": "pooler_output"}[pool]
    return lambda pixels: getattr(_output(model, family, pixels), name)
