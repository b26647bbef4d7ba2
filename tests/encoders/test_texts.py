"""Text vectors equal those of the library's own pipeline, and no text is cut; with random weights in real classes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_parity import batch_of, generated
from hub_folders import (
    OPENAI,
    READER,
    save_clip_vision,
    save_clip_with_tokenizer,
    save_gemma_tokenizer,
    save_open_clip,
    save_small_siglip,
)
from torch import Tensor

from blindpairs.encoders import TextEncoder, load_encoder, load_text_encoder
from blindpairs.errors import AssetMissing, ConfigError

TEXTS = [
    "a photo of a dog facing left",
    "a photo of a dog facing right",
    "A PHOTO of   a sign that says 'Stop!', in  Capitals",
    "caf\u00e9 &amp; bar, two cups; one \u732b",
]
LONG = "a photo of " + "a very " * 80 + "long tail"


def assert_same_texts(encoder: TextEncoder, texts: list[str], theirs: Tensor) -> None:
    """Cosine >= .9999 each, and far closer than any two texts are."""
    ours = encoder.encode(texts)
    theirs = torch.nn.functional.normalize(theirs.detach().float(), dim=1)
    assert (ours.dtype, ours.shape) == (torch.float32, (len(texts), encoder.dimension))
    assert torch.allclose(ours.norm(dim=1), torch.ones(len(texts)), atol=1e-6)
    assert (ours * theirs).sum(dim=1).min() >= 0.9999
    distances = torch.cdist(theirs, theirs) + torch.eye(len(texts)) * 9
    assert ((ours - theirs).norm(dim=1) < 0.2 * distances.min(dim=1).values).all()


def assert_same_cosines(spec: str, theirs: Any, scale: float) -> None:
    """Image and text vectors are in one space: their cosines are the logits of the library, by its scale."""
    images = load_encoder("clip", spec)
    texts = load_text_encoder(spec)
    vectors = images.encode(batch_of(images, [generated(80, 64), generated(64, 100)]))
    assert torch.allclose(vectors @ texts.encode(TEXTS).T * texts.logit_scale, theirs, atol=1e-3 * scale)
    assert texts.logit_scale == pytest.approx(scale)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_open_clip(tmp_path_factory.mktemp("reader"), READER, OPENAI)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip_with_tokenizer(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siglip2")
    return save_small_siglip(folder, save_gemma_tokenizer(folder, [text.lower() for text in TEXTS]))


def test_open_clip_texts_are_those_of_open_clips_own_pipeline(reader: Path) -> None:
    import open_clip

    name = f"local-dir:{reader}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    theirs = model.eval().encode_text(open_clip.get_tokenizer(name)(TEXTS))
    encoder = load_text_encoder(f"open_clip:{name}")
    assert_same_texts(encoder, TEXTS, theirs)
    pixels = torch.stack([preprocess(generated(80, 64)), preprocess(generated(64, 100))])
    logits, _ = model.get_logits(pixels, open_clip.get_tokenizer(name)(TEXTS))
    assert_same_cosines(f"open_clip:{name}", logits, float(model.logit_scale.detach().exp()))
    everything = sum(one.numel() for one in model.parameters())
    assert load_encoder("clip", f"open_clip:{name}").parameters + encoder.parameters == everything


def activations(encoder: TextEncoder) -> set[str]:
    """The kinds of GELU in a text tower."""
    return {type(part).__name__ for part in encoder._tower.module.modules()} & {"QuickGELU", "GELU"}


def test_weights_trained_with_quick_gelu_get_it_in_both_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    built: dict[str, Any] = {}

    def fake(name: str, **options: Any) -> Any:
        built.update(options)
        config = READER | {"quick_gelu": options["force_quick_gelu"]}
        return open_clip.CLIP(**config)

    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: "")
    monkeypatch.setattr(open_clip, "create_model", fake)
    encoder = load_text_encoder("open_clip:ViT-L-14/openai")
    assert (built["force_quick_gelu"], activations(encoder)) == (True, {"QuickGELU"})
    encoder = load_text_encoder("open_clip:ViT-L-14/laion2b_s32b_b82k")
    assert (built["force_quick_gelu"], activations(encoder)) == (False, {"GELU"})


def test_custom_text_tower_with_a_tokenizer_of_its_own_folder_matches(tmp_path: Path) -> None:
    import open_clip

    words = save_gemma_tokenizer(tmp_path, [text.lower() for text in TEXTS])
    text: dict[str, Any] = {
        "context_length": 40,
        "vocab_size": words,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
    }
    text |= {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP2", "tokenizer_kwargs": {"clean": "canonicalize"}}
    text |= {"pool_type": "last", "proj_bias": True}
    config = READER | {"custom_text": True, "text_cfg": text}
    folder = save_open_clip(tmp_path, config, OPENAI)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS[:3])
    encoder = load_text_encoder(f"open_clip:local-dir:{folder}")
    assert_same_texts(encoder, TEXTS[:3], model.encode_text(tokens))
    with pytest.raises(ConfigError, match=r"long tail' has \d+ tokens, and the model reads 40: shorten"):
        encoder.encode([*TEXTS[:2], LONG])


@pytest.mark.parametrize("end", [49407, 2])  # 2: how OpenAI's own configurations have it
def test_clip_texts_are_those_of_transformers_own_pipeline(tmp_path: Path, end: int) -> None:
    from transformers import AutoTokenizer, CLIPModel

    folder = save_clip_with_tokenizer(tmp_path, eos_token_id=end)
    model = CLIPModel.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    assert_same_texts(load_text_encoder(f"hf:{folder}"), TEXTS, model.get_text_features(**inputs).pooler_output)


def test_clip_images_and_texts_are_in_one_space(clip: Path) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(clip).eval()
    inputs = AutoTokenizer.from_pretrained(clip)(TEXTS, padding=True, return_tensors="pt")
    processor = AutoImageProcessor.from_pretrained(clip)
    pixels = processor([generated(80, 64), generated(64, 100)], return_tensors="pt")["pixel_values"]
    logits = model(**inputs, pixel_values=pixels).logits_per_image
    assert_same_cosines(f"hf:{clip}", logits, float(model.logit_scale.detach().exp()))
    parameters = load_encoder("clip", f"hf:{clip}").parameters + load_text_encoder(f"hf:{clip}").parameters
    assert parameters == sum(one.numel() for one in model.parameters())


def test_siglip_2_texts_are_padded_and_lower_cased_as_in_training(siglip2: Path) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer, SiglipModel

    model = SiglipModel.from_pretrained(siglip2).eval()
    tokenizer = AutoTokenizer.from_pretrained(siglip2)
    lower = [text.lower() for text in TEXTS]
    inputs = tokenizer(lower, padding="max_length", max_length=64, return_tensors="pt")
    theirs = model.get_text_features(**inputs).pooler_output
    encoder = load_text_encoder(f"hf:{siglip2}")
    assert_same_texts(encoder, TEXTS, theirs)
    unpadded = model.get_text_features(**tokenizer(lower, padding=True, return_tensors="pt")).pooler_output
    assert torch.cosine_similarity(theirs, unpadded).min() < 0.99  # the padding is no detail
    processor = AutoImageProcessor.from_pretrained(siglip2)
    pixels = processor([generated(80, 64), generated(64, 100)], return_tensors="pt")["pixel_values"]
    logits = model(**inputs, pixel_values=pixels).logits_per_image - model.logit_bias
    assert_same_cosines(f"hf:{siglip2}", logits, float(model.logit_scale.detach().exp()))
    assert {key: encoder.describe()[key] for key in ("architecture", "tokenizer", "lower_case", "context")} == {
        "architecture": "SiglipModel",
        "tokenizer": "GemmaTokenizer",
        "lower_case": True,
        "context": 64,
    }


def test_siglip_gets_no_mask_over_its_padding_whatever_its_tokenizer_gives(siglip2: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    for path in siglip2.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(config | {"model_input_names": ["input_ids", "attention_mask"]})
    )
    assert "attention_mask" in AutoTokenizer.from_pretrained(tmp_path)("a dog")
    theirs = load_text_encoder(f"hf:{siglip2}").encode(TEXTS)
    assert torch.equal(load_text_encoder(f"hf:{tmp_path}").encode(TEXTS), theirs)


def test_siglip_texts_are_cleaned_by_its_sentencepiece_tokenizer(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers import AutoTokenizer, SiglipModel

    (tmp_path / "texts").write_text("\n".join(text.lower() for text in TEXTS * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts"), model_prefix=str(tmp_path / "spiece"), vocab_size=38, bos_id=-1, pad_id=0,
        eos_id=1, unk_id=2, minloglevel=2,
    )  # fmt: skip
    config = {"tokenizer_class": "SiglipTokenizer", "do_lower_case": True, "model_input_names": ["input_ids"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 64}))
    folder = save_small_siglip(tmp_path, 38)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ == "SiglipTokenizer"
    inputs = tokenizer(TEXTS[:3], padding="max_length", return_tensors="pt")
    theirs = SiglipModel.from_pretrained(folder).eval().get_text_features(**inputs).pooler_output
    assert_same_texts(load_text_encoder(f"hf:{folder}"), TEXTS[:3], theirs)


def test_text_beyond_the_context_is_named_and_never_cut(clip: Path, reader: Path, siglip2: Path) -> None:
    for spec in (f"hf:{clip}", f"open_clip:local-dir:{reader}", f"hf:{siglip2}"):
        encoder = load_text_encoder(spec)
        with pytest.raises(ConfigError, match=r"long tail' has \d+ tokens, and the model reads"):
            encoder.encode([TEXTS[0], LONG])


def test_longest_text_that_fits_keeps_its_last_word(clip: Path, reader: Path) -> None:
    for spec in (f"hf:{clip}", f"open_clip:local-dir:{reader}"):
        encoder = load_text_encoder(spec)
        fits = "dog " * 74
        vectors = encoder.encode([fits + "left", fits + "right"])
        assert float(vectors[0] @ vectors[1]) < 0.9999
        with pytest.raises(ConfigError, match="has 78 tokens, and the model reads 77"):
            encoder.encode([fits + "facing left"])


def test_vectors_do_not_depend_on_the_batch(clip: Path) -> None:
    encoder = load_text_encoder(f"hf:{clip}")
    texts = [f"a photo of {number} dogs" for number in range(70)]
    one_by_one = torch.cat([encoder.encode([text]) for text in texts])
    assert torch.allclose(encoder.encode(texts), one_by_one, atol=1e-5)
    assert encoder.encode([]).shape == (0, 32)


def test_demo_clip_reads_texts() -> None:
    encoder = load_text_encoder("demo:clip")
    assert encoder.encode(["a snail", "a teapot"]).shape == (2, 128)
    assert encoder.context == 16


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("demo:dino", r"demo:dino: this encoder has no text side \(model_type 'dinov2'\); choose a CLIP or a SigLIP"),
        ("timm:vit_tiny_patch16_224", "timm:vit_tiny_patch16_224: this encoder has no text side; choose a CLIP"),
        ("demo:clip?pool=cls", "pool=cls are not in the space of the texts; leave pool= out"),
        ("openclip:x", "'openclip:x' is not an encoder spec"),
    ],
)
def test_model_without_a_text_side_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_text_encoder(spec)


def test_vision_half_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no text side \(model_type 'clip_vision_model'\)"):
        load_text_encoder(f"hf:{save_clip_vision(tmp_path)}")


def test_folder_without_a_tokenizer_names_what_is_missing(clip: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).symlink_to(clip / name)
    with pytest.raises(AssetMissing, match=r"no tokenizer in .*; put one of tokenizer\.json, vocab\.json"):
        load_text_encoder(f"hf:{tmp_path}")


@pytest.fixture
def cached(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub with a CLIP in it, as the image side of an older version left it: without a tokenizer."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--openai--clip-vit-large-patch14"
    snapshot = repository / "snapshots" / "32bd64288804d66eefd0ccbe215aa642df71cc41"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (snapshot / name).symlink_to(clip / name)
    return snapshot


def test_cached_model_without_a_tokenizer_offline_is_missing_an_asset(cached: Path) -> None:
    with pytest.raises(AssetMissing, match="no tokenizer in "):
        load_text_encoder("hf:openai/clip-vit-large-patch14")


def test_tokenizer_that_the_cache_lacks_is_fetched_for_the_same_revision(
    cached: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[tuple[str, Any]] = []
    real = huggingface_hub.snapshot_download

    def fetch(repository: str, **options: Any) -> str:
        if "allow_patterns" in options:
            asked.append((repository, options["revision"]))
            for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
                (cached / name).symlink_to(clip / name)
        return str(real(repository, **options))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    encoder = load_text_encoder("hf:openai/clip-vit-large-patch14")
    assert asked == [("openai/clip-vit-large-patch14", cached.name)]
    assert torch.allclose(encoder.encode(TEXTS), load_text_encoder(f"hf:{clip}").encode(TEXTS), atol=1e-6)
