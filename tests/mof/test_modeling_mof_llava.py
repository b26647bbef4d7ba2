"""What the model computes: LLaVA's own numbers where it is LLaVA, the same from pixels, features, caches, batches."""

import math
from typing import Any

import pytest
import torch
from tiny_mof import IMAGE, VOCABULARY, question, tiny_config, tiny_mof
from torch import Tensor

from blindpairs.mof.modeling_mof_llava import CHOICES, MofLlavaForConditionalGeneration, interleave

every_mode = pytest.mark.parametrize("mode", CHOICES["mode"])


def generated(model: Any, **inputs: Any) -> Tensor:
    return model.generate(**inputs, max_new_tokens=8, do_sample=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options", [{"mode": "clip"}, {"mode": "additive", "clip_weight": 1.0}], ids=["clip", "additive"]
)
def test_clip_alone_is_transformers_own_llava_bit_for_bit(options: dict[str, Any]) -> None:
    from encoder_parity import randomised
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    ours = tiny_mof(**options)
    config = ours.config
    theirs = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=config.vision_config, text_config=config.text_config, image_token_index=IMAGE)
    )
    report = ours.load_state_dict(randomised(theirs).state_dict(), strict=False)
    assert all(name.startswith("model.aux_tower.") for name in report.missing_keys)
    dropped = ("model.vision_tower.encoder.layers.2.", "model.vision_tower.post_layernorm.")
    assert all(name.startswith(dropped) for name in report.unexpected_keys)
    inputs = question(ours, images=2)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE, -100)
    outputs = [model.train()(**inputs, labels=labels) for model in (ours, theirs)]
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    for output in outputs:
        output.loss.backward()
    pairs = zip(
        ours.model.multi_modal_projector.parameters(), theirs.model.multi_modal_projector.parameters(), strict=True
    )
    for one, other in pairs:
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad)
    changed = ours(**{**inputs, "pixel_values": inputs["pixel_values"].flip(0)}).logits
    assert not torch.allclose(changed, outputs[0].logits, atol=0.01)


def test_interleaved_tokens_alternate_in_the_order_of_the_patches() -> None:
    clip, dino = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    merged = torch.empty(2, 8, 3)
    for image in range(2):
        for patch in range(4):
            merged[image, 2 * patch] = clip[image, patch]
            merged[image, 2 * patch + 1] = dino[image, patch]
    assert torch.equal(interleave(clip, dino), merged)


def fused_slowly(model: Any, features: tuple[Tensor, ...]) -> Tensor:
    """`fuse` by the words of the paper, one image and one patch at a time."""
    inner, config = model.model, model.config
    rows = []
    for image in range(len(features[0])):
        row = []
        for patch in range(features[0].shape[1]):
            seen = [one[image, patch] for one in features]
            if config.mode == "clip":
                row.append(inner.multi_modal_projector(seen[0]))
            elif config.mode == "dino":
                row.append(inner.aux_projector(seen[0]))
            elif config.mode == "additive":
                mixed = config.clip_weight * seen[0] + (1 - config.clip_weight) * seen[1]
                row.append(inner.multi_modal_projector(mixed))
            elif config.mode == "concat":
                row.append(inner.multi_modal_projector(torch.cat(seen)))
            else:
                row += [inner.multi_modal_projector(seen[0]), inner.aux_projector(seen[1])]
        rows.append(torch.stack(row))
    return torch.stack(rows)


@every_mode
def test_fuse_mixes_the_features_as_its_mode_says(mode: str) -> None:
    model = tiny_mof(mode=mode, clip_weight=0.25)
    features = model.encode(question(model, images=2)["pixel_values"])
    names = {"clip": ("clip",), "dino": ("dino",)}.get(mode, ("clip", "dino"))
    assert model.tower_names == names
    assert [tuple(one.shape) for one in features] == [(2, 16, 32)] * len(names)
    fused = model.fuse(features)
    assert fused.shape == (2, model.image_tokens, 32)
    torch.testing.assert_close(fused, fused_slowly(model, features))


@every_mode
def test_only_the_parts_that_the_mode_uses_exist_and_all_of_them_are_trained(mode: str) -> None:
    model = tiny_mof(mode=mode)
    inner = model.model
    present = [inner.vision_tower, inner.multi_modal_projector, inner.aux_tower, inner.aux_projector]
    wanted = {"clip": "1100", "dino": "0011", "interleaved": "1111"}.get(mode, "1110")
    assert "".join(str(int(part is not None)) for part in present) == wanted
    inputs = question(model)
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert [name for name, one in model.named_parameters() if one.grad is None] == []


@pytest.mark.parametrize(("layer", "norm"), [(-1, False), (-1, True), (-2, False), (1, True)])
def test_features_are_the_librarys_hidden_states_without_class_token_and_registers(layer: int, norm: bool) -> None:
    from transformers import AutoModel

    model = tiny_mof(mode="interleaved", aux_feature_layer=layer, aux_feature_norm=norm, aux_normalization="clip")
    whole = AutoModel.from_config(model.config.aux_vision_config).eval()
    kept = model.model.aux_tower.state_dict()
    whole.load_state_dict(whole.state_dict() | kept, strict=False)
    pixels = question(model)["pixel_values"]
    with torch.no_grad():
        states = whole(pixels, output_hidden_states=True).hidden_states
        expected = whole.layernorm(states[layer]) if norm else states[layer]
        assert torch.equal(model.encode(pixels)[1], expected[:, 4:])
    assert len(model.model.aux_tower.encoder.layer) == (layer if layer > 0 else layer + 3)


def test_frozen_tower_gives_features_without_gradient_and_a_trainable_one_is_trained() -> None:
    model = tiny_mof(mode="interleaved").train()
    model.model.vision_tower.requires_grad_(False)
    features = model.encode(question(model)["pixel_values"])
    assert [one.requires_grad for one in features] == [False, True]
    assert not model.model.vision_tower.training  # no dropout in what a cache may hold
    assert model.model.aux_tower.training


def test_second_tower_gets_pixels_as_it_was_trained_with_and_keeps_them_in_bfloat16() -> None:
    rules = {
        "pixel_mean": (0.4, 0.5, 0.6),
        "pixel_std": (0.3, 0.2, 0.1),
        "aux_mean": (0.5, 0.1, 0.2),
        "aux_std": (0.2,) * 3,
    }
    model = tiny_mof(**rules)
    raw = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    columns = {name: torch.tensor(one, dtype=torch.float64).view(1, 3, 1, 1) for name, one in rules.items()}
    given = ((raw - columns["pixel_mean"]) / columns["pixel_std"]).float()
    wanted = (raw - columns["aux_mean"]) / columns["aux_std"]
    torch.testing.assert_close(model.model._renormalised(given).double(), wanted, rtol=0, atol=5e-6)
    assert model.model._renormalised(given.bfloat16()).dtype == torch.float32  # constants of 8 bits would shift colours
    same = tiny_mof(aux_normalization="clip")
    assert same.model._renormalised(given) is given


@pytest.mark.parametrize("norm", ["l2", "layernorm"])
def test_feature_norm_makes_towers_of_any_scale_alike(norm: str) -> None:
    model = tiny_mof(mode="additive", clip_weight=0.5, feature_norm=norm, projector_type="linear")
    clip, dino = torch.randn(1, 16, 32), torch.randn(1, 16, 32)
    torch.testing.assert_close(model.fuse((1000 * clip, dino)), model.fuse((clip, dino)), rtol=1e-3, atol=1e-3)
    length = model.model._normed(clip).norm(dim=-1)
    torch.testing.assert_close(length, torch.full_like(length, 1 if norm == "l2" else math.sqrt(32)), rtol=1e-3, atol=0)


@every_mode
def test_features_of_a_cache_give_the_logits_of_the_pixels(mode: str) -> None:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    model = tiny_mof(mode=mode)
    inputs = question(model, images=2)
    whole = model(**inputs, labels=inputs["input_ids"])
    features = model.encode(inputs["pixel_values"])
    cached = model(input_ids=inputs["input_ids"], features=features, labels=inputs["input_ids"])
    assert torch.equal(cached.logits, whole.logits)
    assert torch.equal(cached.loss, whole.loss)
    halved = model(input_ids=inputs["input_ids"], features=tuple(one.half() for one in features)).logits
    torch.testing.assert_close(halved, whole.logits, rtol=0, atol=0.02)
    image = BaseModelOutputWithPooling(pooler_output=list(model.fuse(features)))
    answered = generated(model, input_ids=inputs["input_ids"], mm_encoder_outputs={"image": image})
    assert torch.equal(answered, generated(model, **inputs))
    with pytest.raises(ValueError, match="not several of them"):
        model(**inputs, features=features)


@every_mode
def test_generation_is_the_same_with_and_without_a_cache_and_in_a_padded_batch(mode: str) -> None:
    model = tiny_mof(mode=mode)
    inputs = question(model, images=2)
    together = generated(model, **inputs)
    assert torch.equal(together, generated(model, **inputs, use_cache=False))
    assert not torch.equal(together[0, -8:], together[1, -8:])
    long = {name: one[:1] for name, one in inputs.items()}
    short = {"input_ids": inputs["input_ids"][1:, 2:], "pixel_values": inputs["pixel_values"][1:]}
    padded = torch.nn.functional.pad(short["input_ids"], (2, 0), value=0)
    ids = torch.cat([long["input_ids"], padded])
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    both = generated(model, input_ids=ids, pixel_values=inputs["pixel_values"], attention_mask=mask)
    assert torch.equal(both[:1], generated(model, **long))
    assert torch.equal(both[1:, 2:], generated(model, **short))


def test_generation_is_the_same_from_a_static_cache_and_from_embedded_tokens() -> None:
    model = tiny_mof(mode="interleaved")
    inputs = question(model)
    answer = generated(model, **inputs)
    assert torch.equal(generated(model, **inputs, cache_implementation="static"), answer)
    embedded = model.get_input_embeddings()(inputs["input_ids"])
    said = generated(model, inputs_embeds=embedded, pixel_values=inputs["pixel_values"])
    assert torch.equal(said, answer[:, inputs["input_ids"].shape[1] :])


def test_beams_and_several_answers_a_prompt_repeat_the_image() -> None:
    model = tiny_mof()
    inputs = question(model, images=2)
    beams = model.generate(**inputs, max_new_tokens=4, num_beams=3, num_return_sequences=2, do_sample=False)
    assert beams.shape == (4, inputs["input_ids"].shape[1] + 4)
    first = {name: one[:1] for name, one in inputs.items()}
    alone = model.generate(**first, max_new_tokens=4, num_beams=3, num_return_sequences=2, do_sample=False)
    assert torch.equal(beams[:2], alone)


def test_images_and_texts_mix_in_a_batch_of_padded_rows() -> None:
    model = tiny_mof()
    asked = question(model)
    text = torch.randint(5, VOCABULARY, (1, 6), generator=torch.Generator().manual_seed(1))
    length = asked["input_ids"].shape[1]
    ids = torch.cat([asked["input_ids"], torch.nn.functional.pad(text, (0, length - 6))])
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    both = model(input_ids=ids, pixel_values=asked["pixel_values"], attention_mask=mask).logits
    torch.testing.assert_close(both[0], model(**asked).logits[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1, :6], model(input_ids=text).logits[0], rtol=0, atol=1e-5)


def test_number_of_image_tokens_that_does_not_fit_is_named_with_what_would() -> None:
    model = tiny_mof(mode="interleaved")
    inputs = question(model)
    short = {**inputs, "input_ids": inputs["input_ids"][:, 3:]}
    with pytest.raises(ValueError, match="31 image tokens, and 1 images take 32: each <image> must become 32"):
        model(**short)
    without = {**inputs, "input_ids": inputs["input_ids"][:, -7:]}
    with pytest.raises(ValueError, match="0 image tokens, and 1 images take 32"):
        model(**without)  # a question whose <image> was forgotten must not be answered blindly
    with pytest.raises(ValueError, match="must be"):
        model.encode(torch.zeros(1, 3, 32, 40))
    with pytest.raises(ValueError, match="chosen when the model is built"):
        model.get_image_features(inputs["pixel_values"], vision_feature_layer=-1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"mode": "both"}, "mode is 'both'; it must be one of clip, dino"),
        ({"feature_norm": "batch"}, "feature_norm is 'batch'"),
        ({"projector_type": "mlp"}, "projector_type is 'mlp'"),
        ({"aux_normalization": "zero"}, "aux_normalization is 'zero'"),
        ({"clip_weight": 1.5}, "from 0 to 1"),
        ({"vision_feature_layer": [-2, -1]}, "several layers are not supported"),
        ({"vision_feature_layer": -4}, "no layer -4: this tower has 3 blocks"),
        ({"aux_feature_layer": 3}, "no layer 3: this tower has 2 blocks"),
    ],
)
def test_configuration_that_cannot_be_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        MofLlavaForConditionalGeneration(tiny_config(**options))


def test_additive_mode_refuses_towers_of_different_widths_and_the_others_take_them() -> None:
    from transformers import Dinov2Config

    wide = Dinov2Config(hidden_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8)
    with pytest.raises(ValueError, match="32 and 48 channels wide"):
        tiny_mof(mode="additive", aux_vision_config=wide)
    for mode in ("interleaved", "concat"):
        model = tiny_mof(mode=mode, aux_vision_config=wide)
        assert model.fuse(model.encode(question(model)["pixel_values"])).shape == (1, model.image_tokens, 32)
