"""The two small encoders of the demo, in the formats of the libraries that load the large ones.

`open_clip.create_model_and_transforms("local-dir:FOLDER")` loads what `save_clip` wrote, and
`AutoModel.from_pretrained(FOLDER)` with `AutoImageProcessor` loads what `save_dino` wrote. Neither needs this package.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from blindpairs.demo.draw import SIZE

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
_WIDTH = 128
_BICUBIC = 3  # PIL's number for it; pictures of 64 x 64 pixels are not resized

CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    # In training half of the patches are dropped, which halves the time; category and background are still learned.
    "vision_cfg": {
        "image_size": SIZE,
        "layers": 4,
        "width": 128,
        "head_width": 32,
        "mlp_ratio": 2.0,
        "patch_size": 8,
        "patch_dropout": 0.5,
    },
    # The vocabulary of open_clip's own tokenizer. It is most of the file, although the captions use some 70 tokens.
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def build_clip(seed: int) -> Any:
    """Return an untrained open_clip `CLIP`: a 4-layer ViT at patch 8 and a 2-layer text tower."""
    torch.manual_seed(seed)
    return open_clip.model.CLIP(**CLIP_CONFIG)


def build_dino(seed: int) -> Any:
    """Return an untrained `Dinov2Model` of the same depth and width as the vision tower of `build_clip`."""
    torch.manual_seed(seed)
    config = Dinov2Config(
        hidden_size=_WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=SIZE,
        patch_size=8,
        initializer_range=_WIDTH
        ** -0.5,  # the default, 0.02, is for 768 dimensions: with 128 attention would start out nearly uniform
    )
    model = Dinov2Model(config)
    with torch.no_grad():
        model.embeddings.position_embeddings[0, 1:] = _sines(SIZE // 8)
    return model


def _sines(side: int) -> Tensor:
    """Return sine and cosine position embeddings of a square of patches, (side * side, 128), as initial values.

    They are as large as the patch embeddings. With the library's initial values, which are small and random, facing,
    ball and letter were not learned within 400 steps, because they depend on positions; colour and lamp were.
    """
    frequencies = torch.pi / side * 2.0 ** (torch.arange(_WIDTH // 4) * 4.0 / (_WIDTH // 4))  # half a turn and up
    angles = torch.arange(side)[:, None] * frequencies  # (side, 32)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, 64)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, _WIDTH)


def as_input(pixels: Tensor) -> Tensor:
    """Turn (B, 64, 64, 3) uint8 into the (B, 3, 64, 64) float32 that both encoders take."""
    values = pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
    return (values - MEAN[0]) / STD[0]  # equal for the three channels


def clip_embedding(model: Any, pixels: Tensor) -> Tensor:
    """Return the (B, 128) unit image vectors of a demo CLIP for (B, 64, 64, 3) uint8."""
    vectors: Tensor = model.encode_image(as_input(pixels), normalize=True)
    return vectors


def dino_embedding(model: Any, pixels: Tensor) -> Tensor:
    """Return the (B, 128) unit CLS tokens after the final norm of a demo Dinov2 for (B, 64, 64, 3) uint8."""
    hidden: Tensor = model(pixel_values=as_input(pixels)).last_hidden_state
    return torch.nn.functional.normalize(hidden[:, 0], dim=-1)


def save_clip(model: Any, folder: Path) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors, in float16 to halve the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": MEAN, "std": STD, "size": [SIZE, SIZE], "interpolation": "bicubic", "resize_mode": "shortest"}
    # Patch dropout is saved as 0: open_clip also applies it to a loaded model that is left in training mode.
    model_config = {**CLIP_CONFIG, "vision_cfg": {**CLIP_CONFIG["vision_cfg"], "patch_dropout": 0.0}}
    config = json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess}, indent=1)
    (folder / "open_clip_config.json").write_text(config + "\n", encoding="utf-8")
    weights = {name: value.detach().half().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, str(folder / "open_clip_model.safetensors"))


def save_dino(model: Any, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json.

    In float32, because transformers loads weights in the type in which they are stored.
    """
    model.save_pretrained(str(folder))
    square = {"height": SIZE, "width": SIZE}
    processor = BitImageProcessor(
        size={"shortest_edge": SIZE}, crop_size=square, resample=_BICUBIC, image_mean=list(MEAN), image_std=list(STD)
    )
    processor.save_pretrained(str(folder))
