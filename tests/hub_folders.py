"""Folders in the hub's layout, with random weights in real classes and the hub's own processor files.

For transformers first, then for open_clip and timm.
"""

import json
from pathlib import Path
from typing import Any

from encoder_parity import randomised

WIDE = {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14}
NARROW = {"hidden_size": 192, "num_attention_heads": 3, "patch_size": 14}


def save_processor(folder: Path, config: dict[str, Any]) -> Path:
    """A preprocessor_config.json as it lies on the hub."""
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder


DINO_PROCESSOR = {  # facebook/dinov2-large
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}
CLIP_PROCESSOR = {  # openai/clip-vit-large-patch14, as it was written in 2021
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
SIGLIP_PROCESSOR = {  # google/siglip-base-patch16-224
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "SiglipProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
VIT_PROCESSOR = {  # google/vit-base-patch16-224
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": 224,
}
DINOV3_PROCESSOR = {  # facebook/dinov3-vitl16-pretrain-lvd1689m
    "data_format": "channels_first",
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}


def save_dinov2(folder: Path, layers: int = 2, shape: dict[str, int] = WIDE) -> Path:
    """DINOv2-large, shallow: trained at 518, used at 224, so that its position embeddings are interpolated."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(**shape, num_hidden_layers=layers, image_size=518)
    randomised(Dinov2Model(config)).save_pretrained(folder)
    return save_processor(folder, DINO_PROCESSOR)


def save_dinov2_with_registers(folder: Path) -> Path:
    """DINOv2-small with four registers, shallow."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(
        hidden_size=384,
        num_attention_heads=6,
        patch_size=14,
        num_hidden_layers=2,
        image_size=518,
        num_register_tokens=4,
    )
    randomised(Dinov2WithRegistersModel(config)).save_pretrained(folder)
    return save_processor(folder, DINO_PROCESSOR)


def save_clip(folder: Path, shape: dict[str, int] = WIDE) -> Path:
    """The hub's CLIP ViT-L/14 in both halves; `projection_dim` stands outside the vision half's config."""
    from transformers import CLIPConfig, CLIPModel

    vision = {**shape, "num_hidden_layers": 2, "intermediate_size": 4 * shape["hidden_size"], "image_size": 224}
    text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768))
    randomised(model).save_pretrained(folder)
    return save_processor(folder, CLIP_PROCESSOR)


def save_siglip(folder: Path) -> Path:
    """A SigLIP base of two layers, both halves."""
    from transformers import SiglipConfig, SiglipModel

    text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    vision = {"hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "patch_size": 16}
    model = SiglipModel(SiglipConfig(text_config=text | {"projection_size": 768}, vision_config=vision))
    randomised(model).save_pretrained(folder)
    return save_processor(folder, SIGLIP_PROCESSOR)


SHALLOW_VISION = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
SHALLOW_TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def save_clip_with_tokenizer(folder: Path, **text: Any) -> Path:
    """A small CLIP of both halves with the tokenizer of OpenAI, as vocab.json and merges.txt; `text` is its config."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPConfig, CLIPModel

    words = SimpleTokenizer()
    vocabulary = {_hub_name(name): number for name, number in words.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    merges = sorted(words.bpe_ranks, key=words.bpe_ranks.__getitem__)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    vision = {**SHALLOW_VISION, "image_size": 64, "patch_size": 16}
    ends = {"bos_token_id": words.sot_token_id, "eos_token_id": words.eot_token_id}
    model = CLIPModel(CLIPConfig(text_config=SHALLOW_TEXT | ends | text, vision_config=vision, projection_dim=32))
    randomised(model).save_pretrained(folder)
    return save_processor(folder, {**CLIP_PROCESSOR, "crop_size": 64, "size": 64})


def _hub_name(token: str) -> str:
    return {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}.get(token, token)


def save_small_siglip(folder: Path, words: int, context: int = 64) -> Path:
    """A small SigLIP of both halves for a vocabulary of so many words; its tokenizer is to be saved beside it."""
    from transformers import SiglipConfig, SiglipModel

    text = SHALLOW_TEXT | {"vocab_size": words, "max_position_embeddings": context, "projection_size": 64}
    vision = {**SHALLOW_VISION, "image_size": 64, "patch_size": 16}
    randomised(SiglipModel(SiglipConfig(text_config=text, vision_config=vision))).save_pretrained(folder)
    return save_processor(folder, {**SIGLIP_PROCESSOR, "size": {"height": 64, "width": 64}})


def save_gemma_tokenizer(folder: Path, sentences: list[str]) -> int:
    """A Gemma tokenizer, as a SigLIP 2 has it, of the words in some sentences; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    tokenizer.train_from_iterator(sentences, BpeTrainer(vocab_size=600, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names: dict[str, Any] = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk", "mask")}
    config: dict[str, Any] = {
        "tokenizer_class": "GemmaTokenizer",
        "padding_side": "right",
        "model_input_names": ["input_ids"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config | names | {"add_eos_token": True}))
    return int(tokenizer.get_vocab_size())


def save_vit(folder: Path) -> Path:
    """A classifier, as google/vit-base-patch16-224 is: its tower lies under `vit.`."""
    from transformers import ViTConfig, ViTForImageClassification

    randomised(ViTForImageClassification(ViTConfig(num_hidden_layers=2))).save_pretrained(folder)
    return save_processor(folder, VIT_PROCESSOR)


def save_dinov3(folder: Path) -> Path:
    """DINOv3 of two layers: rotary positions, four registers, resized as floats by its own processor."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(num_hidden_layers=2, hidden_size=384, num_attention_heads=6, num_register_tokens=4)
    randomised(DINOv3ViTModel(config)).save_pretrained(folder)
    return save_processor(folder, DINOV3_PROCESSOR)


def save_clip_vision(folder: Path) -> Path:
    """The vision half alone, unprojected."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(**NARROW, num_hidden_layers=2, intermediate_size=768, image_size=224)
    randomised(CLIPVisionModel(config)).save_pretrained(folder)
    return save_processor(folder, CLIP_PROCESSOR)


def save_clip_vision_with_projection(folder: Path) -> Path:
    """The vision half alone, projected: its model_type is that of the unprojected one."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**NARROW, num_hidden_layers=2, intermediate_size=768, image_size=224, projection_dim=96)
    randomised(CLIPVisionModelWithProjection(config)).save_pretrained(folder)
    return save_processor(folder, CLIP_PROCESSOR)


TINY_TEXT = {"context_length": 16, "vocab_size": 64, "width": 64, "heads": 2, "layers": 1}
SMALL_14 = {
    "embed_dim": 96,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 192, "patch_size": 14, "head_width": 64},
    "text_cfg": TINY_TEXT,
}
SIGLIP = {
    "embed_dim": 192,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": "none",
    },
    "text_cfg": TINY_TEXT,
}
OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
SQUASH = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}


READER = {  # reads texts with open_clip's own tokenizer, whose vocabulary is that of OpenAI
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def save_open_clip(folder: Path, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any]) -> Path:
    """An open_clip folder as it lies on the hub: config, preprocessing, safetensors."""
    import open_clip
    from safetensors.torch import save_file

    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg})
    )
    model = randomised(open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    save_file(
        {name: one.contiguous() for name, one in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def save_timm(folder: Path, name: str, data_config: dict[str, Any] | None = None, **options: Any) -> Path:
    """A timm model as timm itself would push it to the hub."""
    import timm
    from timm.models._hub import save_for_hf

    model = randomised(timm.create_model(name, **options))
    save_for_hf(model, str(folder), model_args=options, safe_serialization=True, data_config=data_config)
    return folder
