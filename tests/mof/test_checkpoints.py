"""A checkpoint holds everything under the names of the modules, and loads anywhere; nothing is random in silence."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_parity import randomised
from safetensors.torch import load_file, save_file
from tiny_mof import IMAGE, question, tiny_config, tiny_mof

from blindpairs.mof import modeling_mof_llava
from blindpairs.mof.modeling_mof_llava import MofLlavaForConditionalGeneration

RULES = {"pixel_mean": (0.4, 0.5, 0.6), "pixel_std": (0.3, 0.2, 0.1)}  # far from those of the second tower


def loaded(folder: Path, **options: Any) -> Any:
    model, report = MofLlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True, **options)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("mode", ["clip", "dino", "additive", "interleaved", "concat"])
def test_saved_model_comes_back_with_every_bit(mode: str, tmp_path: Path) -> None:
    model = tiny_mof(mode=mode, **RULES)
    for name, buffer in model.named_buffers():
        if name.endswith("mask_token"):
            buffer.normal_()  # it starts at zero, as what is not loaded would
    model.save_pretrained(tmp_path)
    again = loaded(tmp_path)
    inputs = question(model)
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    assert again.config.mode == mode
    kept = {name: tensor for name, tensor in again.state_dict().items() if "aux" in name}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in kept.items())


def test_loading_in_bfloat16_keeps_the_second_towers_pixels(tmp_path: Path) -> None:
    # Constants in a buffer came back as noise here, because models are built on no device; the logits were NaN.
    model = tiny_mof(mode="interleaved", **RULES)
    model.save_pretrained(tmp_path)
    half = loaded(tmp_path, dtype=torch.bfloat16)
    assert {one.dtype for one in half.parameters()} == {torch.bfloat16}
    pixels = question(model)["pixel_values"]
    for exact, rounded in zip(model.encode(pixels), half.encode(pixels.bfloat16()), strict=True):
        similar = torch.nn.functional.cosine_similarity(exact, rounded.float(), dim=-1)
        assert similar.min() > 0.999
    inputs = question(model)
    logits = half(input_ids=inputs["input_ids"], pixel_values=pixels.bfloat16()).logits
    assert torch.isfinite(logits).all()
    assert (logits.float() - model(**inputs).logits).abs().mean() < 0.1 * model(**inputs).logits.std()
    unsaved = {name for name, _ in model.named_buffers()} - set(model.state_dict())
    assert all(name.startswith(("model.vision_tower.", "model.language_model.")) for name in unsaved)  # none is ours


def test_file_has_the_names_of_the_modules_so_that_a_resumed_training_finds_all(tmp_path: Path) -> None:
    model = tiny_mof(mode="interleaved")
    given = model.state_dict()
    names = set(given)
    model.save_pretrained(tmp_path, state_dict=given)
    assert set(given) == names  # transformers empties what it is given
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) == names
    fresh = MofLlavaForConditionalGeneration(model.config).eval()
    fresh.load_state_dict(stored)  # strict, as the Trainer's is not
    inputs = question(model)
    assert torch.equal(fresh(**inputs).logits, model(**inputs).logits)


def test_llava_checkpoint_gives_all_but_the_second_tower_and_its_projector(tmp_path: Path) -> None:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = tiny_config(mode="interleaved")
    whole = LlavaConfig(
        vision_config=config.vision_config, text_config=config.text_config, image_token_index=IMAGE, pad_token_id=0
    )
    theirs = randomised(LlavaForConditionalGeneration(whole))
    theirs.save_pretrained(tmp_path)  # under LLaVA's old names, language_model.model.* among them
    stored = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("language_model.model.") for name in stored)
    on_hub = {name.replace("vision_tower.", "vision_tower.vision_model."): one for name, one in stored.items()}
    save_file(on_hub, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours, report = MofLlavaForConditionalGeneration.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert report["missing_keys"]
    assert all(name.startswith(("model.aux_tower.", "model.aux_projector.")) for name in report["missing_keys"])
    assert not report["unexpected_keys"]
    kept = set(theirs.state_dict()) & set(ours.state_dict())
    assert any(name.startswith("model.language_model.layers.1.") for name in kept)
    assert all(torch.equal(ours.state_dict()[name], theirs.state_dict()[name]) for name in kept)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "opt"])
def test_tied_head_stays_tied_whatever_the_language_model_calls_its_table(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100}
    extra: dict[str, dict[str, int]] = {
        "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64},
        "qwen3": {"intermediate_size": 64, "head_dim": 16, "num_key_value_heads": 2},
    }
    text = AutoConfig.for_model(family, **sizes, **extra.get(family, {}), tie_word_embeddings=True)
    model = tiny_mof(mode="clip", text_config=text)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    again = loaded(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight
    inputs = question(model)
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


FRESH = """
import sys, torch
from transformers import AutoModelForImageTextToText
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
inputs = torch.load(sys.argv[2])
torch.save(model.eval()(**inputs).logits, sys.argv[3])
assert not any(name.startswith("blindpairs") for name in sys.modules)
"""


def test_fresh_process_without_this_package_loads_the_folder_by_its_own_code(tmp_path: Path) -> None:
    model = tiny_mof(mode="interleaved", **RULES)
    model.save_pretrained(tmp_path / "run")
    torch.save(question(model), tmp_path / "inputs")
    arguments = [str(tmp_path / name) for name in ("run", "inputs", "logits")]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-c", FRESH, *arguments], check=True, env=environment, cwd=tmp_path)
    assert torch.equal(torch.load(tmp_path / "logits"), model(**question(model)).logits)


def test_modelling_file_needs_nothing_but_torch_and_transformers() -> None:
    source = Path(str(modeling_mof_llava.__file__)).read_text(encoding="utf-8")
    tree = ast.parse(source)
    named = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names]
    # `from __future__ import annotations` would hide the class of the configuration from AutoModel.register.
    assert {str(name).partition(".")[0] for name in named} == {"inspect", "typing", "torch", "transformers"}
    transformers = pytest.importorskip("transformers")
    transformers.AutoConfig.register("mof_llava", modeling_mof_llava.MofLlavaConfig, exist_ok=True)
    transformers.AutoModelForImageTextToText.register(
        modeling_mof_llava.MofLlavaConfig, MofLlavaForConditionalGeneration, exist_ok=True
    )


def test_lora_adapters_come_back_and_merge_into_a_model_that_needs_no_peft(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    model = tiny_mof(mode="interleaved")
    inputs = question(model)
    before = model(**inputs).logits
    model.save_pretrained(tmp_path / "base")
    adapted: Any = get_peft_model(
        model,
        LoraConfig(
            r=4,
            target_modules=r"model\.language_model\..*(q_proj|v_proj|up_proj)",
            modules_to_save=["multi_modal_projector", "aux_projector"],
            init_lora_weights=False,
        ),
    )
    randomised(adapted.base_model.model.model.aux_projector)
    trained = adapted(**inputs).logits
    assert not torch.allclose(trained, before, atol=0.1)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    again = PeftModel.from_pretrained(loaded(tmp_path / "base"), str(tmp_path / "adapter")).eval()
    assert torch.equal(again(**inputs).logits, trained)
    merged = again.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits, trained, rtol=0, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    assert torch.equal(loaded(tmp_path / "merged")(**inputs).logits, merged(**inputs).logits)
