"""timm models: any backbone that timm knows, with timm's own evaluation preprocessing.

Promise: a tensor of the backbone that a checkpoint file lacks is an error.
"""

import difflib
import math
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from blindpairs.encoders.encoder import Tower
from blindpairs.encoders.specs import LOCAL_DIR, Spec
from blindpairs.encoders.tokens import Transformer
from blindpairs.encoders.weights import loading, local_dir, refuse_missing, state_hash
from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Preprocess

LISTING = "python -c 'import timm; print(timm.list_pretrained())'"


def load_timm(spec: Spec) -> Tower:
    """`NAME[.TAG]`, with its weights from the hub or `?checkpoint=FILE`, or `local-dir:FOLDER` -> the backbone.

    The default vector is the model's own pooling (pool=pooler); pool=cls and pool=mean read the tokens after the final
    norm.
    """
    import timm

    # Without classes there is no classifier: the model returns the vector that it would classify.
    options: dict[str, Any] = {"num_classes": 0, "pretrained": spec.checkpoint is None}
    if spec.size is not None:
        options["img_size"] = spec.size
    name, source = _named(spec)
    with loading(spec.text, source):
        model: Any = _created(spec, name, options)
    if spec.checkpoint is not None:
        _load_checkpoint(spec, model)
    config = timm.data.resolve_model_data_config(model)
    preprocess = _preprocess(spec, config)
    transformer = timm_transformer(spec, model, preprocess.size)
    spec.check_size(transformer.patch_size[0])
    pool = spec.pool_among(("pooler", "cls", "mean") if transformer.has_class_token else ("pooler", "mean"))
    return Tower(
        module=model,
        pooled=model if pool == "pooler" else partial(transformer.pooled, pool=pool),
        transformer=transformer,
        dimension=getattr(model, "head_hidden_size", model.num_features) if pool == "pooler" else transformer.width,
        preprocess=preprocess,
        facts={
            "library": "timm",
            "version": timm.__version__,
            "architecture": f"{model.pretrained_cfg.get('architecture', name)}",
            "pool": f"pooler ({getattr(model, 'global_pool', 'the head')})" if pool == "pooler" else pool,
        },
        weights_hash=state_hash(model),
    )


def _created(spec: Spec, name: str, options: dict[str, Any]) -> Any:
    import timm

    try:
        return timm.create_model(name, **options)
    except (AssertionError, TypeError) as error:
        if spec.size is None:
            raise
        # Not `loading`'s message about broken weights: a ResNet has no such option, and a hybrid needs whole patches.
        raise ConfigError(
            f"{spec.text}: this model cannot be built with size={spec.size}; leave it out, "
            "or use another multiple of the patch size"
        ) from error


def timm_transformer(spec: Spec, model: Any, size: int) -> Transformer:
    """How to read a timm model's tokens; a model without tokens is refused when they are read."""
    # timm has no common interface for these: attributes that a model lacks mean that it has no such thing.
    norm = getattr(model, "norm", None)
    return Transformer(
        spec=spec.text,
        forward=model.forward_features,
        blocks=tuple(getattr(model, "blocks", ())),
        norm=None if isinstance(norm, nn.Identity) else norm,  # then fc_norm norms, after the pooling
        width=int(model.num_features),
        prefix=int(getattr(model, "num_prefix_tokens", 0)),
        has_class_token=getattr(model, "cls_token", None) is not None,
        patch_size=_patch_size(model),
        size=size,
        any_size=bool(getattr(model, "dynamic_img_size", False)),
    )


def _named(spec: Spec) -> tuple[str, str]:
    """(timm's name for the model, what errors call its weights)."""
    import timm

    if (folder := local_dir(spec)) is not None:
        return f"{LOCAL_DIR}{folder}", str(folder)
    architecture, _, tag = spec.target.partition(".")
    if architecture not in timm.list_models():
        near = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)) or "none"
        raise ConfigError(f"{spec.text}: timm has no model {architecture!r}; close: {near}\nlist all: {LISTING}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if spec.checkpoint is None and (not tags or (tag and tag not in tags)):
        known = ", ".join(tags) or "none, so add ?checkpoint=FILE"
        raise ConfigError(f"{spec.text}: {architecture} has no pretrained weights {tag!r}; it has {known}")
    return spec.target, f"the weights of {spec.target}"


def _load_checkpoint(spec: Spec, model: Any) -> None:
    """Load a local file into the backbone. Extra tensors (a classifier) are ignored, missing ones are an error."""
    from timm.models import load_state_dict

    path = Path(str(spec.checkpoint)).expanduser()
    if not path.is_file():
        raise ConfigError(f"{spec.text}: there is no checkpoint file {path}")
    with loading(spec.text, path):
        state = load_state_dict(str(path), weights_only=True)
        # Not strict: a checkpoint has the classifier that this model was built without.
        missing = model.load_state_dict(state, strict=False).missing_keys
    refuse_missing(spec.text, path, missing)


def _patch_size(model: Any) -> tuple[int, int]:
    """Pixels per token; (1, 1) where the model does not say. A hybrid's patches lie on its stem's reduced maps."""
    embedding = getattr(model, "patch_embed", None)
    if embedding is not None and hasattr(embedding, "feat_ratio"):  # pixels of the image, also for a hybrid
        patch = embedding.feat_ratio(as_scalar=False)
    else:
        patch = getattr(embedding, "patch_size", 1)
    return (patch, patch) if isinstance(patch, int) else (int(patch[0]), int(patch[1]))


def _preprocess(spec: Spec, config: dict[str, Any]) -> Preprocess:
    """timm's evaluation transform: resize to size / crop_pct, rounded down, then the centre crop."""
    _, height, width = config["input_size"]
    spec.check_square(height, width)
    mode, interpolation = config["crop_mode"], config["interpolation"]
    if mode not in ("center", "squash") or interpolation not in ("bicubic", "bilinear"):
        given = f"crop_mode={mode} with interpolation={interpolation}"
        raise ConfigError(
            f"{spec.text}: {given} is not supported; blindpairs supports center and squash, bicubic and bilinear"
        )
    size = spec.size or height
    return Preprocess(
        size=size,
        resize="squash" if mode == "squash" else "shortest",
        short_side=math.floor(size / config["crop_pct"]),  # as timm rounds it
        interpolation=interpolation,
        crop_rounding="round",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
