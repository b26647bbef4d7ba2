"""open_clip models: both towers of a CLIP.

Promises: the tower runs the activation that its weights were trained with, which open_clip only warns about; a model
is never built with random weights; a name that open_clip does not know is an error that lists the closest ones.
"""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blindpairs.encoders.encoder import Tower
from blindpairs.encoders.from_timm import timm_transformer
from blindpairs.encoders.specs import LOCAL_DIR, Spec
from blindpairs.encoders.texts import TextTower, check_shared_space
from blindpairs.encoders.tokens import Transformer
from blindpairs.encoders.weights import loading, local_dir, quiet, state_hash
from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Preprocess

LISTING = "python -c 'import open_clip; print(open_clip.list_pretrained())'"


def load_open_clip(spec: Spec) -> Tower:
    """`MODEL/TAG`, `MODEL/CHECKPOINT_FILE` or `local-dir:FOLDER` -> its image tower; the text tower is dropped.

    The default vector is the image embedding (pool=projection); pool=cls and pool=mean read the last block after the
    final norm, unprojected.
    """
    import open_clip

    source, model = _created(spec)
    visual: nn.Module = model.visual
    preprocess = _preprocess(spec, open_clip.get_model_preprocess_cfg(model))
    transformer = _transformer(spec, visual, preprocess.size)
    if transformer is not None:
        spec.check_size(transformer.patch_size[0])
    embed_dim = open_clip.get_model_config(source.name)["embed_dim"]
    pool = spec.pool_among(_pools(transformer))
    # Recorded in the store: the path of a local folder would mean nothing on another machine.
    architecture = type(visual).__name__ if source.pretrained is None else source.name
    facts = {"library": "open_clip", "version": open_clip.__version__, "architecture": architecture}
    return Tower(
        module=visual,
        pooled=_pooled(visual, transformer, pool),
        transformer=transformer,
        dimension=transformer.width if transformer and pool != "projection" else int(embed_dim),
        preprocess=preprocess,
        facts=facts | {"pool": pool, "activation": _activation(visual)},
        weights_hash=state_hash(visual),
        origin=source.tag_file,
    )


def load_open_clip_text(spec: Spec) -> TextTower:
    """The text side of the model whose image tower `load_open_clip` gives, with open_clip's tokenizer for it."""
    import open_clip

    check_shared_space(spec, "projection")
    source, model = _created(spec)
    with loading(spec.text, f"the tokenizer of {spec.target}"):
        tokenizer = open_clip.get_tokenizer(source.name)
    model.visual = None  # encode_text runs without it
    return TextTower(
        module=model,
        tokens=lambda texts: {"text": tokenizer(texts)},
        vectors=lambda inputs: model.encode_text(inputs["text"], normalize=False),  # (n, D)
        count=partial(_count, tokenizer),
        context=int(tokenizer.context_length),
        dimension=int(open_clip.get_model_config(source.name)["embed_dim"]),
        logit_scale=float(model.logit_scale.detach().exp()),
        facts={"architecture": type(model).__name__, "tokenizer": type(tokenizer).__name__},
        weights_hash=state_hash(model),
    )


def _count(tokenizer: Any, text: str) -> int:
    """The tokens of a text before open_clip cuts it, which it does in silence."""
    from open_clip.tokenizer import get_clean_fn

    if not hasattr(tokenizer, "tokenizer"):  # its own tokenizer; the others wrap one of transformers
        return len(tokenizer.encode(text)) + 2
    cleaned = getattr(tokenizer, "clean_fn", get_clean_fn("canonicalize"))(text)
    adds_own_marks = getattr(tokenizer, "tokenizer_mode", "") == "clips"  # three of them
    with quiet():  # transformers warns of texts beyond a limit that is not the model's
        ids = tokenizer.tokenizer(cleaned, add_special_tokens=not adds_own_marks).input_ids
    return len(ids) + (3 if adds_own_marks else 0)


@dataclass(frozen=True)
class _Source:
    """Where a spec's model comes from, in open_clip's words."""

    name: str  # open_clip's name of the model, or `local-dir:FOLDER`
    weights: str  # what an error calls them
    pretrained: str | None = None  # a tag or a checkpoint file; None for a local folder, which holds its own
    quick_gelu: bool = False  # whether to force QuickGELU
    tag_file: Path | None = None  # the file of the weights that a tag stands for


def _created(spec: Spec) -> tuple[_Source, Any]:
    """Where the model comes from, and the model with both towers."""
    import open_clip

    source = _source(spec)
    with loading(spec.text, source.weights):
        model = open_clip.create_model(
            source.name,
            pretrained=source.pretrained,
            force_quick_gelu=source.quick_gelu,
            force_image_size=spec.size,
            require_pretrained=True,  # else a local folder without weights gives a random model
            weights_only=True,
        )
    return source, model


def _source(spec: Spec) -> _Source:
    """The model and the weights that a spec names; ConfigError where open_clip has no such model or tag.

    A checkpoint file does not say what it was trained with: `ViT-L-14-quickgelu/FILE` is for weights from OpenAI's.
    """
    import open_clip

    if (folder := local_dir(spec)) is not None:
        return _Source(f"{LOCAL_DIR}{folder}", str(folder))
    model, _, pretrained = spec.target.partition("/")
    models = open_clip.list_models()
    if model not in models:
        near = ", ".join(difflib.get_close_matches(model, models, n=5, cutoff=0.5)) or "none"
        raise ConfigError(f"{spec.text}: open_clip has no model {model!r}; close: {near}\nlist all: {LISTING}")
    if os.path.sep in pretrained or Path(pretrained).is_file():
        file = Path(pretrained).expanduser()
        if not file.is_file():
            raise ConfigError(f"{spec.text}: there is no checkpoint file {pretrained}")
        return _Source(model, pretrained, str(file))
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none, so give a checkpoint file"
        raise ConfigError(f"{spec.text}: {model} has no pretrained weights {pretrained!r}; it has {tags}")
    weights = str(tag.get("hf_hub") or tag.get("url")).rstrip("/")
    with loading(spec.text, weights):  # before the model is built, so that a missing file is reported at once
        tag_file = open_clip.download_pretrained(tag)
    # open_clip only warns when ViT-L-14/openai, trained with QuickGELU, is built with GELU, and the vectors are wrong.
    return _Source(model, weights, pretrained, bool(tag.get("quick_gelu")), Path(tag_file) if tag_file else None)


def _activation(visual: nn.Module) -> str:
    """Which GELU the tower runs, as open_clip built it."""
    return "quick_gelu" if any(type(part).__name__ == "QuickGELU" for part in visual.modules()) else "gelu"


def _preprocess(spec: Spec, config: dict[str, Any]) -> Preprocess:
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    spec.check_square(height, width)
    if config["resize_mode"] not in ("shortest", "squash"):
        mode = config["resize_mode"]
        raise ConfigError(f"{spec.text}: resize_mode={mode} is not supported; blindpairs supports shortest and squash")
    return Preprocess(
        size=height,
        resize=config["resize_mode"],
        short_side=height,
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",  # "random" is for training
        crop_rounding="round",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _transformer(spec: Spec, visual: Any, size: int) -> Transformer | None:
    """How to read an image tower's tokens; None for a ResNet."""
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, TimmModel):
        return timm_transformer(spec, visual.trunk, size)
    if not isinstance(visual, VisionTransformer):
        return None
    return Transformer(
        spec=spec.text,
        forward=partial(_normed_tokens, visual),
        blocks=tuple(visual.transformer.resblocks),
        norm=_norm(visual),
        width=int(visual.transformer.width),
        prefix=1,  # the class token
        has_class_token=True,
        patch_size=visual.patch_size,
        size=size,
        any_size=False,  # open_clip interpolates the positions once, when it loads the model
    )


def _norm(visual: Any) -> nn.Module | None:
    """The final norm of the tokens; CoCa norms after its pooling, in another width."""
    return visual.ln_post if visual.attn_pool is None else None


def _normed_tokens(visual: Any, pixels: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, 1 + N, D): the class token and the patches after the last block, and after the norm."""
    last = visual.forward_intermediates(
        pixels,
        indices=1,
        normalize_intermediates=_norm(visual) is not None,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    class_token, patches = last["image_intermediates_prefix"][0], last["image_intermediates"][0]  # (B, 1, D), (B, N, D)
    return torch.cat([class_token, patches], dim=1)


def _pools(transformer: Transformer | None) -> tuple[str, ...]:
    if transformer is None:
        return ("projection",)
    return ("projection", "cls", "mean") if transformer.has_class_token else ("projection", "mean")


def _pooled(visual: Any, transformer: Transformer | None, pool: str) -> Callable[[Tensor], Tensor]:
    if transformer is not None and pool != "projection":
        return partial(transformer.pooled, pool=pool)

    def projection(pixels: Tensor) -> Tensor:
        vectors: Tensor | tuple[Tensor, ...] = visual(pixels)
        return vectors[0] if isinstance(vectors, tuple) else vectors  # CoCa returns its tokens as well

    return projection
