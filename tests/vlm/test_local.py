"""A model on this machine answers as the library itself would, whatever else is in its batch."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_pictures import picture
from tiny_llava import save_llava

from blindpairs.errors import AssetMissing, BlindpairsError, ConfigError
from blindpairs.vlm import Ask, Failure, Reply, open_model
from blindpairs.vlm.local import LocalModel, load_local

ASKS = [
    Ask("long", (picture(1), "What is it, and what is behind it?"), max_tokens=12),
    Ask("short", (picture(2), "What?"), max_tokens=12),
    Ask("two", ("Image 1:", picture(1), "Image 2:", picture(2, 90, 30), "Same?"), max_tokens=12),
    Ask("text", ("Say a word.",), max_tokens=12),
    Ask("told", (picture(2), "What?"), "Be brief.", max_tokens=12),
    Ask("shorter", (picture(2), "What?"), max_tokens=3),
]


@pytest.fixture(scope="module")
def model(llava: Path) -> LocalModel:
    return load_local(f"hf:{llava}", str(llava))


@pytest.fixture
def copied(llava: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llava, tmp_path / "copied")


def texts(model: Any, asks: list[Ask]) -> dict[str, str]:
    return {one.key: one.text if isinstance(one, Reply) else one.code for one in model.ask(asks)}


def library(folder: Path, prompt: str, images: list[Any], tokens: int) -> str:
    """The plain way to ask, as the documentation of transformers shows it."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(text=prompt, images=images or None, return_tensors="pt")
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    generated = plain.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return str(processor.decode(generated[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def pixels(seed: int, *size: int) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(picture(seed, *size).data))


def test_answers_in_a_batch_are_those_of_the_library_alone(model: LocalModel, llava: Path) -> None:
    assert texts(model, ASKS) == {
        "long": library(llava, "USER: <image>What is it, and what is behind it? ASSISTANT:", [pixels(1)], 12),
        "short": library(llava, "USER: <image>What? ASSISTANT:", [pixels(2)], 12),
        "two": library(
            llava, "USER: Image 1:<image>Image 2:<image>Same? ASSISTANT:", [pixels(1), pixels(2, 90, 30)], 12
        ),
        "text": library(llava, "USER: Say a word. ASSISTANT:", [], 12),
        "told": library(llava, "SYSTEM: Be brief. USER: <image>What? ASSISTANT:", [pixels(2)], 12),
        "shorter": library(llava, "USER: <image>What? ASSISTANT:", [pixels(2)], 3),
    }


def test_reply_counts_its_own_tokens_without_padding(model: LocalModel) -> None:
    replies = {one.key: one for one in model.ask(ASKS[:3])}
    assert [(one.prompt_tokens, one.completion_tokens, one.finish) for one in replies.values()] == [  # type: ignore[union-attr]
        (len("USER: What is it, and what is behind it? ASSISTANT:") + 16, 12, "length"),
        (len("USER: What? ASSISTANT:") + 16, 12, "length"),
        (len("USER: Image 1:Image 2:Same? ASSISTANT:") + 32, 12, "length"),
    ]


def test_answer_ends_at_the_end_token(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = model.ask([ASKS[1]])
    assert isinstance(whole, Reply)
    loaded = model._loaded
    tokens = loaded.processor.tokenizer(whole.text)["input_ids"]
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", tokens[4])
    at = tokens.index(tokens[4])
    (ended, _) = sorted(model.ask([ASKS[1], ASKS[0]]), key=lambda one: one.key, reverse=True)
    assert isinstance(ended, Reply)
    assert (ended.text, ended.completion_tokens, ended.finish) == (whole.text[: at + 1], at + 1, "stop")


def test_control_tokens_in_a_question_are_text(model: LocalModel) -> None:
    (reply,) = model.ask([Ask("one", (picture(1), "Does it say <image> or </s>?"), max_tokens=5)])
    assert isinstance(reply, Reply)
    assert reply.prompt_tokens == len("USER: Does it say <image> or </s>? ASSISTANT:") + 16


def test_processor_without_a_chat_template_gets_a_plain_prompt(tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "plain", template=None)
    plain = open_model(f"hf:{folder}", work=tmp_path)
    asks = [replace(ASKS[2]), replace(ASKS[4])]
    two = "USER: Image 1:<image>\nImage 2:<image>\nSame? ASSISTANT:"
    assert texts(plain, asks) == {
        "two": library(folder, two, [pixels(1), pixels(2, 90, 30)], 12),
        "told": library(folder, "Be brief. USER: <image>\nWhat? ASSISTANT:", [pixels(2)], 12),
    }


def test_sampled_answer_is_the_same_again_and_in_another_batch(model: LocalModel) -> None:
    sampled = [replace(ask, temperature=1.5) for ask in ASKS[:2]]
    once = texts(model, sampled)
    assert texts(model, sampled[::-1]) == once
    assert texts(model, sampled[1:]) == {"short": once["short"]}
    assert once["short"] != texts(model, ASKS[1:2])["short"]


def test_image_that_cannot_be_used_is_a_failure_of_its_ask_alone(model: LocalModel) -> None:
    broken = Ask("broken", (replace(picture(1), data=b"<html>"), "What?"), max_tokens=12)
    outcomes = {one.key: one for one in model.ask([broken, ASKS[1]])}
    assert isinstance(outcomes["short"], Reply)
    assert isinstance(outcomes["broken"], Failure)
    assert outcomes["broken"].code == "bad_image"
    assert outcomes["broken"].message.startswith("an image of it cannot be used (not_image): ")


@pytest.fixture
def sizes(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches, of which more than two ask for too much memory."""
    seen: list[int] = []
    generate = model._loaded.model.generate

    def small(**inputs: Any) -> Any:
        seen.append(len(inputs["input_ids"]))
        if len(inputs["input_ids"]) > 2 or inputs["generation_config"].max_new_tokens == 11:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**inputs)

    monkeypatch.setattr(model._loaded.model, "generate", small)
    monkeypatch.setattr(model, "_batch", 8)
    return seen


def test_batch_that_does_not_fit_is_halved_and_stays_so(model: LocalModel, sizes: list[int]) -> None:
    asks = [Ask(str(number), (picture(number), "What?"), max_tokens=4) for number in range(10)]
    outcomes = list(model.ask(asks))
    assert sorted(one.key for one in outcomes if isinstance(one, Reply)) == sorted(ask.key for ask in asks)
    assert sizes == [8, 4, 2, 2, 2, 2, 2]


def test_question_that_does_not_fit_alone_is_a_failure(model: LocalModel, sizes: list[int]) -> None:
    (outcome,) = model.ask([replace(ASKS[1], max_tokens=11)])
    why = "one question with its images does not fit into the memory of the device"
    assert outcome == Failure("short", "out_of_memory", why)


def test_settings_tell_models_apart_and_know_no_folder(model: LocalModel, copied: Path, llava: Path) -> None:
    assert load_local(f"hf:{copied}", str(copied)).settings == model.settings
    assert str(llava) not in json.dumps(dict(model.settings))
    template = (copied / "chat_template.jinja").read_text()
    (copied / "chat_template.jinja").write_text(template + "\n")
    changed = load_local(f"hf:{copied}", str(copied)).settings
    assert {key for key in changed if changed[key] != model.settings[key]} == {"chat_template"}


def error_of(spec: str, work: Path = Path()) -> BlindpairsError:
    with pytest.raises(BlindpairsError) as raised:
        open_model(spec, work=work)
    return raised.value


def test_model_that_is_not_here_is_a_missing_asset() -> None:
    missing = error_of("hf:nobody/no-such-model")
    assert isinstance(missing, AssetMissing)
    assert "nobody/no-such-model is not in the local model cache" in str(missing)
    assert str(error_of("hf:/no/such/folder")) == "hf:/no/such/folder: there is no folder /no/such/folder"


def test_incomplete_folder_names_the_files_that_it_lacks(copied: Path) -> None:
    (copied / "config.json").unlink()
    (copied / "processor_config.json").unlink()
    missing = error_of(f"hf:{copied}")
    assert isinstance(missing, AssetMissing)
    assert str(missing) == (
        f"hf:{copied}: {copied} has no config.json, no preprocessor_config.json or processor_config.json; "
        "copy the whole folder of the model"
    )
    (copied / "model.safetensors").unlink()
    assert isinstance(error_of(f"hf:{copied}"), AssetMissing)


def test_checkpoint_that_lacks_tensors_is_refused(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copied / "model.safetensors")
    lost = next(name for name in sorted(tensors) if "multi_modal_projector" in name)
    del tensors[lost]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    refused = error_of(f"hf:{copied}")
    assert isinstance(refused, ConfigError)
    assert "lacks 1 tensors of this model, such as model.multi_modal_projector" in str(refused)


def test_folder_of_another_kind_of_model_is_refused(copied: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    small = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=101)
    LlamaForCausalLM(small).save_pretrained(copied)
    assert isinstance(error_of(f"hf:{copied}"), ConfigError)


def test_run_is_its_newest_checkpoint(llava: Path, tmp_path: Path) -> None:
    for step in (5, 10):
        shutil.copytree(llava, tmp_path / "runs" / "mof" / f"checkpoint-{step}")
    (tmp_path / "runs" / "mof" / "checkpoint-5" / "model.safetensors").write_bytes(b"never read")
    opened = open_model("run:mof", work=tmp_path)
    assert opened.name == "run:mof"
    assert texts(opened, ASKS[1:2]) == {"short": library(llava, "USER: <image>What? ASSISTANT:", [pixels(2)], 12)}


def test_code_in_a_folder_runs_for_our_own_runs_only(llava: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llava, tmp_path / "runs" / "mof" / "checkpoint-1")
    marker = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n"
        "from transformers import LlavaConfig, LlavaForConditionalGeneration\n"
        "class OwnConfig(LlavaConfig): pass\n"
        "class OwnModel(LlavaForConditionalGeneration):\n    config_class = OwnConfig\n"
    )
    _save_as_the_class_names_it(folder)
    config = json.loads((folder / "config.json").read_text())
    mapped = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForImageTextToText": "modeling_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": mapped}))
    without = texts(open_model(f"hf:{folder}", work=tmp_path), ASKS[1:2])
    assert not marker.exists()
    own = open_model("run:mof", work=tmp_path)
    assert marker.exists()
    assert own.settings["architecture"] == "OwnModel"
    assert texts(own, ASKS[1:2]) == without
    marker.unlink()
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": mapped, "model_type": "own"}))
    assert isinstance(error_of(f"hf:{folder}"), ConfigError)  # transformers cannot load it without that code
    assert not marker.exists()


def _save_as_the_class_names_it(folder: Path) -> None:
    """Under the names of the hub's older LLaVAs, a class of another name does not find its tensors."""
    from safetensors.torch import save_file
    from transformers import LlavaForConditionalGeneration

    tensors = LlavaForConditionalGeneration.from_pretrained(folder).state_dict()
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
