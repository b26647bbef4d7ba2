"""A vision-language model on this machine, run by transformers.

Promises: a tensor that the checkpoint lacks is an error; text in a question is never read as one of the model's control
tokens; a batch that does not fit is halved, and its answers do not depend on what else is in the batch beyond rounding.
"""

import copy
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch

from blindpairs.encoders.encoder import choose_device
from blindpairs.encoders.weights import hub_folder, loading, quiet, refuse_missing, state_hash
from blindpairs.errors import AssetMissing, ConfigError, Undecodable
from blindpairs.images.decode import decode
from blindpairs.vlm.asking import Ask, Failure, Keep, Part, Reply, keep_nothing
from blindpairs.vlm.runs import missing_weights
from blindpairs.workspace import digest

# A processor has one file of each of these kinds.
PROCESSOR_FILES = (
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "tokenizer.model", "vocab.json"),
)
CONFIG_FILES = ("config.json", "*.json", "*.jinja", "*.model", "*.txt")
# What LLaVA-1.5 was trained with, for processors that have no chat template (Jinja; transformers renders it).
PLAIN_TEMPLATE = """\
{%- for message in messages %}
{%- if message.role != 'system' %}{{ message.role | upper }}: {% endif %}
{%- for part in message.content %}
{%- if part.type == 'image' %}IMAGE_TOKEN{{ '\\n' }}{% else %}{{ part.text }}{% endif %}
{%- endfor %}
{{- ' ' }}
{%- endfor %}
{%- if add_generation_prompt %}ASSISTANT:{% endif %}"""


@dataclass(frozen=True)
class _Loaded:
    """A model with its processor, on a device."""

    model: Any
    processor: Any
    device: torch.device
    dtype: torch.dtype
    template: str | None  # None: the processor's own


class LocalModel:
    """Asks a model of a local folder or a hub repository."""

    def __init__(self, name: str, loaded: _Loaded, batch: int = 8) -> None:
        self._name = name
        self._loaded = loaded
        self._batch = batch  # asks at once; only ever halved
        self._settings = _settings(loaded)

    @property
    def name(self) -> str:
        """The spec."""
        return self._name

    @property
    def settings(self) -> Mapping[str, Any]:
        """Hashes of weights, image processing and prompt, and the precision."""
        return self._settings

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
        """One outcome per ask, a batch at a time."""
        feed = iter(asks)
        while drawn := list(islice(feed, self._batch)):
            # Asks of one forward pass have the same number of images, and are generated in the same way.
            for _, alike in groupby(sorted(drawn, key=_batch_key), key=_batch_key):
                for outcome in self._outcomes(list(alike)):
                    if isinstance(outcome, Reply):
                        keep(outcome)
                    yield outcome

    def _outcomes(self, asks: list[Ask]) -> Iterator[Reply | Failure]:
        """The outcomes of asks of one kind."""
        conversations: list[tuple[Ask, list[dict[str, Any]]]] = []
        for ask in asks:
            try:
                conversations.append((ask, _conversation(ask)))
            except Undecodable as error:
                yield Failure(ask.key, "bad_image", f"an image of it cannot be used ({error.code}): {error.message}")
        while conversations:
            # A sampled answer must not depend on its neighbours, so it is generated alone.
            size = 1 if conversations[0][0].temperature > 0 else self._batch
            batch, conversations = conversations[:size], conversations[size:]
            outcomes = self._generated(batch)
            if outcomes is not None:
                yield from outcomes
            elif len(batch) > 1:
                self._batch = max(1, len(batch) // 2)
                conversations = batch + conversations
            else:
                yield _too_large(batch[0][0])

    def _generated(self, batch: list[tuple[Ask, list[dict[str, Any]]]]) -> list[Reply | Failure] | None:
        """The outcomes of one forward pass; None where the memory does not suffice."""
        started, generated, why = time.monotonic(), None, ""
        try:
            generated = self._tokens([conversation for _, conversation in batch], batch[0][0])
        except torch.OutOfMemoryError:
            pass
        except (ValueError, IndexError, RuntimeError) as error:  # what libraries say to a prompt that is too long
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if generated is not None:
            seconds = (time.monotonic() - started) / len(batch)
            counted = zip(batch, *generated, strict=True)
            return [self._outcome(ask, prompt, answer, seconds) for (ask, _), prompt, answer in counted]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # after the except blocks, which keep the tensors of the failed pass alive
        if why and len(batch) == 1:
            return [Failure(batch[0][0].key, "bad_request", f"the model cannot take this question ({why})")]
        if why:  # one ask of the batch is to blame: each is generated alone
            return [outcome for one in batch for outcome in self._generated([one]) or [_too_large(one[0])]]
        return None

    @torch.inference_mode()
    def _tokens(self, conversations: list[list[dict[str, Any]]], ask: Ask) -> tuple[list[int], list[list[int]]]:
        """Lengths of the prompts (B), and the generated tokens of each (B, up to max_tokens), without padding."""
        loaded = self._loaded
        inputs = loaded.processor.apply_chat_template(
            conversations,
            chat_template=loaded.template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
            processor_kwargs={"padding": len(conversations) > 1},
        ).to(loaded.device, dtype=loaded.dtype)
        config = copy.deepcopy(loaded.model.generation_config)
        sampled = ask.temperature > 0
        config.update(do_sample=sampled, max_new_tokens=ask.max_tokens, max_length=None)
        config.update(temperature=ask.temperature if sampled else None)
        config.pad_token_id = loaded.processor.tokenizer.pad_token_id
        if sampled:
            torch.manual_seed(_seed(ask))
        else:
            config.update(top_k=None, top_p=None, min_p=None)  # each would give a warning
        output = loaded.model.generate(**inputs, generation_config=config)  # (B, prompt + generated)
        generated = output[:, inputs["input_ids"].shape[1] :].tolist()
        lengths = inputs["attention_mask"].sum(dim=1).tolist()  # (B,), without the padding on the left
        ends = _end_tokens(config)
        return lengths, [_up_to_end(one, ends) for one in generated]

    def _outcome(self, ask: Ask, prompt: int, answer: list[int], seconds: float) -> Reply | Failure:
        text = str(self._loaded.processor.tokenizer.decode(answer, skip_special_tokens=True))
        finish = "stop" if answer and answer[-1] in _end_tokens(self._loaded.model.generation_config) else "length"
        if not text.strip():
            return Failure(ask.key, "empty", "the model said nothing")
        return Reply(ask.key, text, seconds, prompt, len(answer), finish)


def load_local(spec: str, target: str, *, device: str = "auto", trust_remote_code: bool = False) -> LocalModel:
    """Load a folder or hub repository. `trust_remote_code` runs Python code in it: for our own runs only.

    AssetMissing names the files that are not there; ConfigError for weights that do not fit the model.
    """
    import transformers

    folder = hub_folder(spec, target, CONFIG_FILES)
    if absent := missing_weights(folder) + _missing_processor(folder):
        raise AssetMissing(f"{spec}: {folder} has no {', no '.join(absent)}; copy the whole folder of the model")
    chosen = torch.device(choose_device(device))
    dtype = torch.bfloat16 if chosen.type == "cuda" else torch.float32
    with loading(spec, folder), quiet():
        processor = transformers.AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)
        model, report = transformers.AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    refuse_missing(spec, folder, sorted(report["missing_keys"]))
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise ConfigError(f"{spec}: {folder} has no processor for texts and images together, which asking needs")
    processor.tokenizer.padding_side = "left"  # generation continues at the right end of every prompt
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    # A template of the tokenizer alone comes from the language model, and has no place for images.
    plain = PLAIN_TEMPLATE.replace("IMAGE_TOKEN", getattr(processor, "image_token", "<image>"))
    template = None if processor.chat_template else plain
    return LocalModel(spec, _Loaded(model.requires_grad_(False).eval().to(chosen), processor, chosen, dtype, template))


def _missing_processor(folder: Path) -> list[str]:
    return [" or ".join(kind) for kind in PROCESSOR_FILES if not any((folder / name).is_file() for name in kind)]


def _settings(loaded: _Loaded) -> dict[str, Any]:
    generation = loaded.model.generation_config.to_diff_dict()
    image_processor = {key: str(value) for key, value in loaded.processor.image_processor.to_dict().items()}
    return {
        "kind": "hf",
        "architecture": type(loaded.model).__name__,
        "weights": state_hash(loaded.model),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "image_processor": digest(image_processor),
        "chat_template": digest(loaded.template or loaded.processor.chat_template),
        # Without the version of transformers, which is in it whatever it decides.
        "generation": digest({key: value for key, value in generation.items() if key != "transformers_version"}),
    }


def _too_large(ask: Ask) -> Failure:
    return Failure(ask.key, "out_of_memory", "one question with its images does not fit into the memory of the device")


def _batch_key(ask: Ask) -> tuple[int, int, float]:
    """What the asks of one forward pass have in common."""
    return len(ask.pictures), ask.max_tokens, ask.temperature


def _conversation(ask: Ask) -> list[dict[str, Any]]:
    """The messages of a chat template, with decoded images; raises Undecodable."""
    system = [{"role": "system", "content": [{"type": "text", "text": ask.system}]}] if ask.system else []
    return [*system, {"role": "user", "content": [_content(part) for part in ask.parts]}]


def _content(part: Part) -> dict[str, Any]:
    from PIL import Image

    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image", "image": Image.fromarray(decode(part.data).pixels)}


def _seed(ask: Ask) -> int:
    """The same for the same question, so that a sampled answer can be repeated."""
    content = [part if isinstance(part, str) else hashlib.sha256(part.data).hexdigest() for part in ask.parts]
    return int(digest([ask.system, content])[:15], 16)


def _end_tokens(config: Any) -> list[int]:
    ends = config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def _up_to_end(tokens: list[int], ends: list[int]) -> list[int]:
    """Without the padding after the first end token."""
    at = next((place for place, token in enumerate(tokens) if token in ends), None)
    return tokens if at is None else tokens[: at + 1]
