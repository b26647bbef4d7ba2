"""Towers and a language model become one model; what does not fit together is refused in words, not filled in."""

from pathlib import Path
from typing import Any

import hub_folders as hub
import pytest
import torch
from encoder_parity import randomised
from tiny_llava import character_tokenizer
from tiny_mof import SHAPE, demo_mof, question, save_language_model, text_config

from blindpairs.encoders import Layer, load_encoder
from blindpairs.errors import AssetMissing, ConfigError
from blindpairs.mof import building
from blindpairs.mof.building import Fusion, build_mof, load_mof, parts, save_mof
from blindpairs.mof.towers import VisionTower, load_tower


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("language-model"))


def saved(folder: Path, model: Any) -> Path:
    """A language model with the character tokenizer, in a folder."""
    model.save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


MODES = {
    "clip": (["clip", "clip_projector"], 64),
    "dino": (["dino", "dino_projector"], 64),
    "additive": (["clip", "dino", "projector"], 64),
    "concat": (["clip", "dino", "projector"], 64),
    "interleaved": (["clip", "dino", "clip_projector", "dino_projector"], 128),
}


@pytest.mark.parametrize("mode", MODES)
def test_saved_model_loads_with_the_same_logits_and_only_the_parts_of_its_mode(
    mode: str, language_model: Path, tmp_path: Path
) -> None:
    model, processor = demo_mof(language_model, mode=mode)
    names, tokens = MODES[mode]
    assert list(parts(model)) == [*names, "language_model"]
    assert model.image_tokens == tokens == model.config.image_seq_length
    save_mof(model, processor, tmp_path)
    again, processor_again = load_mof(tmp_path)
    inputs = question(model, images=2)
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    assert processor_again.image_token_id == model.config.image_token_id
    for one in (model, again):
        trainable = {name: any(p.requires_grad for p in part.parameters()) for name, part in parts(one).items()}
        assert trainable == {name: name not in ("clip", "dino") for name in trainable}


def test_parts_are_the_whole_model_each_weight_once(language_model: Path) -> None:
    for mode in MODES:
        model, _ = demo_mof(language_model, mode=mode)
        found = [id(one) for part in parts(model).values() for one in part.parameters()]
        assert sorted(found) == sorted(id(one) for one in model.parameters())


def test_features_of_the_demo_are_those_of_its_encoders(language_model: Path) -> None:
    model, _ = demo_mof(language_model, dino_norm=True)
    batch = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    encoders = [load_encoder(name, f"demo:{name}") for name in ("clip", "dino")]
    layers = [Layer(-2, False), Layer(-1, True)]
    clip, dino = model.encode(encoders[0]._normalised(batch))
    for found, encoder, layer in zip((clip, dino), encoders, layers, strict=True):
        torch.testing.assert_close(found, encoder.tokens_of(batch, [layer])[0].patches, rtol=1e-4, atol=1e-4)


def test_language_model_answers_texts_as_it_did_alone(language_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.randint(5, 90, (2, 11))
    alone = AutoModelForCausalLM.from_pretrained(language_model)(input_ids=ids).logits
    model, _ = demo_mof(language_model)
    assert torch.equal(model(input_ids=ids).logits, alone)


def test_parts_of_different_precision_work_together(language_model: Path) -> None:
    model, _ = build_mof("demo:clip", "demo:dino", language_model, Fusion(), dtype=torch.bfloat16)
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    for name in ("clip_projector", "dino_projector"):
        parts(model)[name].float()  # trained in float32 between frozen parts of half the memory
    inputs = question(model)
    exact = demo_mof(language_model)[0](**inputs).logits
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert {one.grad.dtype for one in parts(model)["dino_projector"].parameters() if one.grad is not None} == {
        torch.float32
    }
    assert (model(**inputs).logits - exact).abs().mean() < 0.1 * exact.std()


def test_model_never_says_an_image(language_model: Path, tmp_path: Path) -> None:
    model, processor = demo_mof(language_model, mode="clip")
    place = model.config.image_token_id
    inputs = question(model)
    with torch.no_grad():  # a head that would say nothing else
        hidden = model.model(**inputs).last_hidden_state[0, -1]
        model.lm_head.weight[place] = 100 * hidden / hidden.norm()
    assert int(model(**inputs).logits[0, -1].argmax()) == place
    save_mof(model, processor, tmp_path)
    for one in (model, load_mof(tmp_path)[0]):
        answer = one.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert place not in answer.tolist()


def test_same_seed_gives_the_same_projectors_and_leaves_the_generator_alone(language_model: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    both = [
        build_mof("demo:clip", "demo:dino", language_model, fusion, seed=seed)[0].model
        for fusion, seed in ((Fusion(), 0), (Fusion(mode="clip"), 0), (Fusion(), 1))
    ]
    assert torch.equal(torch.get_rng_state(), before)
    first = [one.multi_modal_projector.linear_1.weight for one in both]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], both[0].aux_projector.linear_1.weight)


def test_towers_of_other_patch_sizes_share_the_grid_of_the_first(language_model: Path, tmp_path: Path) -> None:
    for name in ("clip", "dino"):
        (tmp_path / name).mkdir()
    clip, dino = hub.save_clip_vision(tmp_path / "clip"), hub.save_dinov3(tmp_path / "dino")  # patches of 14 and 16
    fusion = Fusion(resolution=112, dino_norm=True)
    model, processor = build_mof(f"hf:{clip}", f"hf:{dino}", language_model, fusion)
    assert model.image_tokens == 2 * 8 * 8
    assert processor.image_processor.crop_size["height"] == 112
    pixels = torch.rand(1, 3, 112, 112)
    given = (pixels - torch.tensor(model.config.pixel_mean).view(3, 1, 1)) / torch.tensor(model.config.pixel_std).view(
        3, 1, 1
    )
    of_clip = load_encoder("clip", f"hf:{clip}").transformer.hidden(given, [Layer(-2, False)])[0]
    torch.testing.assert_close(model.encode(given)[0], of_clip[:, 1:], rtol=1e-4, atol=1e-4)
    wanted = torch.nn.functional.interpolate(pixels, (128, 128), mode="bicubic", antialias=True)
    encoder = load_encoder("dino", f"hf:{dino}")
    normed = (wanted - encoder._mean) / encoder._std
    with torch.no_grad():
        (expected,) = encoder.transformer.hidden(normed, [Layer(-1, True)])
    torch.testing.assert_close(model.encode(given)[1], expected[:, 5:], rtol=1e-3, atol=1e-3)


def test_only_a_tower_whose_positions_are_fixed_is_loaded_twice_for_another_resolution(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(text: str, grid: int | None = None) -> VisionTower:
        loaded.append(text)
        return load_tower(text, grid)

    monkeypatch.setattr(building, "load_tower", load)
    fixed = f"timm:local-dir:{hub.save_timm(tmp_path, 'vit_tiny_patch16_224', depth=2, embed_dim=96, num_heads=3)}"
    for spec, side, times in (("demo:clip", 32, 1), ("demo:clip", 64, 1), (fixed, 112, 2), (fixed, 224, 1)):
        loaded.clear()
        model, _ = build_mof(spec, "", language_model, Fusion(mode="clip", resolution=side))
        assert loaded == [spec] * times
        assert model.config.resolution == side


def test_timm_tower_is_made_for_the_grid_of_the_first(language_model: Path, tmp_path: Path) -> None:
    spec = f"timm:local-dir:{hub.save_timm(tmp_path, 'vit_tiny_patch16_224', depth=2, embed_dim=96, num_heads=3)}"
    model, processor = build_mof("demo:clip", spec, language_model, Fusion(mode="concat"))
    save_mof(model, processor, tmp_path / "run")
    again, _ = load_mof(tmp_path / "run")
    inputs = question(model)
    assert [one.shape[1:] for one in model.encode(inputs["pixel_values"])] == [(64, 128), (64, 96)]
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("choice", ["own", "imagenet", "clip"])
def test_second_towers_normalisation_is_the_one_that_was_chosen(choice: str, language_model: Path) -> None:
    config = demo_mof(language_model, dino_normalization=choice)[0].config
    imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    demo = ([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])  # of both its towers
    assert (config.aux_mean, config.aux_std) == (imagenet if choice == "imagenet" else demo)
    alone, processor = demo_mof(language_model, mode="dino", dino_normalization=choice)
    mean = {"own": 0.5, "imagenet": 0.485, "clip": 0.48145466}[choice]
    assert processor.image_processor.image_mean[0] == alone.config.pixel_mean[0] == alone.config.aux_mean[0] == mean


def test_image_token_is_added_with_rows_that_are_no_likelier_than_others(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<unk>", "</s>", *map(str, range(98))])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    language = randomised(LlamaForCausalLM(text_config(vocab_size=100)))
    language.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>").save_pretrained(tmp_path)
    model, processor = demo_mof(tmp_path, mode="clip")
    assert model.config.image_token_id == processor.tokenizer.image_token_id == 100
    assert model.config.text_config.vocab_size == model.lm_head.out_features == 128  # a multiple of 64
    for table, old in (
        (model.get_input_embeddings(), language.get_input_embeddings()),
        (model.lm_head, language.lm_head),
    ):
        assert torch.equal(table.weight[:100], old.weight)
        torch.testing.assert_close(table.weight[100:], old.weight.mean(dim=0).expand(28, -1))
    save_mof(model, processor, tmp_path / "run")
    again, processor_again = load_mof(tmp_path / "run")
    assert processor_again.tokenizer.image_token_id == 100
    inputs = question(model)
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_tokenizer_with_more_entries_than_the_embedding_table_has_rows_is_refused(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    LlamaForCausalLM(text_config(vocab_size=60)).save_pretrained(tmp_path)
    character_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"the tokenizer has ids up to 100, and the embedding table has 60 rows: take"
    ):
        demo_mof(tmp_path, mode="clip")


def test_language_models_whose_logits_llava_would_not_compute_are_refused(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM, PhiConfig, PhiForCausalLM

    capped = {**SHAPE, "vocab_size": 100, "head_dim": 16, "num_key_value_heads": 2, "final_logit_softcapping": 1.0}
    gemma = saved(tmp_path / "gemma", randomised(Gemma2ForCausalLM(Gemma2Config(**capped))))
    phi = saved(tmp_path / "phi", PhiForCausalLM(PhiConfig(**SHAPE, vocab_size=100)))  # its head has a bias
    for folder in (gemma, phi):
        with pytest.raises(ConfigError, match="are not a plain linear map"):
            demo_mof(folder)


@pytest.mark.parametrize(
    ("specs", "fusion", "why"),
    [
        (("", "demo:dino"), {}, "mode interleaved needs an encoder for --clip"),
        (("demo:clip", ""), {"mode": "dino"}, "mode dino needs an encoder for --dino"),
        (("demo:clip", "demo:dino"), {"resolution": 70}, "70 is not a multiple of the patch size 8; use 72"),
        (("demo:clip", "demo:dino"), {"dino_layer": 7}, "no layer 7: this tower has 4 blocks"),
        (("demo:clip", "demo:clip"), {"dino_norm": True}, "has no norm for its patch tokens"),
        (("demo:clip", "nonsense"), {}, "is not an encoder spec"),
    ],
)
def test_parts_that_do_not_fit_are_named(
    specs: tuple[str, str], fusion: dict[str, Any], why: str, language_model: Path
) -> None:
    with pytest.raises(ConfigError, match=why):
        build_mof(*specs, language_model, Fusion(**fusion))


def test_missing_or_damaged_parts_are_errors_and_nothing_is_random_in_silence(
    language_model: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(ConfigError, match="there is no folder"):
        demo_mof(tmp_path / "nothing")
    with pytest.raises(AssetMissing):
        demo_mof(Path("somebody/nothing"))
    model, processor = demo_mof(language_model)
    save_mof(model, processor, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.aux_projector.linear_1.bias"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"lacks 1 tensors of this model, such as model\.aux_projector\.linear_1\.bias"
    ):
        load_mof(tmp_path)
