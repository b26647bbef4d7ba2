"""Two towers and a language model become one MoF model; saving it and loading it again.

Promises: every weight but those of the projectors comes from the parts that were given, and that is checked; the same
seed gives the same projectors; a language model whose logits are more than its head applied to its hidden states is
refused, because LLaVA would compute others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from blindpairs.encoders.weights import hub_folder, loading, quiet
from blindpairs.errors import ConfigError
from blindpairs.mof.generation import settings_of
from blindpairs.mof.modeling_mof_llava import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MofLlavaConfig,
    MofLlavaForConditionalGeneration,
    cut_tower,
)
from blindpairs.mof.processing import load_tokenizer, make_processor
from blindpairs.mof.towers import VisionTower, load_tower

Mode = Literal["clip", "dino", "additive", "interleaved", "concat"]
LANGUAGE_FILES = ("config.json", "*.json", "*.jinja", "*.model", "*.txt")
MULTIPLE = 64  # rows of the embedding table: other numbers are slow on a GPU
PROJECTORS = ("multi_modal_projector", "aux_projector")


@dataclass(frozen=True)
class Fusion:
    """How the towers are read and mixed. The defaults are the paper's, as far as it and its code say."""

    mode: Mode = "interleaved"
    clip_weight: float = 0.5  # the paper's alpha; mode additive only
    resolution: int | None = None  # side of the images in pixels; None: what the first tower is normally given
    clip_layer: int = -2
    dino_layer: int = -1
    dino_norm: bool = False  # the paper's code reads the last block before the final norm
    # "own": what the tower was trained with, for DINOv2 ImageNet's; "clip": CLIP's, as in the paper's code.
    dino_normalization: Literal["own", "imagenet", "clip"] = "own"
    feature_norm: Literal["none", "l2", "layernorm"] = "none"
    projector: Literal["mlp2x_gelu", "linear"] = "mlp2x_gelu"

    @property
    def towers(self) -> tuple[str, ...]:
        """The towers that the mode reads: "clip", "dino" or both."""
        return (self.mode,) if self.mode in ("clip", "dino") else ("clip", "dino")


def build_mof(
    clip: str,
    dino: str,
    language_model: str | Path,
    fusion: Fusion,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[MofLlavaForConditionalGeneration, Any]:
    """Encoder specs and a causal language model (a folder or repository) -> (model on the CPU, processor).

    The towers are frozen. The spec of a tower that the mode does not read may be "".
    ConfigError: parts that do not fit. AssetMissing: no weights.
    """
    with torch.random.fork_rng(devices=[]):  # libraries draw numbers for weights that they then replace
        towers = _towers({"clip": clip, "dino": dino}, fusion)
        folder = hub_folder(str(language_model), str(language_model), LANGUAGE_FILES)
        tokenizer = load_tokenizer(folder)
        language = _language_model(folder, tokenizer, dtype)
    try:
        model = _assembled(_config(towers, language, tokenizer, fusion), towers, language, seed).to(dtype)
        model.encode(torch.zeros(1, 3, model.config.resolution, model.config.resolution))
    except (ValueError, RuntimeError, AssertionError) as error:  # no such layer, widths or sizes that do not fit
        raise ConfigError(f"{' with '.join(filter(None, (clip, dino)))}: {error}") from error
    model.generation_config = settings_of(language, tokenizer)
    processor = make_processor(tokenizer, model.config, next(iter(towers.values())).patch, model.image_tokens)
    return model, processor


def _towers(specs: dict[str, str], fusion: Fusion) -> dict[str, VisionTower]:
    """The towers that the mode reads, the first of which sets the grid."""
    found: dict[str, VisionTower] = {}
    grid = None
    for name in fusion.towers:
        if not specs[name]:
            raise ConfigError(f"mode {fusion.mode} needs an encoder for --{name}")
        tower = load_tower(specs[name], grid)
        if grid is None:
            side = fusion.resolution or tower.size
            check_side(side, tower.patch, tower.size)
            grid = side // tower.patch
            if tower.fixed and tower.size != side:
                tower = load_tower(specs[name], grid)
        found[name] = tower
    return found


def check_side(side: int, patch: int, normal: int) -> None:
    """ConfigError for a side of images that is neither made of whole patches nor what the tower is normally given."""
    if side % patch and side != normal:
        near = max(1, round(side / patch)) * patch
        raise ConfigError(f"resolution {side} is not a multiple of the patch size {patch}; use {near}")


def _language_model(folder: Path, tokenizer: Any, dtype: torch.dtype) -> Any:
    """The causal language model, with a row for the image token."""
    import transformers

    with loading(str(folder), folder), quiet():
        model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    _refuse_missing(folder, report)
    _check_head(folder, model)
    rows = model.get_input_embeddings().num_embeddings
    own = [number for token, number in tokenizer.get_vocab().items() if token != tokenizer.image_token]
    if max(own) >= rows:
        raise ConfigError(
            f"{folder}: the tokenizer has ids up to {max(own):,}, and the embedding table has {rows:,} rows: "
            "take the tokenizer that belongs to these weights, or resize the table"
        )
    if tokenizer.image_token_id >= rows:
        _add_rows(model, tokenizer.image_token_id + 1)
    return model


@torch.no_grad()
def _check_head(folder: Path, model: Any) -> None:
    """ConfigError unless the logits are those of a head without bias on the last hidden states."""
    head = model.get_output_embeddings()
    ids = torch.tensor([[0, 1]])
    if isinstance(head, nn.Linear) and head.bias is None:
        plain = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
        if torch.allclose(plain, model(input_ids=ids, use_cache=False).logits, rtol=1e-4, atol=1e-5):
            return
    raise ConfigError(
        f"{folder}: the logits of a {type(model).__name__} are not a plain linear map of its hidden states, as LLaVA "
        "computes them; take a model such as a Llama, Qwen or Mistral"
    )


@torch.no_grad()
def _add_rows(model: Any, tokens: int) -> None:
    """Grow the vocabulary to a multiple of MULTIPLE; new rows are the mean of the old ones, so that none is likely."""
    before = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(tokens, pad_to_multiple_of=MULTIPLE, mean_resizing=False)
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):  # one and the same where they are tied
        table.weight[before:] = table.weight[:before].mean(dim=0)


def _config(towers: dict[str, VisionTower], language: Any, tokenizer: Any, fusion: Fusion) -> MofLlavaConfig:
    first, second = next(iter(towers.values())), towers.get("dino")
    mean, std = first.mean, first.std
    if fusion.mode == "dino" and fusion.dino_normalization != "own":
        # The processor's is then the one that is asked for.
        mean, std = (CLIP_MEAN, CLIP_STD) if fusion.dino_normalization == "clip" else (IMAGENET_MEAN, IMAGENET_STD)
    own = {"aux_mean": second.mean, "aux_std": second.std} if second and fusion.dino_normalization == "own" else {}
    return config_of(
        fusion,
        fusion.resolution or first.size,
        vision_config=towers["clip"].module.config if "clip" in towers else None,
        aux_vision_config=second.module.config if second else None,
        text_config=language.config,
        image_token_index=tokenizer.image_token_id,
        pixel_mean=mean,
        pixel_std=std,
        **own,
    )


def config_of(fusion: Fusion, side: int, **parts: Any) -> MofLlavaConfig:
    """The configuration of a model with such a fusion at `side` pixels; `parts` holds all that is not of the fusion."""
    return MofLlavaConfig(
        mode=fusion.mode,
        clip_weight=fusion.clip_weight,
        resolution=side,
        vision_feature_layer=fusion.clip_layer,
        aux_feature_layer=fusion.dino_layer,
        aux_feature_norm=fusion.dino_norm,
        aux_normalization=fusion.dino_normalization,
        feature_norm=fusion.feature_norm,
        projector_type=fusion.projector,
        **parts,
    )


def _assembled(
    config: MofLlavaConfig, towers: dict[str, VisionTower], language: Any, seed: int
) -> MofLlavaForConditionalGeneration:
    """The model around the given parts, which are not copied, with new projectors."""
    from transformers.initialization import meta_device_safe_creation_ops, no_init_weights

    # Without memory: the parts that are loaded take the places of these, and no weight is there twice.
    with torch.device("meta"), meta_device_safe_creation_ops(), no_init_weights(), quiet():
        model: MofLlavaForConditionalGeneration = MofLlavaForConditionalGeneration(config)
    config.image_seq_length = model.image_tokens
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    inner = model.model
    if "clip" in towers:
        inner.vision_tower = cut_tower(towers["clip"].module, config.vision_feature_layer, norm=False)
    if "dino" in towers:
        inner.aux_tower = cut_tower(towers["dino"].module, config.aux_feature_layer, norm=config.aux_feature_norm)
    inner.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    for number, name in enumerate(PROJECTORS):
        if (projector := getattr(inner, name)) is not None:
            _renewed(projector, seed + number)  # another seed, so that two of one shape do not start equal
    absent = {name for name, tensor in model.state_dict().items() if tensor.is_meta}
    found = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if absent or found != wanted:
        odd = min(absent | (found.keys() ^ wanted.keys()) | {name for name in found if found[name] != wanted.get(name)})
        raise ConfigError(f"the parts do not make a whole model: {odd} is missing, left over or of another shape")
    model.eval()
    return model


def _renewed(projector: nn.Module, seed: int) -> None:
    """New weights, as torch initialises a linear layer and LLaVA leaves them."""
    projector.to_empty(device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in projector.modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()


def parts(model: MofLlavaForConditionalGeneration) -> dict[str, nn.Module]:
    """What can be frozen or trained on its own, by name: "clip", "dino", their projectors, "language_model".

    Modes additive and concat have one "projector", modes with projectors of their own "clip_projector" and
    "dino_projector". The language model's head belongs to it.
    """
    inner = model.model
    shared = model.config.mode in ("additive", "concat")
    named = {
        "clip": inner.vision_tower,
        "dino": inner.aux_tower,
        "projector" if shared else "clip_projector": inner.multi_modal_projector,
        "dino_projector": inner.aux_projector,
        "language_model": nn.ModuleDict({"model": inner.language_model, "head": model.lm_head}),
    }
    return {name: part for name, part in named.items() if part is not None}


def save_mof(model: MofLlavaForConditionalGeneration, processor: Any, folder: Path) -> None:
    """Write a folder that `AutoModelForImageTextToText` and `AutoProcessor` load, with the code of the model."""
    with quiet():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)


def load_mof(folder: Path, *, dtype: torch.dtype = torch.float32) -> tuple[MofLlavaForConditionalGeneration, Any]:
    """(model with frozen towers, processor) of a folder that `save_mof` wrote. ConfigError if tensors are missing."""
    import transformers

    with loading(str(folder), folder), quiet():
        processor = transformers.LlavaProcessor.from_pretrained(folder, trust_remote_code=False)
        model, report = MofLlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    _refuse_missing(folder, report)
    for name in ("vision_tower", "aux_tower"):
        if (tower := getattr(model.model, name)) is not None:
            tower.requires_grad_(False)
    return model.eval(), processor


def _refuse_missing(folder: Path, report: dict[str, Any]) -> None:
    """ConfigError if a checkpoint lacks tensors: transformers fills them with random numbers."""
    if absent := sorted(report["missing_keys"]):
        raise ConfigError(f"{folder} lacks {len(absent)} tensors of this model, such as {absent[0]}")
