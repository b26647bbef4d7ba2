"""The text half of a CLIP, SigLIP or SigLIP 2 in the hub's layout, with the tokenizer that lies beside its weights.

Promises, besides those of `from_transformers.py`: a folder without a tokenizer is an error (transformers builds one of
three words for it); a SigLIP gets its texts padded to the full context, because its vector is read at the last place.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blindpairs.encoders.from_transformers import refuse_untrained
from blindpairs.encoders.specs import Spec
from blindpairs.encoders.text_side import MODELS
from blindpairs.encoders.texts import Inputs, TextTower, check_shared_space, no_texts
from blindpairs.encoders.weights import CONFIGS, hub_extra, hub_folder, loading, quiet, read_config, state_hash
from blindpairs.errors import AssetMissing, ConfigError

VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")  # a tokenizer has one of them
TOKENIZER = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def load_transformers_text(spec: Spec) -> TextTower:
    """A hub repository or a local folder -> the text half of its model, with its tokenizer.

    SigLIP 2 has the configuration of a SigLIP (but for NaFlex, which is not supported) and is told by its tokenizer.
    """
    folder = hub_folder(spec.text, spec.target, (*CONFIGS, *TOKENIZER))
    config = read_config(spec.text, folder / CONFIGS[0])
    if config.get("model_type") not in MODELS:
        raise no_texts(spec, f" (model_type {config.get('model_type')!r})")
    class_name, pool = MODELS[config["model_type"]]
    check_shared_space(spec, pool)
    tokenizer = _tokenizer(spec, folder)
    model = _model(spec, folder, class_name)
    context = int(model.config.text_config.max_position_embeddings)
    # SigLIP 2 was trained on lower case, which the tokenizer of Gemma beside its weights leaves to the caller.
    lower = class_name == "SiglipModel" and type(tokenizer).__name__.startswith("Gemma")
    # No SigLIP was trained with a mask over its padding, although a tokenizer may give one.
    names = ("input_ids",) if class_name == "SiglipModel" else ("input_ids", "attention_mask")

    def tokens(texts: Sequence[str]) -> Inputs:
        cleaned = [text.lower() if lower else text for text in texts]
        encoded = tokenizer(cleaned, padding="max_length", max_length=context, return_tensors="pt")
        return {name: encoded[name] for name in names if name in encoded}

    def count(text: str) -> int:
        with quiet():  # it warns of texts beyond a limit that is not the model's
            return len(tokenizer(text.lower() if lower else text).input_ids)

    def vectors(inputs: Inputs) -> Tensor:
        pooled: Tensor = model.get_text_features(**inputs).pooler_output  # (n, D); projected for a CLIP
        return pooled

    return TextTower(
        module=model,
        tokens=tokens,
        vectors=vectors,
        count=count,
        context=context,
        dimension=_dimension(model),
        logit_scale=float(model.logit_scale.detach().exp()),
        facts={"architecture": class_name, "tokenizer": type(tokenizer).__name__, "lower_case": lower},
        weights_hash=state_hash(model),
    )


def _dimension(model: Any) -> int:
    config = model.config
    return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)


def _tokenizer(spec: Spec, folder: Path) -> Any:
    """The tokenizer of the folder, fetched where the image side came without it."""
    from transformers import AutoTokenizer
    from transformers.utils import is_sentencepiece_available

    if not _has_vocabulary(folder):
        folder = hub_extra(spec, folder, TOKENIZER)
    if not _has_vocabulary(folder):
        raise AssetMissing(f"{spec.text}: no tokenizer in {folder}; put one of {', '.join(VOCABULARIES)} there")
    if (folder / "spiece.model").is_file() and not is_sentencepiece_available():
        raise ConfigError(
            f"{spec.text}: its tokenizer needs sentencepiece, which is not installed; "
            "pip install 'blindpairs[siglip]', or take the open_clip weights of this model"
        )
    with loading(spec.text, f"the tokenizer in {folder}"), quiet():
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _has_vocabulary(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARIES)


def _model(spec: Spec, folder: Path, class_name: str) -> Any:
    """The whole model without its image half: the half alone lacks the scale of the logits."""
    import transformers

    with loading(spec.text, folder), quiet():
        model, report = getattr(transformers, class_name).from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    refuse_untrained(spec, folder, report)
    model.vision_model = None
    if class_name == "CLIPModel":
        model.visual_projection = None
    return model
