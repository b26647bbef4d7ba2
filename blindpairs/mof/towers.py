"""An encoder spec -> a vision tower as transformers has it, with the pixels that it was trained on.

A MoF checkpoint holds its towers in one format, whatever library they came from: a CLIP of open_clip becomes a
`CLIPVisionModel`, a model of timm a `TimmWrapperModel`, the encoder of a masked autoencoder a `ViTModel`.

Promises: the tokens equal those of the library that the weights come from, to rounding; a tensor that a checkpoint
lacks is an error. Positions of another image size are interpolated as transformers does it (timm: as timm does, when
the weights are loaded), which is not what torch.hub's DINOv2 does: the position table differs by some percent.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from blindpairs.encoders.from_transformers import refuse_untrained
from blindpairs.encoders.specs import LOCAL_DIR, Spec, parse_spec, without_demo
from blindpairs.encoders.weights import CONFIGS, hub_folder, loading, local_folder, quiet, read_config
from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Preprocess
from blindpairs.mof.modeling_mof_llava import tower_patch

# model_type -> transformers' class for the vision part, where it is not the one that AutoModel takes.
VISION_PARTS = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    # The encoder alone, of the same weights: the class of the whole hides patches at random.
    "vit_mae": "ViTModel",
}
SHAPE = ("patch_size", "hidden_size", "num_hidden_layers")  # what the configuration of a tower must tell
OF_CLIP = {  # open_clip -> transformers
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
}
OF_BLOCK = {
    "ln_1": "layer_norm1",
    "attn.out_proj": "self_attn.out_proj",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
POOLING = ("proj", "ln_post.", "attn_pool")  # what open_clip needs for its one vector, and tokens do not


@dataclass(frozen=True)
class VisionTower:
    """A whole vision tower in float32 on the CPU, and its preprocessing."""

    module: Any  # a PreTrainedModel that AutoModel.from_config(module.config) builds
    mean: tuple[float, ...]  # of each colour, from 0 to 1
    std: tuple[float, ...]
    size: int  # the side of the square images that it is normally given
    fixed: bool = False  # whether its positions are those of that size; else they follow the image at every pass

    @property
    def patch(self) -> int:
        """The side of its patches in pixels."""
        return tower_patch(self.module)


def load_tower(text: str, grid: int | None = None) -> VisionTower:
    """The vision tower that a spec names, with blocks and norm as the library has them.

    `grid` is how many patches along a side it will be given, for libraries that fix that when they load.
    ConfigError: not a spec, or a network without patch tokens. AssetMissing: no weights here, and no download.
    """
    spec = without_demo(parse_spec(text))
    if spec.library == "hf":
        return _of_transformers(spec)
    if spec.library == "open_clip":
        from blindpairs.encoders.from_open_clip import load_open_clip

        tower = load_open_clip(spec)
        return _as_vision_tower(clip_of_open_clip(spec, tower.module), tower.preprocess)
    return _of_timm(spec, grid)


def _as_vision_tower(module: Any, rules: Preprocess, *, fixed: bool = False) -> VisionTower:
    return VisionTower(module.requires_grad_(False).eval(), rules.mean, rules.std, rules.size, fixed)


def _of_transformers(spec: Spec) -> VisionTower:
    """A folder or repository in the hub's layout."""
    import transformers

    folder = hub_folder(spec.text, spec.target, CONFIGS)
    model_type = str(read_config(spec.text, folder / CONFIGS[0]).get("model_type"))
    with loading(spec.text, folder), quiet():
        if model_type in VISION_PARTS:
            kind = getattr(transformers, VISION_PARTS[model_type])
        else:
            kind = transformers.MODEL_MAPPING[type(transformers.AutoConfig.from_pretrained(folder))]
        config = _encoder_alone(folder) if model_type == "vit_mae" else kind.config_class.from_pretrained(folder)
        if kind.main_input_name != "pixel_values" or not all(hasattr(config, name) for name in SHAPE):
            raise ConfigError(f"{spec.text}: model_type {model_type!r} is not a vision transformer with patches")
        module, report = kind.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
    # An untrained pooler is dropped with the blocks that are not needed.
    needed = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    refuse_untrained(spec, folder, {"missing_keys": needed})
    size = processor.crop_size if processor.do_center_crop else processor.size
    side = int(size.height or size.shortest_edge)
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    return VisionTower(module.requires_grad_(False).eval(), mean, std, side)


def _encoder_alone(folder: Any) -> Any:
    """The configuration of a masked autoencoder's encoder as that of a ViT."""
    import transformers

    whole = transformers.ViTMAEConfig.from_pretrained(folder)
    names = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"]
    names += ["layer_norm_eps", "image_size", "patch_size", "num_channels", "qkv_bias"]
    return transformers.ViTConfig(**{name: getattr(whole, name) for name in names})


def clip_of_open_clip(spec: Spec, visual: Any) -> Any:
    """open_clip's vision transformer -> transformers' `CLIPVisionModel` with the same weights and activation.

    The norm that belongs to the pooling is left out. ConfigError for a network that this class cannot express.
    """
    from open_clip.transformer import VisionTransformer
    from transformers import CLIPVisionConfig, CLIPVisionModel
    from transformers.initialization import no_init_weights

    if not isinstance(visual, VisionTransformer):
        raise ConfigError(
            f"{spec.text}: only open_clip's own vision transformers can be towers, not {type(visual).__name__}; "
            "give the same weights as hf: or timm:"
        )
    block = visual.transformer.resblocks[0]
    quick = any(type(part).__name__ == "QuickGELU" for part in block.modules())
    config = CLIPVisionConfig(
        hidden_size=visual.conv1.out_channels,
        intermediate_size=_rows(visual, "transformer.resblocks.0.mlp.c_fc.weight"),
        num_hidden_layers=len(visual.transformer.resblocks),
        num_attention_heads=block.attn.num_heads,
        image_size=int(visual.image_size[0]),
        patch_size=int(visual.patch_size[0]),
        hidden_act="quick_gelu" if quick else "gelu",
        layer_norm_eps=block.ln_1.eps,
    )
    named, unknown = _renamed(visual.state_dict())
    with no_init_weights():
        module = CLIPVisionModel(config)
    missing = [name for name in module.state_dict() if name not in named and not name.startswith("post_layernorm.")]
    if missing or unknown:
        odd = (unknown + missing)[0]
        raise ConfigError(f"{spec.text}: this network is not a plain CLIP ({odd} has no counterpart); give it as timm:")
    module.load_state_dict(named, strict=False)
    return module


def _rows(visual: nn.Module, name: str) -> int:
    return int(visual.state_dict()[name].shape[0])


def _renamed(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors under transformers' names, names that have no counterpart there)."""
    named: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if name in OF_CLIP:
            named[OF_CLIP[name]] = tensor
        elif name.startswith("transformer.resblocks."):
            number, _, rest = name.removeprefix("transformer.resblocks.").partition(".")
            owner, _, kind = rest.rpartition(".")
            layer = f"encoder.layers.{number}"
            if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):  # one matrix for query, key and value
                for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                    named[f"{layer}.self_attn.{letter}_proj.{rest.removeprefix('attn.in_proj_')}"] = part
            elif owner in OF_BLOCK:
                named[f"{layer}.{OF_BLOCK[owner]}.{kind}"] = tensor
            else:
                unknown.append(name)
        elif not name.startswith(POOLING):
            unknown.append(name)
    return named, unknown


def _of_timm(spec: Spec, grid: int | None) -> VisionTower:
    """A timm model inside transformers' wrapper for it."""
    from blindpairs.encoders.from_timm import load_timm

    tower = load_timm(spec)
    module = _wrapped(spec, tower.module)
    patch = tower_patch(module)
    if grid is not None and tower.preprocess.size // patch != grid:  # timm resamples the positions when it loads
        spec = replace(spec, size=grid * patch)
        tower = load_timm(spec)
        module = _wrapped(spec, tower.module)
    return _as_vision_tower(module, tower.preprocess, fixed=True)


def _wrapped(spec: Spec, model: Any) -> Any:
    from transformers import TimmWrapperConfig, TimmWrapperModel

    if not hasattr(model, "blocks") or not hasattr(getattr(model, "patch_embed", None), "patch_size"):
        raise ConfigError(f"{spec.text}: this network has no patch tokens; take a vision transformer (ViT)")
    architecture, options = spec.target.partition(".")[0], {}
    if spec.target.startswith(LOCAL_DIR):
        stored = read_config(spec.text, local_folder(spec.text, spec.target.removeprefix(LOCAL_DIR)) / CONFIGS[0])
        architecture, options = str(stored.get("architecture")), dict(stored.get("model_args") or {})
    if spec.size is not None:
        options["img_size"] = spec.size
    options.pop("num_classes", None)
    config = TimmWrapperConfig(architecture=architecture, model_args=options, do_pooling=False)
    with loading(spec.text, spec.target):
        module = TimmWrapperModel(config)
        module.timm_model.load_state_dict(model.state_dict())
    return module
