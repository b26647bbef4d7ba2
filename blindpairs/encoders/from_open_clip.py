"""open_clip models: the image tower of a CLIP, with the activation that its weights were trained with."""

import difflib
import os
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from blindpairs.encoders.encoder import Tower
from blindpairs.encoders.from_timm import trunk_tokens
from blindpairs.encoders.specs import LOCAL_DIR, Spec
from blindpairs.encoders.weights import loading, local_folder, require_weights, state_hash
from blindpairs.errors import ConfigError
from blindpairs.preprocess import Preprocess

LISTING = "python -c 'import open_clip; print(open_clip.list_pretrained())'"


def load_open_clip(spec: Spec) -> Tower:
    """`MODEL/TAG`, `MODEL/CHECKPOINT_FILE` or `local-dir:FOLDER` -> its image tower; the text tower is dropped.

    The default vector is the image embedding (pool=projection); pool=cls and pool=mean read the last block after the
    final norm, unprojected.
    """
    import open_clip

    if spec.target.startswith(LOCAL_DIR):
        folder = local_folder(spec.text, spec.target.removeprefix(LOCAL_DIR))
        require_weights(spec.text, folder, ("*.safetensors", "*.bin", "*.pth"))
        name, pretrained, quick_gelu, source = f"{LOCAL_DIR}{folder}", None, False, str(folder)
    else:
        name, pretrained, quick_gelu, source = _named(spec)
    with loading(spec.text, source):
        model = open_clip.create_model(
            name,
            pretrained=pretrained,
            force_quick_gelu=quick_gelu,
            force_image_size=spec.size,
            require_pretrained=True,
            weights_only=True,
        )
    visual: nn.Module = model.visual
    reading = _Reading(visual, spec, open_clip.get_model_config(name)["embed_dim"])
    architecture = type(visual).__name__ if pretrained is None else name  # a folder's path says nothing elsewhere
    facts = {"library": "open_clip", "version": open_clip.__version__, "architecture": architecture}
    return Tower(
        module=visual,
        pooled=reading.pooled,
        patch_tokens=reading.patch_tokens,
        dimension=reading.dimension,
        preprocess=_preprocess(spec, open_clip.get_model_preprocess_cfg(model)),
        facts=facts | {"pool": reading.pool, "activation": _activation(visual)},
        weights_hash=state_hash(visual),
    )


def _named(spec: Spec) -> tuple[str, str, bool, str]:
    """(model, tag or file, whether to force QuickGELU, what to call the weights in an error)."""
    import open_clip

    model, _, pretrained = spec.target.partition("/")
    models = open_clip.list_models()
    if model not in models:
        near = ", ".join(difflib.get_close_matches(model, models, n=5, cutoff=0.5)) or "none"
        raise ConfigError(f"{spec.text}: open_clip has no model {model!r}; close: {near}\nlist all: {LISTING}")
    if os.path.sep in pretrained or Path(pretrained).is_file():
        if not Path(pretrained).expanduser().is_file():
            raise ConfigError(f"{spec.text}: there is no checkpoint file {pretrained}")
        return model, str(Path(pretrained).expanduser()), False, pretrained
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none, so give a checkpoint file"
        raise ConfigError(f"{spec.text}: {model} has no pretrained weights {pretrained!r}; it has {tags}")
    source = str(tag.get("hf_hub") or tag.get("url")).rstrip("/")
    with loading(spec.text, source):  # before the model is built: a missing file is known at once
        open_clip.download_pretrained(tag)
    # open_clip only warns when ViT-L-14/openai, trained with QuickGELU, is built with GELU, and the vectors are wrong.
    return model, pretrained, bool(tag.get("quick_gelu")), source


def _activation(visual: nn.Module) -> str:
    """Which GELU the tower runs, as open_clip built it."""
    return "quick_gelu" if any(type(part).__name__ == "QuickGELU" for part in visual.modules()) else "gelu"


def _preprocess(spec: Spec, config: dict[str, Any]) -> Preprocess:
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ConfigError(f"{spec.text}: images of {height} x {width} are not square, which is not supported")
    if config["resize_mode"] not in ("shortest", "squash"):
        mode = config["resize_mode"]
        raise ConfigError(f"{spec.text}: resize_mode={mode} is not supported; blindpairs does shortest and squash")
    return Preprocess(
        size=height,
        resize=config["resize_mode"],
        short_side=height,
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",  # "random" is for training
        crop_rounding="round",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


class _Reading:
    """How to get vectors and tokens out of one of open_clip's three kinds of image tower."""

    def __init__(self, visual: Any, spec: Spec, embed_dim: int) -> None:
        from open_clip.timm_model import TimmModel
        from open_clip.transformer import VisionTransformer

        self._visual = visual
        self._is_timm: bool = isinstance(visual, TimmModel)
        self._is_vit: bool = isinstance(visual, VisionTransformer)
        pools = ("projection", "cls", "mean") if self._is_vit else ("projection", "mean")
        self.pool = spec.pool_among(pools if self._is_vit or self._is_timm else ("projection",))
        if self._is_vit:
            spec.checked_size(self._visual.patch_size[0])
        trunk = visual.transformer.width if self._is_vit else getattr(getattr(visual, "trunk", None), "num_features", 0)
        self.dimension = int(embed_dim if self.pool == "projection" else trunk)

    def pooled(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D)."""
        if self.pool == "mean":
            return self.patch_tokens(pixels).mean(dim=1)
        if self.pool == "cls":
            return self._blocks(pixels)["image_intermediates_prefix"][0][:, 0]
        vectors = self._visual(pixels)
        vectors = vectors[0] if isinstance(vectors, tuple) else vectors  # CoCa returns its tokens as well
        return vectors  # type: ignore[no-any-return]

    def patch_tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, D)."""
        if self._is_vit:
            return self._blocks(pixels)["image_intermediates"][0]
        if self._is_timm:
            return trunk_tokens(self._visual.trunk, pixels)
        raise ConfigError(f"{type(self._visual).__name__} has no patch tokens; choose a vision transformer")

    def _blocks(self, pixels: Tensor) -> dict[str, list[Tensor]]:
        blocks: dict[str, list[Tensor]] = self._visual.forward_intermediates(
            pixels,
            indices=1,
            normalize_intermediates=self._visual.attn_pool is None,  # CoCa norms after its pooling, in another width
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        return blocks
