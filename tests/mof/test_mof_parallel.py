"""Training in other ways computes the same: packed, recomputed, compiled, on two processes, with texts alone."""

from typing import Any

import pytest
import torch
from sharded_mof import trained_alone, trained_on_two_processes
from tiny_mof import IMAGE, SHAPE, VOCABULARY, question, tiny_mof
from torch import Tensor

from blindpairs.errors import ConfigError
from blindpairs.mof.stages import check_packing


def gradients(model: Any, **inputs: Any) -> dict[str, Tensor]:
    model.zero_grad()
    model(**inputs).loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def labels_of(ids: Tensor) -> Tensor:
    return ids.masked_fill(ids == IMAGE, -100)


OF_OTHERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt_neox": {},
    "bloom": {"n_layer": 2, "n_head": 2},  # positions are distances in the row
    "mamba": {},  # a state goes on along the row
    "lfm2": {"num_key_value_heads": 1, "layer_types": ["conv", "full_attention"]},
}


@pytest.mark.parametrize("family", OF_OTHERS)
def test_language_model_that_does_not_keep_packed_samples_apart_is_refused(family: str) -> None:
    from transformers import AutoConfig

    text = AutoConfig.for_model(family, **SHAPE, vocab_size=VOCABULARY, **OF_OTHERS[family])
    model = tiny_mof(mode="clip", text_config=text)
    if family in ("llama", "gpt_neox"):
        check_packing(model, "stage2")
        return
    with pytest.raises(ConfigError, match=rf"stage2\.packing: .* {family} see each other: set stage2.packing=false"):
        check_packing(model, "stage2")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_samples_do_not_see_each_other(attention: str) -> None:
    model = tiny_mof(mode="interleaved")
    model.set_attn_implementation(attention)
    model.train()
    samples = [question(model, seed=1), question(model, seed=2)]
    samples[1]["input_ids"] = torch.cat([samples[1]["input_ids"], torch.randint(5, VOCABULARY, (1, 5))], dim=1)
    separate = torch.cat([model(**one).logits for one in samples], dim=1)
    lengths = [one["input_ids"].shape[1] for one in samples]
    packed = {
        "input_ids": torch.cat([one["input_ids"] for one in samples], dim=1),
        "pixel_values": torch.cat([one["pixel_values"] for one in samples]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
    }
    torch.testing.assert_close(model(**packed).logits, separate, rtol=0, atol=1e-5)
    # What the model prevents: with a cache, or a mask of ones, the second sample sees the first.
    assert (model(**packed, use_cache=True).logits - separate).abs().max() > 0.1


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant: bool) -> None:
    model = tiny_mof(mode="interleaved").train()
    model.model.vision_tower.requires_grad_(False)
    inputs = question(model, images=2)
    inputs["labels"] = labels_of(inputs["input_ids"])
    plain = gradients(model, **inputs)
    model.enable_input_require_grads()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    again = gradients(model, **inputs)
    assert set(again) == set(plain)
    assert all(torch.equal(again[name], plain[name]) for name in plain)


def test_batch_of_texts_alone_runs_every_module_with_an_image_of_no_weight() -> None:
    model = tiny_mof(mode="interleaved").train()
    ids = torch.randint(5, VOCABULARY, (2, 12))
    plain = model(input_ids=ids, labels=ids).loss
    dummy = {"pixel_values": torch.zeros(1, 3, 32, 32)}
    assert torch.equal(model(input_ids=ids, labels=ids, **dummy).loss, plain)
    found = gradients(model, input_ids=ids, labels=ids, **dummy)
    for name in ("multi_modal_projector", "aux_projector"):
        values = [one for full, one in found.items() if name in full]
        assert len(values) == 4
        assert all(torch.equal(one, torch.zeros_like(one)) for one in values)  # not None, which DDP waits for
    with pytest.raises(ValueError, match="2 images take 64"):
        model(input_ids=ids, pixel_values=torch.zeros(2, 3, 32, 32))


def test_decoder_layers_compile_one_by_one() -> None:
    model = tiny_mof(mode="interleaved")
    inputs = question(model)
    plain = model(**inputs).logits
    for layer in model.model.language_model.layers:
        layer.compile(backend="eager", fullgraph=True)  # what the compiler would get, without the minutes it takes
    torch.testing.assert_close(model(**inputs).logits, plain, rtol=0, atol=1e-5)


def test_two_processes_train_what_one_does_with_towers_sharded_and_texts_alone_on_one_of_them() -> None:
    alone, shared = trained_alone(), trained_on_two_processes()
    assert set(alone) == set(shared)
    for name, one in alone.items():
        torch.testing.assert_close(shared[name], one, rtol=0, atol=1e-6, msg=name)
