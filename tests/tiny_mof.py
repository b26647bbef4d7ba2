"""MoF models of the demo's towers and a language model of two layers with random weights and a character tokenizer."""

from pathlib import Path
from typing import Any

import torch
from encoder_parity import randomised
from tiny_llava import character_tokenizer

from blindpairs.mof.building import Fusion, build_mof


def save_language_model(folder: Path, **options: Any) -> Path:
    """Save a Llama that answers something else to every image; its tokenizer has <image>."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **{**shape, **options},
    )
    randomised(LlamaForCausalLM(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def demo_mof(language_model: Path, **fusion: Any) -> tuple[Any, Any]:
    """The model and its processor, with the demo's towers."""
    return build_mof("demo:clip", "demo:dino", language_model, Fusion(**fusion))


def question(model: Any, images: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """`images` prompts of one image each: input_ids (images, T + 9) and pixel_values (images, 3, S, S)."""
    generator = torch.Generator().manual_seed(seed)
    side = model.config.resolution
    text = torch.randint(5, 90, (images, 9), generator=generator)
    places = torch.full((images, model.image_tokens), model.config.image_token_id)
    pixels = torch.randn(images, 3, side, side, generator=generator)
    return {"input_ids": torch.cat([text[:, :2], places, text[:, 2:]], dim=1), "pixel_values": pixels}
