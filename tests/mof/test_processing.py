"""The processor gives the model its pixels and as many places as they fill, in the prompt of its language model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_parity import generated
from PIL import Image
from tiny_llava import character_tokenizer
from tiny_mof import demo_mof, save_language_model

from blindpairs.errors import ConfigError
from blindpairs.mof.building import load_mof, save_mof
from blindpairs.mof.processing import chat_template, load_tokenizer

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("language-model"))


def turn(role: str, *parts: str) -> dict[str, Any]:
    """A message of texts, and of an image where a part is `IMAGE`."""
    content = [{"type": "image"} if part == "IMAGE" else {"type": "text", "text": part} for part in parts]
    return {"role": role, "content": content}


def rendered(template: str, messages: list[dict[str, Any]], **options: Any) -> str:
    tokenizer = character_tokenizer()
    return str(tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options))


def test_language_model_without_a_template_gets_the_prompt_of_llava_1_5() -> None:
    template = chat_template(character_tokenizer())
    turns = [turn("user", "IMAGE", "What is it?"), turn("assistant", "A dog."), turn("user", "Which?")]
    asked = f"{SYSTEM} USER: <image>\nWhat is it? ASSISTANT: A dog.</s>USER: Which? ASSISTANT:"
    assert rendered(template, turns, add_generation_prompt=True) == asked
    plain = [{"role": "user", "content": "<image>\nWhat is it?"}, {"role": "assistant", "content": "A dog."}, turns[2]]
    assert rendered(template, plain, add_generation_prompt=True) == asked
    assert rendered(template, [turn("system", "Be brief."), turns[0]]) == "Be brief. USER: <image>\nWhat is it? "
    two = [turn("user", "Image 1:", "IMAGE", "Image 2:", "IMAGE", "Same?")]
    assert rendered(template, two).endswith("USER: Image 1:<image>\nImage 2:<image>\nSame? ")


def test_what_is_learned_is_the_answer_and_its_end_token() -> None:
    tokenizer = character_tokenizer()
    turns = [turn("user", "IMAGE", "Is it?"), turn("assistant", "Yes."), turn("user", "It?"), turn("assistant", "No.")]
    found = tokenizer.apply_chat_template(
        turns,
        chat_template=chat_template(tokenizer),
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    learned = [token for token, kept in zip(found["input_ids"], found["assistant_masks"], strict=True) if kept]
    assert tokenizer.decode(learned) == " Yes.</s> No.</s>"


def test_template_of_a_language_model_takes_images_and_says_the_rest_as_it_did() -> None:
    own = """{% for message in messages %}<s>{{ message.role }}\n{{ message['content'] | trim }}</s>
{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}"""
    tokenizer = character_tokenizer()
    tokenizer.chat_template = own
    template = chat_template(tokenizer)
    texts = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "<image>\nWhat? "}]
    expected = rendered(own, texts, add_generation_prompt=True)
    assert rendered(template, texts, add_generation_prompt=True) == expected
    parts = [turn("system", "Brief."), turn("user", "IMAGE", "What? ")]
    assert rendered(template, parts, add_generation_prompt=True) == expected
    tokenizer.chat_template = "{{ 'has a place for an image' }}"
    assert chat_template(tokenizer) == tokenizer.chat_template


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|reserved_special_token_0|>"])
def test_token_that_a_vocabulary_reserves_becomes_the_image_token(token: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<unk>", "</s>", token, "a"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.image_token, tokenizer.image_token_id, len(tokenizer)) == (token, 2, 4)
    assert tokenizer.pad_token == "<unk>"
    assert chat_template(tokenizer).count(token) == 1


def test_tokenizer_that_has_nothing_to_pad_with_is_refused(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=character_tokenizer().backend_tokenizer)
    bare.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="the tokenizer has no token to pad with: give it a pad_token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("mode", ["clip", "dino", "additive", "interleaved", "concat"])
def test_processor_makes_the_places_that_the_model_fills(mode: str, language_model: Path, tmp_path: Path) -> None:
    model, processor = demo_mof(language_model, mode=mode)
    save_mof(model, processor, tmp_path)
    model, processor = load_mof(tmp_path)
    image = generated(50, 80)
    messages = [turn("user", "IMAGE", "What?")]
    messages[0]["content"][0]["image"] = image
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs = processor.apply_chat_template(messages, **options)
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == model.image_tokens
    counted = processor._get_num_multimodal_tokens(image_sizes=[(50, 80)])  # as servers count
    assert counted["num_image_tokens"] == [model.image_tokens]
    answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 3


def test_image_is_padded_to_a_square_in_the_mean_colour_or_its_centre_is_cut_out(language_model: Path) -> None:
    _, processor = demo_mof(language_model, resolution=32)
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, 20:60] = 255
    image = Image.fromarray(stripes)
    padded = processor.image_processor(image, return_tensors="pt")["pixel_values"]  # (1, 3, 32, 32)
    assert padded.shape == (1, 3, 32, 32)
    mean = (int(0.5 * 255) / 255 - 0.5) / 0.25
    torch.testing.assert_close(padded[0, :, :6], torch.full((3, 6, 32), mean), rtol=0, atol=1e-2)
    assert padded[0, 0, 16].tolist()[0] == pytest.approx(-2, abs=0.01)
    processor.image_processor.do_pad = False
    cut = processor.image_processor(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(cut[..., 4:-4], torch.full((1, 3, 32, 24), 2.0), atol=0.01)
