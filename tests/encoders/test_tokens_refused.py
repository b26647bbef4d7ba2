"""What has no patch tokens, or none where they are asked for, is refused by its name and with what would do."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import hub_folders as hub
import pytest
import torch
from token_cases import (
    CASES,
    NARROW_DINOV2,
    assert_tokens_of,
    from_open_clip,
    from_timm_folder,
    from_transformers,
    noise,
    timm_saver,
)
from torch import Tensor

from blindpairs.encoders import Encoder, load_encoder
from blindpairs.errors import ConfigError
from blindpairs.mine.patches import StorePatches
from blindpairs.store import Store

NO_PATCHES = (
    "this encoder has no patch tokens; choose a plain vision transformer, such as open_clip:ViT-B-16/openai "
    "or hf:facebook/dinov2-base"
)
RESNET = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": hub.TINY_TEXT,
}
CONVNEXT = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"},
    "text_cfg": hub.TINY_TEXT,
}


@pytest.mark.parametrize(
    ("save", "spec"),
    [
        (partial(hub.save_open_clip, model_cfg=RESNET, preprocess_cfg=hub.OPENAI), "open_clip:local-dir:"),
        (partial(hub.save_open_clip, model_cfg=CONVNEXT, preprocess_cfg=hub.OPENAI), "open_clip:local-dir:"),
        (partial(hub.save_timm, name="resnet10t"), "timm:local-dir:"),
        (partial(hub.save_timm, name="convnext_atto"), "timm:local-dir:"),
        (partial(hub.save_timm, name="swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)), "timm:local-dir:"),
    ],
    ids=["open_clip-resnet", "open_clip-convnext", "timm-resnet", "timm-convnext", "timm-swin"],
)
def test_encoder_without_patch_tokens_is_refused_by_name(
    save: Callable[[Path], Path], spec: str, tmp_path: Path
) -> None:
    encoder = load_encoder("maps", f"{spec}{save(tmp_path)}")
    batch = noise(1, encoder.preprocess.size, encoder.preprocess.size)
    assert encoder.encode(batch).shape == (1, encoder.dimension)
    for layer, norm in ((-1, True), (-1, False)):
        with pytest.raises(ConfigError) as refused:
            encoder.tokens(batch, layer, norm=norm)
        assert str(refused.value).startswith(encoder.spec)
        assert str(refused.value) in (f"{encoder.spec}: {NO_PATCHES}", without_norm(encoder))
    with pytest.raises(ConfigError) as refused:  # before any image is looked for
        StorePatches(cast(Store, None), encoder, tmp_path).fields(["an image"])
    assert str(refused.value) == f"{encoder.spec}: {NO_PATCHES}"
    assert not list(tmp_path.glob(".patches*"))


def without_norm(encoder: Encoder) -> str:
    return f"{encoder.spec}: its final norm comes after its pooling; ask for the patch tokens with norm=False"


COCA = {
    "embed_dim": 64,
    "vision_cfg": {
        **hub.SMALL_14["vision_cfg"],  # type: ignore[dict-item]
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {**hub.TINY_TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**hub.TINY_TEXT, "attn_pooler_heads": 2},
    "custom_text": True,
}


@pytest.mark.parametrize(
    ("save", "spec", "theirs", "prefix"),
    [
        (timm_saver("eva02_tiny_patch14_224"), "timm:local-dir:", from_timm_folder, 1),
        (timm_saver("vit_medium_patch16_reg4_gap_256"), "timm:local-dir:", from_timm_folder, 4),
        (
            partial(hub.save_open_clip, model_cfg=COCA, preprocess_cfg=hub.OPENAI),
            "open_clip:local-dir:",
            from_open_clip,
            1,
        ),
    ],
    ids=["eva", "registers-without-class", "coca"],
)
def test_tower_that_norms_after_its_pooling_has_tokens_before_it_only(
    save: Callable[[Path], Path], spec: str, theirs: Any, prefix: int, tmp_path: Path
) -> None:
    folder = save(tmp_path)
    encoder = load_encoder("tower", f"{spec}{folder}")
    batch = noise(2, 224, 224)
    with pytest.raises(ConfigError) as refused:
        encoder.tokens(batch)
    assert str(refused.value) == without_norm(encoder)
    states = (
        theirs(folder, encoder._normalised(batch))[0] if theirs is from_timm_folder else coca_states(encoder, batch)
    )
    for index in (0, 1, 2):
        assert torch.equal(encoder.tokens(batch, index, norm=False).patches, states[index][:, prefix:])


def coca_states(encoder: Encoder, batch: Tensor) -> list[Tensor]:
    visual: Any = encoder._tower.module
    pixels = encoder._normalised(batch)
    with torch.no_grad():
        found = visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
        pairs = zip(found["image_intermediates_prefix"], found["image_intermediates"], strict=True)
        return [visual._embeds(pixels), *(torch.cat(pair, dim=1) for pair in pairs)]


def test_register_is_not_taken_for_a_class_token(tmp_path: Path) -> None:
    folder = timm_saver("vit_medium_patch16_reg4_gap_256")(tmp_path)
    encoder = load_encoder("tower", f"timm:local-dir:{folder}")
    assert encoder.tokens(noise(1, 224, 224), norm=False).class_token is None
    with pytest.raises(ConfigError, match=r"this model has no pool=cls; it has pooler, mean$"):
        load_encoder("tower", f"timm:local-dir:{folder}?pool=cls")


def test_layer_that_keeps_other_tokens_than_the_last_is_refused(tmp_path: Path) -> None:
    folder = timm_saver("cait_xxs24_224")(tmp_path)  # its class token joins after the blocks
    encoder = load_encoder("tower", f"timm:local-dir:{folder}")
    batch = noise(1, 224, 224)
    assert encoder.tokens(batch).patches.shape == (1, 196, 192)
    for layer in (0, 1, -1):
        with pytest.raises(
            ConfigError, match=r"layer \d has other tokens than the last layer after the norm; read the last layer, or"
        ):
            encoder.tokens(batch, layer, norm=False)


def test_tokens_without_a_known_grid_are_refused(tmp_path: Path) -> None:
    encoder = load_encoder("tower", f"timm:local-dir:{hub.save_timm(tmp_path, 'levit_128s')}")
    batch = noise(1, 224, 224)
    assert encoder.encode(batch).shape == (1, 384)
    with pytest.raises(
        ConfigError, match=r"its 16 tokens do not form a grid of patches; choose a plain vision transformer"
    ):
        encoder.tokens(batch, norm=False)


def test_patch_size_that_is_one_number_is_read(tmp_path: Path) -> None:
    encoder = load_encoder("tower", f"timm:local-dir:{hub.save_timm(tmp_path, 'xcit_nano_12_p8_224', depth=2)}")
    tokens = encoder.tokens(noise(1, 224, 224))
    assert (tokens.grid, tokens.patches.shape) == ((28, 28), (1, 784, 128))


@pytest.mark.parametrize(("name", "patch"), [("timm-vit", 16), ("open_clip-timm", 16)])
def test_asked_size_is_held_to_whole_patches(name: str, patch: int, tmp_path: Path) -> None:
    spec = f"{CASES[name].spec}{CASES[name].save(tmp_path)}?size=100"
    with pytest.raises(ConfigError) as refused:
        load_encoder("tower", spec)
    assert str(refused.value) == f"{spec}: size=100 is not a multiple of the patch size {patch}; use size=96"


def test_size_of_the_librarys_own_preprocessing_need_not_be_whole_patches(tmp_path: Path) -> None:
    folder = NARROW_DINOV2(tmp_path)
    hub.save_processor(folder, hub.DINO_PROCESSOR | {"crop_size": {"height": 120, "width": 120}})
    encoder = load_encoder("dino", f"hf:{folder}")  # 8.6 patches: the library reads eight
    batch = noise(1, 120, 120)
    tokens = encoder.tokens(batch)
    theirs = from_transformers(folder, encoder._normalised(batch))[1]
    assert_tokens_of(CASES["hf-dinov2"], tokens, theirs, (8, 8))


@pytest.mark.parametrize("name", ["vit_tiny_r_s16_p8_224", "resnet10t"])
def test_size_that_timm_cannot_build_is_not_called_damage(name: str, tmp_path: Path) -> None:
    folder = hub.save_timm(tmp_path, name, **({} if name == "resnet10t" else {"depth": 2}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refused:
        load_encoder("tower", f"timm:local-dir:{folder}?size=100")
    assert str(refused.value) == (
        f"timm:local-dir:{folder}?size=100: this model cannot be built with size=100; leave it out, "
        "or use another multiple of the patch size"
    )
