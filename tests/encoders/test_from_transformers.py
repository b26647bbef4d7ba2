"""Towers in the hub's layout give the vectors of transformers' own pipeline, with random weights in real classes.

CLIP and DINOv2 have the width, patch and image size of the large models and two layers; full depth is marked slow.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_parity import Hostile, assert_same_vectors, batch_of, some_images
from hub_folders import (
    CLIP_PROCESSOR,
    DINO_PROCESSOR,
    NARROW,
    save_clip,
    save_clip_vision,
    save_clip_vision_with_projection,
    save_dinov2,
    save_dinov2_with_registers,
    save_dinov3,
    save_processor,
    save_siglip,
    save_vit,
)
from PIL import Image

from blindpairs.encoders import load_encoder
from blindpairs.errors import AssetMissing, ConfigError


@pytest.fixture(scope="session")
def images(photos: Path) -> list[Image.Image]:
    return some_images(photos)


def through_transformers(folder: Path, images: list[Image.Image], **options: object) -> Any:
    """The hub's own recipe: AutoImageProcessor, AutoModel, the whole output."""
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    arrays = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
    with torch.inference_mode():
        if hasattr(model, "get_image_features"):
            return model.get_image_features(pixel_values=arrays, **options)
        return model(pixel_values=arrays, **options)


@pytest.fixture(scope="session")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dinov2(tmp_path_factory.mktemp("dinov2"), shape=NARROW)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"), NARROW)


def test_dinov2_vectors_are_the_normed_class_tokens_of_the_hubs_own_pipeline(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    folder = save_dinov2(tmp_path)
    encoder = load_encoder("dino", f"hf:{folder}")
    theirs = through_transformers(folder, images).last_hidden_state
    assert_same_vectors(encoder, images, theirs[:, 0])
    patches = encoder.tokens(batch_of(encoder, images)).patches
    assert patches.shape == (len(images), 256, 1024)
    assert torch.cosine_similarity(patches, theirs[:, 1:], dim=2).min() > 0.999


def test_mean_pooling_averages_the_patches_and_leaves_the_registers_out(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    folder = save_dinov2_with_registers(tmp_path)
    theirs = through_transformers(folder, images).last_hidden_state
    mean = load_encoder("dino", f"hf:{folder}?pool=mean")
    assert_same_vectors(mean, images, theirs[:, 5:].mean(dim=1))
    assert mean.tokens(batch_of(mean, images[:1])).patches.shape == (1, 256, 384)
    assert_same_vectors(load_encoder("dino", f"hf:{folder}"), images, theirs[:, 0])


def test_clip_from_the_hub_is_the_projected_image_embedding_without_its_text_half(
    tmp_path: Path, images: list[Image.Image]
) -> None:
    folder = save_clip(tmp_path)
    encoder = load_encoder("clip", f"hf:{folder}")
    assert_same_vectors(encoder, images, through_transformers(folder, images).pooler_output)
    assert encoder.describe()["architecture"] == "CLIPVisionModelWithProjection"
    assert not any("text" in name for name in encoder._tower.module.state_dict())


def test_vision_half_alone_gives_its_pooled_or_projected_vector(tmp_path: Path, images: list[Image.Image]) -> None:
    from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

    folder = save_clip_vision(tmp_path / "pooled")
    theirs = through_transformers(folder, images).pooler_output
    assert_same_vectors(load_encoder("clip", f"hf:{folder}"), images, theirs)
    folder = save_clip_vision_with_projection(tmp_path / "projected")
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images])
    theirs = CLIPVisionModelWithProjection.from_pretrained(folder).eval()(pixels).image_embeds
    encoder = load_encoder("clip", f"hf:{folder}")
    assert_same_vectors(encoder, images, theirs)
    assert encoder.dimension == 96


@pytest.mark.parametrize("save", [save_siglip, save_vit, save_dinov3])
def test_other_towers_of_the_hub_match_their_own_pipeline(
    save: Callable[[Path], Path], tmp_path: Path, images: list[Image.Image]
) -> None:
    folder = save(tmp_path)
    theirs = through_transformers(folder, images)
    vectors = theirs.last_hidden_state[:, 0] if save is save_vit else theirs.pooler_output
    assert_same_vectors(load_encoder("other", f"hf:{folder}"), images, vectors)


def test_another_size_interpolates_positions_as_the_library_does(clip: Path, images: list[Image.Image]) -> None:
    encoder = load_encoder("clip", f"hf:{clip}?size=336")
    larger = clip.with_name(f"{clip.name}-336")
    larger.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (larger / name).write_bytes((clip / name).read_bytes())
    save_processor(larger, {**CLIP_PROCESSOR, "crop_size": 336, "size": 336})
    theirs = through_transformers(larger, images[:4], interpolate_pos_encoding=True).pooler_output
    assert_same_vectors(encoder, images[:4], theirs)
    assert (encoder.preprocess.size, encoder.preprocess.short_side) == (336, 336)
    assert encoder.tokens(batch_of(encoder, images[:1])).patches.shape == (1, 576, 192)


def test_another_size_keeps_the_share_that_dinov2_crops(dinov2: Path) -> None:
    preprocess = load_encoder("dino", f"hf:{dinov2}?size=336").preprocess
    assert (preprocess.size, preprocess.short_side, preprocess.crop_rounding) == (336, 384, "floor")


def test_half_precision_checkpoint_runs_in_float32(dinov2: Path, tmp_path: Path) -> None:
    from transformers import Dinov2Model

    Dinov2Model.from_pretrained(dinov2, dtype=torch.float16).save_pretrained(tmp_path)
    save_processor(tmp_path, DINO_PROCESSOR)
    tower = load_encoder("dino", f"hf:{tmp_path}")._tower.module
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}


def test_weights_hash_is_of_the_numbers_not_of_the_file(dinov2: Path, tmp_path: Path) -> None:
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(dinov2)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="1MB")
    model.encoder.layer[1].norm1.bias.data[7] += 1e-3
    model.save_pretrained(tmp_path / "touched")
    hashes = [
        load_encoder("dino", f"hf:{save_processor(folder, DINO_PROCESSOR)}").weights_hash
        for folder in (dinov2, tmp_path / "sharded", tmp_path / "touched")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_processor_written_by_transformers_5_is_read(clip: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((clip / name).read_bytes())
    processor = {**CLIP_PROCESSOR, "image_processor_type": "CLIPImageProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": processor}))
    assert load_encoder("a", f"hf:{tmp_path}").preprocess == load_encoder("b", f"hf:{clip}").preprocess


CACHED = "facebook/dinov2-large"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, offline."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_repository_in_the_cache_loads_offline_and_its_revision_is_recorded(hub_cache: Path, dinov2: Path) -> None:
    repository = hub_cache / "models--facebook--dinov2-large"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("47b73eefe95e8d44ec3623f8890bd894b6ea2d6c")
    (repository / "snapshots" / "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c").symlink_to(dinov2)
    description = load_encoder("dino", f"hf:{CACHED}").describe()
    assert description["revision"] == "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"
    assert description["weights_hash"] == load_encoder("dino", f"hf:{dinov2}").weights_hash


def test_repository_that_is_not_in_the_cache_offline_is_a_missing_asset(hub_cache: Path) -> None:
    with pytest.raises(AssetMissing) as missing:
        load_encoder("dino", f"hf:{CACHED}")
    first, second = str(missing.value).split("\n")
    assert first.startswith(
        "hf:facebook/dinov2-large: facebook/dinov2-large is not in the local model cache and cannot be fetched "
        "(OfflineModeIsEnabled: Cannot reach "
    )
    assert first.endswith(": offline mode is enabled);")
    assert second == (
        "run once with a network, copy HF_HOME from a machine that has it, or name a local folder or file instead"
    )


def test_folder_without_weights_is_a_missing_asset_not_a_random_tower(dinov2: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((dinov2 / name).read_bytes())
    with pytest.raises(AssetMissing) as missing:
        load_encoder("dino", f"hf:{tmp_path}")
    assert str(missing.value) == (
        f"hf:{tmp_path}: no weights in {tmp_path}; put one of model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin, pytorch_model.bin.index.json there"
    )


def test_checkpoint_that_lacks_a_tensor_is_refused_not_filled_with_random_numbers(dinov2: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(dinov2 / "model.safetensors")
    del state["layernorm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((dinov2 / name).read_bytes())
    with pytest.raises(ConfigError) as refused:
        load_encoder("dino", f"hf:{tmp_path}")
    assert str(refused.value) == (f"hf:{tmp_path}: {tmp_path} lacks 1 tensors of this model, such as layernorm.weight")


@pytest.mark.parametrize("keep", [0, 40, 5000, -1000])
def test_truncated_safetensors_is_refused_in_two_lines(dinov2: Path, tmp_path: Path, keep: int) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((dinov2 / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((dinov2 / "model.safetensors").read_bytes()[:keep])
    with pytest.raises(ConfigError) as refused:
        load_encoder("dino", f"hf:{tmp_path}")
    first, second = str(refused.value).split("\n")
    assert first == f"hf:{tmp_path}: {tmp_path} cannot be loaded; it is damaged or of another model"
    assert second.startswith("(SafetensorError: ")


def test_pickle_that_runs_code_is_refused_and_not_run(dinov2: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((dinov2 / name).read_bytes())
    torch.save({"weight": Hostile(tmp_path / "was-run")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError) as refused:
        load_encoder("dino", f"hf:{tmp_path}")
    assert str(refused.value) == (
        f"hf:{tmp_path}: {tmp_path} is damaged, or holds pickled code, which is never run; "
        "convert it to safetensors if you trust it"
    )
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"size": {"longest_edge": 224}},
            "a preprocessing with size={'longest_edge': 224} and crop_size={'height': 224, "
            "'width': 224} is not supported",
        ),
        ({"resample": 1}, "resample=1 is not supported; supported: 2 (bilinear), 3 (bicubic)"),
        (
            {"image_processor_type": "NoSuchImageProcessor"},
            "transformers has no image processor 'NoSuchImageProcessor', which {folder} asks for",
        ),
    ],
)
def test_preprocessing_that_we_do_not_do_is_refused(
    change: dict[str, object], message: str, dinov2: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(dinov2 / name)
    save_processor(tmp_path, DINO_PROCESSOR | change)
    with pytest.raises(ConfigError) as refused:
        load_encoder("dino", f"hf:{tmp_path}")
    assert str(refused.value) == f"hf:{tmp_path}: " + message.replace("{folder}", str(tmp_path))


def test_model_type_that_we_cannot_read_names_those_that_we_can(dinov2: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").symlink_to(dinov2 / "model.safetensors")
    with pytest.raises(ConfigError) as refused:
        load_encoder("dino", f"hf:{tmp_path}")
    assert str(refused.value) == (
        f"hf:{tmp_path}: model_type 'bert' is not supported; supported: dinov2, dinov2_with_registers, dinov3_vit, "
        "vit, clip, clip_vision_model, siglip, siglip_vision_model"
    )


def test_size_that_is_no_multiple_of_the_patch_is_refused(dinov2: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_encoder("dino", f"hf:{dinov2}?size=300")
    assert str(refused.value) == (
        f"hf:{dinov2}?size=300: size=300 is not a multiple of the patch size 14; use size=294"
    )


def test_pooling_that_a_model_does_not_have_is_refused(dinov2: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_encoder("dino", f"hf:{dinov2}?pool=projection")
    assert str(refused.value) == (
        f"hf:{dinov2}?pool=projection: this model has no pool=projection; it has cls, mean, pooler"
    )


@pytest.mark.slow
def test_dinov2_large_at_full_depth_matches_the_hubs_own_pipeline(tmp_path: Path, images: list[Image.Image]) -> None:
    folder = save_dinov2(tmp_path, layers=24)
    theirs = through_transformers(folder, images).last_hidden_state[:, 0]
    assert_same_vectors(load_encoder("dino", f"hf:{folder}"), images, theirs)
