"""A spec string names one encoder or is refused with the forms; an Encoder's vectors are unit vectors or NaN."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from blindpairs.encoders import Encoder, choose_device, load_encoder
from blindpairs.encoders.encoder import Tower
from blindpairs.encoders.specs import FORMS, Spec, parse_spec
from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Preprocess

RULES = Preprocess(4, "shortest", 4, "bicubic", "round", (0.25, 0.5, 0.75), (0.5, 0.25, 0.125))


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("open_clip:ViT-L-14/openai", Spec("", "open_clip", "ViT-L-14/openai")),
        ("open_clip:ViT-L-14//models/a?b.pt?size=336", Spec("", "open_clip", "ViT-L-14//models/a?b.pt", size=336)),
        ("open_clip:local-dir:/models/a", Spec("", "open_clip", "local-dir:/models/a")),
        ("hf:facebook/dinov2-large?pool=mean&size=448", Spec("", "hf", "facebook/dinov2-large", "mean", 448)),
        ("timm:vit?checkpoint=/a/b=c.pth", Spec("", "timm", "vit", checkpoint="/a/b=c.pth")),
        ("demo:clip", Spec("", "demo", "clip")),
    ],
)
def test_spec_is_taken_apart(text: str, spec: Spec) -> None:
    parsed = parse_spec(text)
    assert parsed == Spec(text, spec.library, spec.target, spec.pool, spec.size, spec.checkpoint)


@pytest.mark.parametrize("text", ["", "clip", "ViT-L-14/openai", "open_clip:", "torchhub:dinov2", "demo:siglip"])
def test_what_is_no_spec_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_encoder("clip", text)
    assert str(refused.value) == f"{text!r} is not an encoder spec: give {FORMS}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:a/b?crop=3", "unknown option 'crop'; the options are pool, size"),
        ("hf:a/b?checkpoint=x", "unknown option 'checkpoint'; the options are pool, size"),
        ("timm:a?layer=3", "unknown option 'layer'; the options are checkpoint, pool, size"),
        ("hf:a/b?pool=max", "pool=max is not one of cls, mean, pooler, projection"),
        ("hf:a/b?size=big", "size=big is not a number of pixels, such as size=336"),
        ("hf:a/b?size=0", "size=0 is not a number of pixels, such as size=336"),
        ("hf:/nowhere/at/all", "there is no folder /nowhere/at/all"),
    ],
)
def test_option_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_encoder("clip", text)
    assert str(refused.value) == f"{text}: {message}"


def toy(pooled: object) -> Encoder:
    """An encoder whose tower is the given function of normalised pixels."""
    module = nn.Linear(2, 2)
    tower = Tower(module, pooled, None, 3, RULES, {"library": "toy"}, "0" * 64)  # type: ignore[arg-type]
    return Encoder("toy", "toy:spec", tower)


def test_pixels_are_normalised_in_float32_by_mean_and_std() -> None:
    seen: list[Tensor] = []

    def pooled(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return pixels.mean(dim=(2, 3))

    batch = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    toy(pooled).encode(batch)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (RULES.mean, RULES.std))
    assert torch.equal(seen[0], (batch.float() / 255 - mean) / std)


def test_rows_without_a_direction_are_nan_and_the_others_are_unit_vectors() -> None:
    rows = torch.tensor([[3.0, 4.0, 0.0], [torch.nan, 1, 1], [torch.inf, 0, 0], [0, 0, 0]])
    vectors = toy(lambda pixels: rows).encode(torch.zeros(4, 3, 4, 4, dtype=torch.uint8))
    assert torch.allclose(vectors[0], torch.tensor([0.6, 0.8, 0.0]))
    assert torch.isnan(vectors[1:]).all()


def test_rows_that_overflow_under_autocast_are_computed_once_more_in_float32() -> None:
    calls: list[tuple[bool, int]] = []

    def pooled(pixels: Tensor) -> Tensor:
        calls.append((torch.is_autocast_enabled("cpu"), len(pixels)))
        vectors = torch.ones(len(pixels), 3)
        if calls[-1][0]:
            vectors[1] = torch.inf
        return vectors

    encoder = toy(pooled)
    encoder._autocast = True
    vectors = encoder.encode(torch.zeros(4, 3, 4, 4, dtype=torch.uint8))
    assert calls == [(True, 4), (False, 1)]
    assert torch.allclose(vectors, torch.full((4, 3), 3**-0.5))


def test_encoding_leaves_no_graph_and_no_dropout_behind() -> None:
    encoder = load_encoder("clip", "demo:clip")  # trained with patch dropout of a half
    batch = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    first, second = encoder.encode(batch), encoder.encode(batch)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert torch.allclose(encoder.encode(batch[1:2]), first[1:2], atol=1e-6)


def test_demo_encoders_load_from_what_ships_and_say_so() -> None:
    clip, dino = load_encoder("clip", "demo:clip"), load_encoder("dino", "demo:dino")
    assert (clip.spec, clip.name, clip.preprocess.size) == ("demo:clip", "clip", 64)
    assert (dino.spec, dino.name, dino.preprocess.size) == ("demo:dino", "dino", 64)
    for encoder in (clip, dino):
        description = encoder.describe()
        assert (description["spec"], description["dimension"]) == (encoder.spec, encoder.dimension)
        assert description["preprocess"] == encoder.preprocess.describe()
        assert len(encoder.weights_hash) == 64


def test_the_package_itself_loads_no_model_library() -> None:
    code = (
        "import sys, blindpairs.encoders;"
        "assert not {'open_clip', 'transformers', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(
        ConfigError, match=r"^device 'abacus' is not available on this machine \(.*\); try --device auto or cpu$"
    ):
        choose_device("abacus")
