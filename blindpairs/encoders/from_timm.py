"""timm models: whatever backbone timm knows, read as timm's own evaluation reads it."""

import difflib
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from blindpairs.encoders.encoder import Tower
from blindpairs.encoders.specs import LOCAL_DIR, Spec
from blindpairs.encoders.weights import loading, local_folder, require_weights, state_hash
from blindpairs.errors import ConfigError
from blindpairs.preprocess import Preprocess

LISTING = "python -c 'import timm; print(timm.list_pretrained())'"


def load_timm(spec: Spec) -> Tower:
    """`NAME[.TAG]`, with its weights from the hub or `?checkpoint=FILE`, or `local-dir:FOLDER` -> the backbone.

    The default vector is the model's own pooling (pool=pooler); pool=cls and pool=mean read the tokens after the final
    norm.
    """
    import timm

    wanted: dict[str, Any] = {"num_classes": 0, "pretrained": spec.checkpoint is None}
    if spec.size is not None:
        wanted["img_size"] = spec.size
    name, source = _named(spec)
    with loading(spec.text, source):
        model: Any = timm.create_model(name, **wanted)
    if spec.checkpoint is not None:
        _load_checkpoint(spec, model)
    prefix = getattr(model, "num_prefix_tokens", 0)
    spec.checked_size(_patch_size(model))
    pool = spec.pool_among(("pooler", "cls", "mean") if prefix else ("pooler", "mean"))
    config = timm.data.resolve_model_data_config(model)
    return Tower(
        module=model,
        pooled=_pooled(model, pool),
        patch_tokens=lambda pixels: trunk_tokens(model, pixels),
        dimension=getattr(model, "head_hidden_size", model.num_features) if pool == "pooler" else model.num_features,
        preprocess=_preprocess(spec, config),
        facts={
            "library": "timm",
            "version": timm.__version__,
            "architecture": f"{model.pretrained_cfg.get('architecture', name)}",
            "pool": f"pooler ({getattr(model, 'global_pool', 'the head')})" if pool == "pooler" else pool,
        },
        weights_hash=state_hash(model),
    )


def trunk_tokens(model: Any, pixels: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, N, D): a timm transformer's tokens after its final norm, without class and registers."""
    tokens: Tensor = model.forward_features(pixels)
    if tokens.ndim != 3:
        raise ConfigError(f"{type(model).__name__} has no patch tokens; choose a vision transformer")
    return tokens[:, getattr(model, "num_prefix_tokens", 0) :]


def _pooled(model: Any, pool: str) -> Any:
    if pool == "cls":
        return lambda pixels: model.forward_features(pixels)[:, 0]
    return model if pool == "pooler" else lambda pixels: trunk_tokens(model, pixels).mean(dim=1)


def _named(spec: Spec) -> tuple[str, str]:
    """(timm's name, what to call the weights in an error)."""
    import timm

    if spec.target.startswith(LOCAL_DIR):
        folder = local_folder(spec.text, spec.target.removeprefix(LOCAL_DIR))
        require_weights(spec.text, folder, ("*.safetensors", "*.bin", "*.pth"))
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
    """A local file into the backbone; its classifier may be left over, nothing may be missing."""
    from timm.models import load_state_dict

    path = Path(str(spec.checkpoint)).expanduser()
    if not path.is_file():
        raise ConfigError(f"{spec.text}: there is no checkpoint file {path}")
    with loading(spec.text, path):
        state = load_state_dict(str(path), weights_only=True)
        absent = model.load_state_dict(state, strict=False).missing_keys
    if absent:
        raise ConfigError(f"{spec.text}: {path} lacks {len(absent)} tensors of this model, such as {absent[0]}")


def _patch_size(model: Any) -> int:
    embedding = getattr(model, "patch_embed", None)
    patch = getattr(embedding, "patch_size", (1, 1))
    return int(patch[0])


def _preprocess(spec: Spec, config: dict[str, Any]) -> Preprocess:
    """timm's evaluation transform: resize to size / crop_pct, rounded down, then the centre crop."""
    _, height, width = config["input_size"]
    if height != width:
        raise ConfigError(f"{spec.text}: images of {height} x {width} are not square, which is not supported")
    mode, interpolation = config["crop_mode"], config["interpolation"]
    if mode not in ("center", "squash") or interpolation not in ("bicubic", "bilinear"):
        wanted = f"crop_mode={mode} with interpolation={interpolation}"
        raise ConfigError(
            f"{spec.text}: {wanted} is not supported; blindpairs does center and squash, bicubic and bilinear"
        )
    size = spec.size or height
    return Preprocess(
        size=size,
        resize="squash" if mode == "squash" else "shortest",
        short_side=math.floor(size / config["crop_pct"]),
        interpolation=interpolation,
        crop_rounding="round",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
