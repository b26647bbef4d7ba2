"""Towers and a language model become one model, which a fresh process loads; everything else is refused in words."""

from pathlib import Path

import pytest
import torch
from tiny_mof import demo_mof, question, save_language_model

from blindpairs.mof.building import load_mof, parts, save_mof


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("language-model"))


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
