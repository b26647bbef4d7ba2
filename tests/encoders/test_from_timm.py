"""timm backbones give the vectors of timm's own evaluation pipeline."""

from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_parity import Hostile, assert_same_vectors, batch_of, randomised, some_images
from hub_folders import save_timm
from PIL import Image

from blindpairs.encoders import load_encoder
from blindpairs.errors import AssetMissing, ConfigError

DINOV2 = "vit_small_patch14_reg4_dinov2"


@pytest.fixture(scope="session")
def images(photos: Path) -> list[Image.Image]:
    return some_images(photos)


def through_timm(folder: Path, images: list[Image.Image], **options: Any) -> torch.Tensor:
    """timm's own recipe: resolve_model_data_config, create_transform, the model without its classifier."""
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, **options).eval()
    asked = {"img_size": options["img_size"]} if options else None
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model, asked), is_training=False)
    with torch.inference_mode():
        return model(torch.stack([transform(image) for image in images]))  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_timm(tmp_path_factory.mktemp("timm"), "vit_tiny_patch16_224", depth=2)


def test_cropping_model_matches_timms_own_pipeline(plain: Path, images: list[Image.Image]) -> None:
    encoder = load_encoder("vit", f"timm:local-dir:{plain}")
    assert (encoder.preprocess.size, encoder.preprocess.short_side) == (224, 248)  # 224 / 0.9, rounded down
    assert_same_vectors(encoder, images, through_timm(plain, images))
    assert encoder.tokens(batch_of(encoder, images[:1])).patches.shape == (1, 196, 192)


def test_squashing_model_matches_timms_own_pipeline(tmp_path: Path, images: list[Image.Image]) -> None:
    folder = save_timm(tmp_path, "vit_tiny_patch16_224", {"crop_mode": "squash", "crop_pct": 0.9}, depth=2)
    encoder = load_encoder("vit", f"timm:local-dir:{folder}")
    assert (encoder.preprocess.resize, encoder.preprocess.short_side) == ("squash", 248)
    assert_same_vectors(encoder, images, through_timm(folder, images))


def test_dinov2_with_registers_at_another_size_matches(tmp_path: Path, images: list[Image.Image]) -> None:
    folder = save_timm(tmp_path, DINOV2, depth=2)
    encoder = load_encoder("dino", f"timm:local-dir:{folder}?size=224")
    assert_same_vectors(encoder, images, through_timm(folder, images, img_size=224))
    assert encoder.tokens(batch_of(encoder, images[:1])).patches.shape == (1, 256, 384)
    batch = batch_of(encoder, images[:3])
    same = load_encoder("dino", f"timm:local-dir:{folder}?size=224&pool=cls")
    assert torch.allclose(same.encode(batch), encoder.encode(batch), atol=1e-6)  # its own pooling is the class token
    mean = load_encoder("dino", f"timm:local-dir:{folder}?pool=mean&size=224")
    assert torch.cosine_similarity(mean.encode(batch), mean.tokens(batch).patches.mean(dim=1)).min() > 0.99999


def test_checkpoint_file_without_its_classifier_is_enough(tmp_path: Path, images: list[Image.Image]) -> None:
    import timm

    model = randomised(timm.create_model("vit_tiny_patch16_224", num_classes=0))
    torch.save(model.state_dict(), tmp_path / "tower.pth")
    encoder = load_encoder("vit", f"timm:vit_tiny_patch16_224?checkpoint={tmp_path / 'tower.pth'}")
    assert (encoder.dimension, encoder.encode(batch_of(encoder, images[:2])).shape) == (192, (2, 192))
    state = {name: one for name, one in model.state_dict().items() if not name.startswith("norm.")}
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ConfigError) as refused:
        load_encoder("vit", f"timm:vit_tiny_patch16_224?checkpoint={tmp_path / 'part.pth'}")
    path = tmp_path / "part.pth"
    assert str(refused.value) == (
        f"timm:vit_tiny_patch16_224?checkpoint={path}: {path} lacks 2 tensors of this model, such as norm.weight"
    )


def test_pickled_checkpoint_that_runs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"weight": Hostile(tmp_path / "was-run")}, path)
    spec = f"timm:vit_tiny_patch16_224?checkpoint={path}"
    with pytest.raises(ConfigError) as refused:
        load_encoder("vit", spec)
    assert str(refused.value) == (
        f"{spec}: {path} is damaged, or holds pickled code, which is never run; "
        "convert it to safetensors if you trust it"
    )
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "timm:vit_tiny_patch16",
            "timm has no model 'vit_tiny_patch16'; close: vit_tiny_patch16_384, vit_tiny_patch16_224, "
            "deit_tiny_patch16_224, eva02_tiny_patch14_336, vit_tiny_patch16_dinov3_qkvb\n"
            "list all: python -c 'import timm; print(timm.list_pretrained())'",
        ),
        (
            "timm:vit_tiny_patch16_384.nope",
            "vit_tiny_patch16_384 has no pretrained weights 'nope'; it has augreg_in21k_ft_in1k",
        ),
        ("timm:vit_tiny_patch16_224?checkpoint=/nowhere.pth", "there is no checkpoint file /nowhere.pth"),
    ],
)
def test_model_that_does_not_exist_is_refused_with_what_does(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_encoder("vit", spec)
    assert str(refused.value) == f"{spec}: {message}"


def test_weights_that_are_not_in_the_cache_offline_are_a_missing_asset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AssetMissing) as missing:
        load_encoder("vit", "timm:vit_tiny_patch16_384")
    assert str(missing.value).startswith(
        "timm:vit_tiny_patch16_384: the weights of vit_tiny_patch16_384 is not in the local model cache and cannot be "
    )
