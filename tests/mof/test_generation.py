"""A trained model can be saved whatever its language model's settings are, and ends its answers as it was taught to."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_run import run_small, small_recipe
from tiny_mof import demo_mof, save_language_model
from trained_tokenizers import HEADERS, INSTRUCTIONS, THOUGHTS, byte_level, llama_like, qwen_like

from blindpairs.errors import ConfigError
from blindpairs.mof.building import save_mof
from blindpairs.mof.recipe import with_setting
from blindpairs.mof.run import Run
from blindpairs.mof.templates import TurnTokenizer

# As in generation_config.json of Vicuna 1.5, which transformers reads with a warning and refuses to write.
VICUNA = {"bos_token_id": 1, "eos_token_id": 2, "max_length": 4096, "pad_token_id": 0, "temperature": 0.9, "top_p": 0.6}


def language_model(folder: Path, settings: dict[str, Any]) -> Path:
    save_language_model(folder)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("settings", [VICUNA, {"pad_token_id": -1}, {"length_penalty": 0.5, "early_stopping": True}])
def test_settings_that_could_not_be_saved_are_left_out(settings: dict[str, Any], tmp_path: Path) -> None:
    model, processor = demo_mof(language_model(tmp_path / "lm", settings), mode="clip")
    save_mof(model, processor, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert saved["suppress_tokens"] == [processor.tokenizer.image_token_id]
    assert saved["pad_token_id"] == processor.tokenizer.pad_token_id
    assert not {"temperature", "top_p", "length_penalty", "early_stopping"} & saved.keys()


def test_settings_of_sampling_stay_with_sampling(tmp_path: Path) -> None:
    model, processor = demo_mof(language_model(tmp_path / "lm", VICUNA | {"do_sample": True}), mode="clip")
    save_mof(model, processor, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (saved["temperature"], saved["top_p"], saved["eos_token_id"]) == (0.9, 0.6, 2)


def test_settings_that_mean_nothing_are_refused_before_training(tmp_path: Path) -> None:
    folder = language_model(tmp_path, {"output_scores": True})
    with pytest.raises(ConfigError, match=r"(?s)generation_config\.json cannot be: .*`output_scores`"):
        demo_mof(folder, mode="clip")


@pytest.mark.parametrize(
    ("tokenizer", "template", "end"),
    [
        (llama_like(), "vicuna_v1", "</s>"),
        (llama_like(template=INSTRUCTIONS), "chat", "</s>"),
        (qwen_like(tags=True), "chat", "<|im_end|>"),
        (qwen_like(tags=False), "chat", "<|im_end|>"),
        (byte_level(HEADERS), "chat", "<|im_end|>"),
        (byte_level(THOUGHTS), "chat", "<|im_end|>"),
    ],
)
def test_end_of_an_answer_is_the_token_that_the_template_writes_after_it(
    tokenizer: Any, template: Any, end: str
) -> None:
    assert TurnTokenizer(tokenizer, template).ends() == [tokenizer.convert_tokens_to_ids(end)]


def test_caption_has_no_end() -> None:
    assert TurnTokenizer(qwen_like(tags=False), "plain").ends() == []


def test_model_stops_where_its_template_ends_an_answer_and_where_its_language_model_did(tmp_path: Path) -> None:
    # Language models before their instruction tuning have a chat template, and stop at the end of a document alone.
    recipe = small_recipe(tmp_path)
    settings = tmp_path / "lm" / "generation_config.json"
    settings.write_text(json.dumps({"eos_token_id": 3}))
    for name in ("stage1.steps=1", "stage2.steps=1"):
        recipe = with_setting(recipe, *name.split("="))
    run_small(tmp_path, recipe)
    model = Run(tmp_path / "runs" / "run").model()
    assert model is not None
    assert json.loads((model / "generation_config.json").read_text())["eos_token_id"] == [2, 3]
