"""MoF models with random weights: of two tiny towers, or of the demo's towers, and a language model of two layers."""

from pathlib import Path
from typing import Any

import torch
from encoder_parity import randomised
from tiny_llava import character_tokenizer

from blindpairs.mof.building import Fusion, build_mof
from blindpairs.mof.modeling_mof_llava import MofLlavaConfig, MofLlavaForConditionalGeneration

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE, VOCABULARY = 4, 101  # the image token, and how many tokens there are


def text_config(**options: Any) -> Any:
    """A Llama of two layers for the character tokenizer."""
    from transformers import LlamaConfig

    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return LlamaConfig(**{**SHAPE, **ends, "vocab_size": VOCABULARY, "max_position_embeddings": 4096, **options})


def tiny_config(**options: Any) -> MofLlavaConfig:
    """A CLIP of three blocks and a Dinov2 of two with registers, both on a grid of 4 x 4 patches."""
    from transformers import CLIPVisionConfig, Dinov2WithRegistersConfig

    shape = {"hidden_size": 32, "num_attention_heads": 2, "patch_size": 8}
    clip = CLIPVisionConfig(**shape, intermediate_size=64, num_hidden_layers=3, image_size=32)
    dino = Dinov2WithRegistersConfig(**shape, num_hidden_layers=2, image_size=48, mlp_ratio=2, num_register_tokens=3)
    parts = {"vision_config": clip, "aux_vision_config": dino, "text_config": text_config()}
    return MofLlavaConfig(**{**parts, "resolution": 32, "image_token_index": IMAGE, "pad_token_id": 0, **options})


def tiny_mof(**options: Any) -> Any:
    """A model of `tiny_config`, in evaluation mode, whose logits an image changes."""
    torch.manual_seed(0)
    model = randomised(MofLlavaForConditionalGeneration(tiny_config(**options)))
    model.generation_config.update(pad_token_id=0, eos_token_id=2, suppress_tokens=[IMAGE])
    return model


def save_language_model(folder: Path) -> Path:
    """Save a Llama with a character tokenizer that has <image>."""
    from transformers import LlamaForCausalLM

    randomised(LlamaForCausalLM(text_config())).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


def demo_mof(language_model: Path, **fusion: Any) -> tuple[Any, Any]:
    """The model and its processor, with the demo's towers."""
    return build_mof("demo:clip", "demo:dino", language_model, Fusion(**fusion))


def question(model: Any, images: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """`images` prompts of one image each: input_ids (images, T + 9) and pixel_values (images, 3, S, S)."""
    generator = torch.Generator().manual_seed(seed)
    side = model.config.resolution
    text = torch.randint(5, VOCABULARY, (images, 9), generator=generator)
    places = torch.full((images, model.image_tokens), model.config.image_token_id)
    pixels = torch.randn(images, 3, side, side, generator=generator)
    return {"input_ids": torch.cat([text[:, :2], places, text[:, 2:]], dim=1), "pixel_values": pixels}
