"""Architectures whose tokens are tested, and what their libraries say that the tokens are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hub_folders as hub
import torch
from torch import Tensor, nn

from blindpairs.encoders import Tokens

Theirs = tuple[list[Tensor], Tensor, nn.Module]  # raw hidden states of all tokens, the last normed, the norm


@dataclass(frozen=True)
class Case:
    """An architecture: how it is saved, what the spec puts before the folder, what the library says."""

    save: Callable[[Path], Path]
    spec: str
    theirs: Callable[[Path, Tensor], Theirs]
    patch: int
    prefix: int
    class_token: bool
    size: int  # another multiple of the patch than its native 224


@torch.no_grad()
def from_transformers(folder: Path, pixels: Tensor) -> Theirs:
    """`output_hidden_states=True` and `last_hidden_state`, which CLIP alone hands over before its norm."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vision = getattr(model, "vision_model", model)
    is_dino = model.config.model_type.startswith("dino")
    options = {} if is_dino else {"interpolate_pos_encoding": True}
    output = vision(pixel_values=pixels, output_hidden_states=True, **options)
    norms = [getattr(vision, name, None) for name in ("post_layernorm", "layernorm", "norm")]
    norm = next(one for one in norms if one is not None)
    last = output.last_hidden_state
    return list(output.hidden_states), norm(last) if "clip" in model.config.model_type else last, norm


@torch.no_grad()
def from_timm(trunk: Any, pixels: Tensor) -> Theirs:
    """`forward_intermediates`, and `forward_features` for the last; the embeddings as its first block sees them."""
    given: list[Tensor] = []
    hook = trunk.blocks[0].register_forward_pre_hook(lambda _module, arguments: given.append(arguments[0]))
    final, found = trunk.forward_intermediates(pixels, output_fmt="NLC", return_prefix_tokens=True)
    hook.remove()
    joined = [torch.cat([one[1], one[0]], dim=1) if isinstance(one, tuple) else one for one in found]
    return [given[0], *joined], final, trunk.norm


def from_timm_folder(folder: Path, pixels: Tensor) -> Theirs:
    import timm

    options = {} if pixels.shape[-1] == 224 else {"img_size": tuple(pixels.shape[-2:])}
    return from_timm(timm.create_model(f"local-dir:{folder}", pretrained=True, **options).eval(), pixels)


@torch.no_grad()
def from_open_clip(folder: Path, pixels: Tensor) -> Theirs:
    """`visual.forward_intermediates`; the last normed as the tower's own forward hands it out."""
    import open_clip

    options = {"force_image_size": pixels.shape[-1]} if pixels.shape[-1] != 224 else {}
    visual: Any = open_clip.create_model(f"local-dir:{folder}", **options).eval().requires_grad_(False).visual
    if hasattr(visual, "trunk"):
        return from_timm(visual.trunk, pixels)
    found = visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
    raw = [
        torch.cat(pair, dim=1)
        for pair in zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
    ]
    visual.output_tokens = True
    last = torch.cat([visual.ln_post(raw[-1][:, :1]), visual(pixels)[1]], dim=1)
    return [visual._embeds(pixels), *raw], last, visual.ln_post


NARROW_DINOV2 = partial(hub.save_dinov2, shape=hub.NARROW)
NARROW_CLIP = partial(hub.save_clip, shape=hub.NARROW)
OPEN_CLIP = partial(hub.save_open_clip, model_cfg=hub.SMALL_14, preprocess_cfg=hub.OPENAI)
OPEN_CLIP_TIMM = partial(hub.save_open_clip, model_cfg=hub.SIGLIP, preprocess_cfg=hub.SQUASH)


def timm_saver(name: str) -> Callable[[Path], Path]:
    return partial(hub.save_timm, name=name, depth=2, img_size=224)


CASES = {
    "hf-dinov2": Case(NARROW_DINOV2, "hf:", from_transformers, 14, 1, True, 112),
    "hf-dinov2-registers": Case(hub.save_dinov2_with_registers, "hf:", from_transformers, 14, 5, True, 112),
    "hf-dinov3": Case(hub.save_dinov3, "hf:", from_transformers, 16, 5, True, 112),
    "hf-vit": Case(hub.save_vit, "hf:", from_transformers, 16, 1, True, 112),
    "hf-clip": Case(NARROW_CLIP, "hf:", from_transformers, 14, 1, True, 112),
    "hf-clip-vision": Case(hub.save_clip_vision, "hf:", from_transformers, 14, 1, True, 112),
    "hf-siglip": Case(hub.save_siglip, "hf:", from_transformers, 16, 0, False, 112),
    "open_clip": Case(OPEN_CLIP, "open_clip:local-dir:", from_open_clip, 14, 1, True, 112),
    "open_clip-timm": Case(OPEN_CLIP_TIMM, "open_clip:local-dir:", from_open_clip, 16, 1, True, 112),
    "timm-vit": Case(timm_saver("vit_tiny_patch16_224"), "timm:local-dir:", from_timm_folder, 16, 1, True, 112),
    "timm-distilled": Case(
        timm_saver("deit_tiny_distilled_patch16_224"), "timm:local-dir:", from_timm_folder, 16, 2, True, 112
    ),
    "timm-registers": Case(
        timm_saver("vit_small_patch14_reg4_dinov2"), "timm:local-dir:", from_timm_folder, 14, 5, True, 112
    ),
    "timm-dinov3": Case(timm_saver("vit_small_patch16_dinov3"), "timm:local-dir:", from_timm_folder, 16, 5, True, 112),
    "timm-siglip": Case(
        timm_saver("vit_base_patch16_siglip_224"), "timm:local-dir:", from_timm_folder, 16, 0, False, 112
    ),
    "timm-hybrid": Case(timm_saver("vit_tiny_r_s16_p8_224"), "timm:local-dir:", from_timm_folder, 32, 1, True, 96),
}


def noise(images: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * images + width)
    return torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8, generator=generator)


def assert_tokens_of(case: Case, tokens: Tokens, theirs: Tensor, grid: tuple[int, int]) -> None:
    assert tokens.grid == grid
    assert tokens.patches.dtype == torch.float32
    assert tokens.patches.shape[1] == grid[0] * grid[1]
    assert torch.equal(tokens.patches, theirs[:, case.prefix :])
    assert (tokens.class_token is not None) == case.class_token
    if tokens.class_token is not None:
        assert torch.equal(tokens.class_token, theirs[:, 0])
