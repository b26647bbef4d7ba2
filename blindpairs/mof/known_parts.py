"""The parts that recipes name: where the demo's lies, and shapes, to plan before anything is downloaded."""

from dataclasses import dataclass
from typing import Any

from blindpairs.encoders.weights import loading, quiet
from blindpairs.workspace import demo_folder

_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
_CLIP = {**_LARGE, "intermediate_size": 4096, "hidden_act": "quick_gelu"}
# As in the config.json of each.
CLIPS = {
    "hf:openai/clip-vit-large-patch14": {**_CLIP, "image_size": 224},
    "hf:openai/clip-vit-large-patch14-336": {**_CLIP, "image_size": 336},
    "open_clip:ViT-L-14/openai": {**_CLIP, "image_size": 224},
    "open_clip:ViT-L-14-336/openai": {**_CLIP, "image_size": 336},
}
DINOS = {"hf:facebook/dinov2-large": {**_LARGE, "mlp_ratio": 4, "image_size": 518}}
_VICUNA = {"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
_13B = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40}
VICUNAS = {
    f"lmsys/vicuna-{size}-v{version}": shape | _VICUNA
    for size, shape in (("7b", _7B), ("13b", _13B))
    for version in ("1.3", "1.5")
}


def language_model_path(name: str) -> str:
    """`demo:lm` -> the folder of the language model that ships; others as they are."""
    return str(demo_folder() / "lm") if name == "demo:lm" else name


@dataclass(frozen=True)
class VisionPart:
    """transformers' configuration of a tower, its patches, and the side of the images that it is normally given."""

    config: Any
    patch: int
    size: int


def vision_part(spec: str) -> VisionPart:
    """A tower without weights. AssetMissing where its shape is not known here, nor its weights."""
    import transformers

    config: Any
    if spec in CLIPS:
        config = transformers.CLIPVisionConfig(**CLIPS[spec])
        return VisionPart(config, config.patch_size, config.image_size)
    if spec in DINOS:
        config = transformers.Dinov2Config(**DINOS[spec])
        return VisionPart(config, config.patch_size, 224)  # its positions are those of 518, its processor gives 224
    from blindpairs.mof.towers import load_tower

    tower = load_tower(spec)
    return VisionPart(tower.module.config, tower.patch, tower.size)


def language_config(name: str) -> Any:
    """transformers' configuration of a language model: of a folder, of the local cache, or of one that is known."""
    import transformers

    if name in VICUNAS:
        return transformers.LlamaConfig(**VICUNAS[name])
    with loading(name, name), quiet():
        return transformers.AutoConfig.from_pretrained(name)
