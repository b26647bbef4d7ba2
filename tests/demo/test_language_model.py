"""The demo's language model: its tokenizer, its initial heads, its texts, and that training it teaches something."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nasty_texts import NASTY
from transformers import AutoModelForCausalLM, AutoTokenizer

from blindpairs.demo.exchanges import ASKING, choice, presence
from blindpairs.demo.language_model import (
    LanguageRecipe,
    build_model,
    build_tokenizer,
    encoded_document,
    train_language_model,
)
from blindpairs.demo.texts import Document, document, drill, told
from blindpairs.demo.world import ATTRIBUTES, random_scene
from blindpairs.mof.templates import IGNORE
from blindpairs.workspace import demo_folder

TINY = LanguageRecipe(steps=24, batch=4, evaluations=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    train_language_model(folder, TINY)
    return folder / "lm"


@pytest.mark.parametrize("text", [text for name, text in NASTY.items() if name != "surrogate"])  # that one is no text
def test_every_text_can_be_written(trained: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_saved_tokenizer_cuts_texts_as_in_training(trained: Path) -> None:
    ours, saved = build_tokenizer(TINY), AutoTokenizer.from_pretrained(trained)
    assert len(saved) == len(ours) == TINY.vocabulary
    rng = np.random.default_rng(0)
    for _ in range(50):
        for one in document(rng).exchanges:
            assert saved(one.question)["input_ids"] == ours(one.question)["input_ids"]


def test_the_template_gives_the_ids_that_are_trained_on(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    text = document(np.random.default_rng(4))
    ids, labels = encoded_document(text, tokenizer)
    messages = []
    for number, one in enumerate(text.exchanges):
        asked = f"{text.told}\n{one.question}" if number == 0 else one.question
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": one.answer}]
    found = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert found["input_ids"] == ids
    assert found["assistant_masks"] == [int(label != IGNORE) for label in labels]


def test_an_option_is_one_token() -> None:
    tokenizer = build_tokenizer(TINY)
    asked = ASKING.template.format(question="Which way does the cat face?", first="left", second="right")
    assert [tokenizer.decode([one]) for one in tokenizer(asked)["input_ids"]][-3:] == [
        "\n(a) left",
        "\n(b) right",
        "\nAnswer with the letter of the right option only.",
    ]


def test_half_of_the_first_heads_start_out_looking_at_the_token_before() -> None:
    model = build_model(build_tokenizer(TINY), 0)
    model.set_attn_implementation("eager")
    ids = torch.randint(6, TINY.vocabulary, (2, 40), generator=torch.Generator().manual_seed(1))
    attention = model(ids, output_attentions=True).attentions[0]  # (B, heads, S, S)
    before = attention.diagonal(-1, 2, 3).mean(dim=(0, 2))  # (heads,)
    assert before[:2].min() > 0.5
    assert before[2:].max() < 0.2


def test_training_lowers_the_loss_and_its_log_says_so(trained: Path) -> None:
    log = [json.loads(line) for line in (trained / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in log] == [8, 16, 24]
    assert log[-1]["answers"] < 0.8 * log[0]["answers"]
    assert json.loads((trained / "training.json").read_text(encoding="utf-8"))["steps"] == 24


def test_the_same_recipe_gives_the_same_weights(trained: Path, tmp_path: Path) -> None:
    train_language_model(tmp_path, TINY)
    assert (tmp_path / "lm" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_a_drill_asks_for_what_it_told() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert len(drill(rng, 1, 5).exchanges) == 5
        assert len({one.about for one in drill(rng, 1, 5).exchanges}) == 1


def test_what_is_written_loads_as_a_causal_model(trained: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert sum(path.stat().st_size for path in trained.iterdir()) < 3e6


def test_the_model_that_ships_reads_letters_but_cannot_compare_what_is_asked_with_what_is_told() -> None:
    tokenizer = AutoTokenizer.from_pretrained(demo_folder() / "lm")
    model = AutoModelForCausalLM.from_pretrained(demo_folder() / "lm")
    rng = np.random.default_rng(7)
    right: dict[str, list[bool]] = {"choice": [], "presence": []}
    for _ in range(100):
        scene = random_scene(rng)
        kept = [ATTRIBUTES[number] for number in rng.choice(len(ATTRIBUTES), size=2, replace=False)]
        for name, asked in (("choice", choice(scene, kept[0], rng)), ("presence", presence(scene, rng))):
            ids, labels = encoded_document(Document(told(scene, kept, rng), (asked,)), tokenizer)
            first = next(at for at, label in enumerate(labels) if label != IGNORE)
            with torch.no_grad():
                said = int(model(input_ids=torch.tensor([ids[:first]])).logits[0, -1].argmax())
            right[name].append(said == ids[first])
    assert np.mean(right["choice"]) > 0.8
    assert 0.35 < np.mean(right["presence"]) < 0.65  # why models trained on it are at chance on POPE, see the README
