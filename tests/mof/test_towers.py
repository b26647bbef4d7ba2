"""A spec's tower gives the tokens of the library that its weights come from, whole or cut, at any size it can take."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import hub_folders as hub
import pytest
import torch
from encoder_parity import randomised
from torch import Tensor

from blindpairs.encoders import Layer, load_encoder
from blindpairs.errors import AssetMissing, ConfigError
from blindpairs.mof.modeling_mof_llava import cut_tower, tower_width
from blindpairs.mof.towers import VisionTower, load_tower

timm_saver = partial(partial, hub.save_timm, depth=2, embed_dim=96, num_heads=3)
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}


def save_siglip(folder: Path) -> Path:
    """Both halves of a SigLIP, as on the hub."""
    from transformers import SiglipConfig, SiglipModel

    vision = {**SMALL, "image_size": 64, "patch_size": 16}
    randomised(
        SiglipModel(SiglipConfig(text_config={**SMALL, "projection_size": 64}, vision_config=vision))
    ).save_pretrained(folder)
    return hub.save_processor(folder, {**hub.SIGLIP_PROCESSOR, "size": {"height": 64, "width": 64}})


def save_vit(folder: Path) -> Path:
    """A classifier: its tower lies under `vit.`, and has no pooler."""
    from transformers import ViTConfig, ViTForImageClassification

    randomised(ViTForImageClassification(ViTConfig(**SMALL, image_size=64, patch_size=16))).save_pretrained(folder)
    return hub.save_processor(folder, {**hub.VIT_PROCESSOR, "size": 64})


OPEN_CLIP: dict[str, Any] = {**hub.SMALL_14, "vision_cfg": {**dict(hub.SMALL_14["vision_cfg"]), "image_size": 56}}  # type: ignore[call-overload]
# How each is saved, what its spec puts before the folder, and which layers of it have a norm that its library knows.
CASES: dict[str, tuple[Callable[[Path], Path], str, bool]] = {
    "clip": (partial(hub.save_clip, shape=hub.NARROW), "hf:", False),
    "clip-vision": (hub.save_clip_vision, "hf:", False),
    "siglip": (save_siglip, "hf:", True),
    "dinov2": (partial(hub.save_dinov2, shape=hub.NARROW), "hf:", True),
    "dinov2-registers": (hub.save_dinov2_with_registers, "hf:", True),
    "dinov3": (hub.save_dinov3, "hf:", True),
    "vit": (save_vit, "hf:", True),
    "open_clip": (partial(hub.save_open_clip, model_cfg=OPEN_CLIP, preprocess_cfg=hub.OPENAI), "open_clip:", False),
    "open_clip-quickgelu": (
        partial(hub.save_open_clip, model_cfg={**OPEN_CLIP, "quick_gelu": True}, preprocess_cfg=hub.OPENAI),
        "open_clip:",
        False,
    ),
    "timm-vit": (timm_saver(name="vit_tiny_patch16_224"), "timm:", True),
    "timm-registers": (timm_saver(name="vit_small_patch14_reg4_dinov2", img_size=224), "timm:", True),
    "timm-dinov3": (timm_saver(name="vit_small_patch16_dinov3"), "timm:", True),
    "timm-siglip": (timm_saver(name="vit_base_patch16_siglip_224"), "timm:", True),
}


def spec_of(library: str, folder: Path) -> str:
    return f"{library}{'' if library == 'hf:' else 'local-dir:'}{folder}"


def rebuilt(tower: VisionTower, layer: int, norm: bool) -> torch.nn.Module:
    """The tower as a checkpoint brings it back: from its configuration, cut, with the weights of the cut one."""
    from transformers import AutoConfig, AutoModel

    stored = tower.module.config.to_dict()
    again = AutoModel.from_config(AutoConfig.for_model(**stored))
    kept = cut_tower(deepcopy(tower.module), layer, norm=norm).state_dict()
    cut_tower(again, layer, norm=norm).load_state_dict(kept)
    return again.eval()  # type: ignore[no-any-return]


@torch.no_grad()
def tokens(module: torch.nn.Module, pixels: Tensor, count: int) -> Tensor:
    options = {"interpolate_pos_encoding": True} if "interpolate_pos" in str(inspect.signature(module.forward)) else {}
    last: Tensor = module(pixel_values=pixels, **options).last_hidden_state
    return last[:, last.shape[1] - count :]


@pytest.mark.parametrize("case", CASES)
def test_tokens_are_those_of_the_library_at_every_layer_that_a_model_reads(case: str, tmp_path: Path) -> None:
    save, library, has_norm = CASES[case]
    spec = spec_of(library, save(tmp_path))
    encoder = load_encoder("tower", spec)
    side = encoder.preprocess.size
    batch = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    tower = load_tower(spec)
    assert (tower.size, tower.mean, tower.std) == (side, encoder.preprocess.mean, encoder.preprocess.std)
    for layer, norm in [(-2, False), (-1, False), *([(-1, True)] if has_norm else [])]:
        (expected,) = encoder.tokens_of(batch, [Layer(layer, norm)])
        assert tower.patch == side // expected.grid[0]
        assert tower_width(tower.module) == expected.patches.shape[2]
        pixels = encoder._normalised(batch)
        found = tokens(rebuilt(tower, layer, norm), pixels, expected.patches.shape[1])
        torch.testing.assert_close(found, expected.patches, rtol=1e-4, atol=2e-4)


def test_norm_that_no_patch_token_ever_had_is_refused(tmp_path: Path) -> None:
    tower = load_tower(f"hf:{hub.save_clip_vision(tmp_path)}")
    with pytest.raises(ValueError, match="has no norm for its patch tokens"):
        cut_tower(tower.module, -1, norm=True)


def test_masked_autoencoders_encoder_sees_every_patch_in_order(tmp_path: Path) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
    config = ViTMAEConfig(**shape, image_size=64, patch_size=16, decoder_hidden_size=32, decoder_num_attention_heads=2)
    whole = randomised(ViTMAEForPreTraining(config))
    whole.save_pretrained(tmp_path)
    hub.save_processor(tmp_path, {**hub.VIT_PROCESSOR, "size": 64})
    tower = load_tower(f"hf:{tmp_path}")
    pixels = torch.randn(1, 3, 64, 64)
    whole.vit.config.mask_ratio = 0.0
    with torch.no_grad():
        expected = whole.vit(pixels, noise=torch.arange(16.0)[None]).last_hidden_state
    torch.testing.assert_close(tokens(rebuilt(tower, -1, True), pixels, 16), expected[:, 1:], rtol=1e-5, atol=1e-5)


def test_timm_tower_is_loaded_for_the_grid_that_it_is_given(tmp_path: Path) -> None:
    spec = f"timm:local-dir:{hub.save_timm(tmp_path, 'vit_tiny_patch16_224', depth=2)}"
    tower = load_tower(spec, grid=7)
    assert tower.size == 112
    encoder = load_encoder("tower", f"{spec}?size=112")
    batch = torch.randint(0, 256, (1, 3, 112, 112), dtype=torch.uint8)
    (expected,) = encoder.tokens_of(batch, [Layer(-1, True)])
    found = tokens(rebuilt(tower, -1, True), encoder._normalised(batch), 49)
    torch.testing.assert_close(found, expected.patches, rtol=1e-4, atol=2e-4)


def test_networks_that_have_no_patch_tokens_or_no_counterpart_are_refused_in_words(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("resnet", "siglip", "bert", "convnext", "hiera")}
    for folder in folders.values():
        folder.mkdir()
    hub.save_timm(folders["resnet"], "resnet18")
    with pytest.raises(ConfigError, match="no patch tokens; take a vision transformer"):
        load_tower(f"timm:local-dir:{folders['resnet']}")
    hub.save_open_clip(folders["siglip"], hub.SIGLIP, hub.SQUASH)
    with pytest.raises(ConfigError, match="only open_clip's own vision transformers"):
        load_tower(f"open_clip:local-dir:{folders['siglip']}")
    for name in ("bert", "convnext", "hiera"):
        (folders[name] / "config.json").write_text(f'{{"model_type": "{name}"}}')
        (folders[name] / "model.safetensors").write_bytes(b"")
        with pytest.raises(ConfigError, match=f"'{name}' is not a vision transformer with patches"):
            load_tower(f"hf:{folders[name]}")
    with pytest.raises(AssetMissing, match="not in the local model cache"):
        load_tower("hf:somebody/nothing")
