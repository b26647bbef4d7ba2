"""The processor of a MoF model: transformers' own `LlavaProcessor`, so that it loads without our code.

It pads an image to a square, resizes it to the model's resolution, normalises it for the first tower, and makes of one
`<image>` in a prompt as many tokens as the image takes. Its chat template takes texts and images.
"""

from pathlib import Path
from typing import Any

from blindpairs.encoders.weights import loading, quiet
from blindpairs.errors import ConfigError
from blindpairs.mof.chat_templates import processor_template

# A token of the vocabulary that stands for an image, or that nothing uses; else the first is added.
IMAGE_TOKENS = ("<image>", "<|image_pad|>", "<|image|>", "[IMG]", "<|reserved_special_token_0|>")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a language model's folder, with `image_token` and `image_token_id`; it may get a token more.

    ConfigError where no token can stand for padding.
    """
    import transformers

    with loading(str(folder), f"the tokenizer in {folder}"), quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        if getattr(tokenizer, "image_token", None) is None:
            known = tokenizer.get_vocab()
            token = next((one for one in IMAGE_TOKENS if one in known), IMAGE_TOKENS[0])
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, extra_special_tokens={"image_token": token})
    for here in ("is_local", "local_files_only"):  # of this machine; transformers would save them with the tokenizer
        tokenizer.init_kwargs.pop(here, None)
    if tokenizer.pad_token is None:  # any will do: places with it are never learned
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ConfigError(f"{folder}: the tokenizer has no token to pad with: give it a pad_token, or an eos_token")
    return tokenizer


def chat_template(tokenizer: Any) -> str:
    """A chat template (Jinja) for texts and images: the tokenizer's own, or LLaVA-1.5's where it has none."""
    return processor_template("chat" if tokenizer.chat_template else "vicuna_v1", tokenizer)


def make_processor(tokenizer: Any, config: Any, patch: int, image_tokens: int) -> Any:
    """The `LlavaProcessor` for a model of that `MofLlavaConfig`, whose first tower has patches of `patch` pixels.

    With `processor.image_processor.do_pad = False` the centre of an image is cut out, as in LLaVA's stage 1.
    """
    from transformers import LlavaImageProcessor, LlavaProcessor

    side = config.resolution
    images = LlavaImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=config.pixel_mean,
        image_std=config.pixel_std,
        do_pad=True,
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",  # takes one token off, as for a class token
        num_additional_image_tokens=1 + image_tokens - (side // patch) ** 2,
        image_token=tokenizer.image_token,
        chat_template=chat_template(tokenizer),
    )
