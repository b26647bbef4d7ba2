"""open_clip towers give the vectors of open_clip's own pipeline, QuickGELU where the weights were trained with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_parity import Hostile, assert_same_vectors, batch_of, some_images
from hub_folders import OPENAI, SIGLIP, SMALL_14, SQUASH, TINY_TEXT, save_open_clip
from PIL import Image

from blindpairs.encoders import load_encoder
from blindpairs.errors import AssetMissing, ConfigError

LARGE_14 = {
    "embed_dim": 768,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 1024, "patch_size": 14},
    "text_cfg": TINY_TEXT,
}


@pytest.fixture(scope="session")
def images(photos: Path) -> list[Image.Image]:
    return some_images(photos)


def through_open_clip(images: list[Image.Image], name: str, **options: Any) -> torch.Tensor:
    """open_clip's own recipe: create_model_and_transforms, preprocess_val, encode_image."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(name, **options)
    with torch.inference_mode():
        pixels = torch.stack([preprocess(image) for image in images])
        return model.eval().encode_image(pixels, normalize=True)  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_open_clip(tmp_path_factory.mktemp("open_clip"), LARGE_14, OPENAI)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_open_clip(tmp_path_factory.mktemp("open_clip"), SMALL_14, OPENAI)


def test_local_folder_gives_the_vectors_of_open_clips_own_pipeline(large: Path, images: list[Image.Image]) -> None:
    encoder = load_encoder("clip", f"open_clip:local-dir:{large}")
    assert_same_vectors(encoder, images, through_open_clip(images, f"local-dir:{large}"))
    description = encoder.describe()
    keys = ("library", "architecture", "pool", "activation", "dimension", "precision")
    assert {key: description[key] for key in keys} == {
        "library": "open_clip",
        "architecture": "VisionTransformer",
        "pool": "projection",
        "activation": "gelu",
        "dimension": 768,
        "precision": "float32",
    }


def test_only_the_image_tower_is_kept(small: Path) -> None:
    tower = load_encoder("clip", f"open_clip:local-dir:{small}")._tower.module
    assert {name.split(".")[0] for name in tower.state_dict()} == {
        "class_embedding",
        "conv1",
        "ln_post",
        "ln_pre",
        "positional_embedding",
        "proj",
        "transformer",
    }


def test_class_token_times_projection_is_the_image_embedding(small: Path, images: list[Image.Image]) -> None:
    projected = load_encoder("clip", f"open_clip:local-dir:{small}")
    unprojected = load_encoder("clip", f"open_clip:local-dir:{small}?pool=cls")
    assert (projected.dimension, unprojected.dimension) == (96, 192)
    batch = batch_of(projected, images[:3])
    vectors = unprojected.encode(batch) @ projected._tower.module.get_parameter("proj")
    assert torch.cosine_similarity(vectors, projected.encode(batch)).min() > 0.99999


def test_mean_pooling_is_the_mean_of_the_patches(small: Path, images: list[Image.Image]) -> None:
    encoder = load_encoder("clip", f"open_clip:local-dir:{small}?pool=mean")
    batch = batch_of(encoder, images[:3])
    patches = encoder.tokens(batch).patches
    assert patches.shape == (3, 256, 192)
    assert torch.cosine_similarity(encoder.encode(batch), patches.mean(dim=1)).min() > 0.99999


def test_another_size_interpolates_positions_as_open_clip_does(small: Path, images: list[Image.Image]) -> None:
    encoder = load_encoder("clip", f"open_clip:local-dir:{small}?size=336")
    theirs = through_open_clip(images[:3], f"local-dir:{small}", force_image_size=336)
    assert_same_vectors(encoder, images[:3], theirs)
    assert (encoder.preprocess.size, encoder.preprocess.short_side) == (336, 336)


def test_timm_tower_inside_open_clip_with_squashed_images_matches(tmp_path: Path, images: list[Image.Image]) -> None:
    folder = save_open_clip(tmp_path, SIGLIP, SQUASH)
    encoder = load_encoder("siglip", f"open_clip:local-dir:{folder}")
    assert (encoder.preprocess.resize, encoder.preprocess.interpolation) == ("squash", "bilinear")
    assert_same_vectors(encoder, images, through_open_clip(images, f"local-dir:{folder}"))
    assert encoder.tokens(batch_of(encoder, images[:1])).patches.shape == (1, 196, 192)


@pytest.fixture
def shallow_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip's own ViT-L-14, of two layers."""
    import open_clip.factory

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-L-14", LARGE_14)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, offline."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.usefixtures("shallow_large")
@pytest.mark.filterwarnings("error:QuickGELU mismatch")
def test_openai_weights_run_with_the_quick_gelu_they_were_trained_with(
    hub_cache: Path, large: Path, images: list[Image.Image]
) -> None:
    repository = hub_cache / "models--timm--vit_large_patch14_clip_224.openai"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / "0123456789").symlink_to(large)
    encoder = load_encoder("clip", "open_clip:ViT-L-14/openai")
    description = encoder.describe()
    assert (description["architecture"], description["activation"]) == ("ViT-L-14", "quick_gelu")
    checkpoint = str(large / "open_clip_model.safetensors")
    theirs = through_open_clip(images, "ViT-L-14", pretrained=checkpoint, force_quick_gelu=True)
    assert_same_vectors(encoder, images, theirs)
    plain = load_encoder("clip", f"open_clip:ViT-L-14/{checkpoint}")
    assert plain.describe()["activation"] == "gelu"
    batch = batch_of(plain, images)
    wrong, ours = ((one.encode(batch) - theirs).norm(dim=1) for one in (plain, encoder))
    assert wrong.min() > 3 * ours.max()  # the activation matters: this test can fail


def test_pretrained_tag_that_is_not_in_the_cache_offline_is_a_missing_asset(hub_cache: Path) -> None:
    with pytest.raises(AssetMissing) as missing:
        load_encoder("clip", "open_clip:ViT-L-14/openai")
    first, second = str(missing.value).split("\n")
    assert first.startswith(
        "open_clip:ViT-L-14/openai: timm/vit_large_patch14_clip_224.openai is not in the local model cache "
        "and cannot be fetched (OfflineModeIsEnabled: Cannot reach "
    )
    assert first.endswith(": offline mode is enabled);")
    assert second == (
        "run once with a network, copy HF_HOME from a machine that has it, or name a local folder or file instead"
    )
    assert not hub_cache.exists() or not any(hub_cache.iterdir())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "open_clip:ViT-L14/openai",
            "open_clip has no model 'ViT-L14'; close: ViT-L-14, ViT-g-14, ViT-e-14, ViT-L-16, ViT-H-14\n"
            "list all: python -c 'import open_clip; print(open_clip.list_pretrained())'",
        ),
        (
            "open_clip:ViT-L-14/opnai",
            "ViT-L-14 has no pretrained weights 'opnai'; it has openai, laion400m_e31, laion400m_e32, "
            "laion2b_s32b_b82k, datacomp_xl_s13b_b90k, commonpool_xl_clip_s13b_b90k, commonpool_xl_laion_s13b_b90k, "
            "commonpool_xl_s13b_b90k, metaclip_400m, metaclip_fullcc, dfn2b, dfn2b_s39b",
        ),
        ("open_clip:ViT-L-14//nowhere/model.pt", "there is no checkpoint file /nowhere/model.pt"),
        ("open_clip:local-dir:/nowhere", "there is no folder /nowhere"),
    ],
)
def test_model_that_does_not_exist_is_refused_with_what_does(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_encoder("clip", spec)
    assert str(refused.value) == f"{spec}: {message}"


@pytest.mark.usefixtures("shallow_large")
def test_pickled_checkpoint_that_runs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {"weight": Hostile(tmp_path / "was-run")}}, path)
    with pytest.raises(ConfigError) as refused:
        load_encoder("clip", f"open_clip:ViT-L-14/{path}")
    assert str(refused.value) == (
        f"open_clip:ViT-L-14/{path}: {path} is damaged, or holds pickled code, which is never run; "
        "convert it to safetensors if you trust it"
    )
    assert not (tmp_path / "was-run").exists()


def test_weights_of_another_model_are_refused(small: Path) -> None:
    path = small / "open_clip_model.safetensors"
    with pytest.raises(ConfigError) as refused:
        load_encoder("clip", f"open_clip:ViT-B-32/{path}")
    first, second = str(refused.value).split("\n")
    assert first == f"open_clip:ViT-B-32/{path}: {path} cannot be loaded; it is damaged or of another model"
    assert second == "(AssertionError: text pos_embed width changed!)"


def test_folder_without_weights_is_a_missing_asset_not_a_random_tower(small: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((small / "open_clip_config.json").read_bytes())
    with pytest.raises(AssetMissing) as missing:
        load_encoder("clip", f"open_clip:local-dir:{tmp_path}")
    assert str(missing.value) == (
        f"open_clip:local-dir:{tmp_path}: no weights in {tmp_path}; put one of *.safetensors, *.bin, *.pth there"
    )


def test_padding_resize_is_refused(tmp_path: Path) -> None:
    folder = save_open_clip(tmp_path, SIGLIP, {**SQUASH, "resize_mode": "longest"})
    with pytest.raises(ConfigError) as refused:
        load_encoder("clip", f"open_clip:local-dir:{folder}")
    assert str(refused.value) == (
        f"open_clip:local-dir:{folder}: resize_mode=longest is not supported; blindpairs supports shortest and squash"
    )


@pytest.mark.slow
def test_vit_l_14_at_full_depth_matches_open_clips_own_pipeline(tmp_path: Path, images: list[Image.Image]) -> None:
    import open_clip

    folder = save_open_clip(tmp_path, open_clip.get_model_config("ViT-L-14"), OPENAI)
    encoder = load_encoder("clip", f"open_clip:local-dir:{folder}")
    assert_same_vectors(encoder, images, through_open_clip(images, f"local-dir:{folder}"))
