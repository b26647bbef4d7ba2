"""A LLaVA of few layers with a character tokenizer and random weights, in the hub's layout. Made in a second."""

from pathlib import Path
from typing import Any

import torch

TEMPLATE = """\
{%- for message in messages %}{{ message.role | upper }}: {% for part in message.content %}
{%- if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %} {% endfor %}
{%- if add_generation_prompt %}ASSISTANT:{% endif %}"""
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n"]


def character_tokenizer() -> Any:
    """One token a character."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )


def save_llava(folder: Path, template: str | None = TEMPLATE, *, width: int = 32, layers: int = 2) -> Path:
    """Save the model and its processor."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    shape = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    shape |= {"num_attention_heads": max(2, width // 64)}
    tokenizer = character_tokenizer()
    text = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=4096, pad_token_id=0, bos_token_id=1, eos_token_id=2, **shape
    )
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **shape)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, image_seq_length=16)
    torch.manual_seed(3)
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # the initial weights are so small that no image shows in the text
            parameter.data = torch.randn(parameter.shape) * 1.5 * parameter[0].numel() ** -0.5
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder
