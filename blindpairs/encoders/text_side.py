"""Whether a spec names a model that compares images with texts, told without loading the model."""

from blindpairs.encoders.specs import parse_spec
from blindpairs.encoders.weights import CONFIGS, hub_folder, read_config

# model_type -> transformers' class for both halves, and the pool whose image vectors share the space of the texts.
MODELS = {"clip": ("CLIPModel", "projection"), "siglip": ("SiglipModel", "pooler")}


def has_text_side(spec: str) -> bool:
    """Whether a spec names a CLIP or a SigLIP, whose images and texts share a space.

    The configuration of an `hf:` model says it: a language model that sees images has no such space. Raises
    AssetMissing where the configuration is not here.
    """
    library = spec.partition(":")[0]
    if library != "hf":
        return library in ("open_clip", "demo")
    parsed = parse_spec(spec)
    folder = hub_folder(parsed.text, parsed.target, CONFIGS)
    return read_config(parsed.text, folder / CONFIGS[0]).get("model_type") in MODELS
