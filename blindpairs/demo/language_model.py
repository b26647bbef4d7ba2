"""Trains the demo's language model, which reads and writes the language of the demo's world and nothing else.

A Llama of four layers, with biases in its attention, in the formats of transformers: `AutoModelForCausalLM` and
`AutoTokenizer` load what is written. The tokenizer is byte-level, so every text can be written; the phrases of the
demo, its options among them, are a token or two each, which makes conversations short.

Two things let so small a model learn to look things up within minutes. The two projections of a head that are compared
start out equal, so that it attends to equal tokens (after "Mimetic Initialization of Self-Attention Layers", Trockman
and Kolter, arXiv 2305.09828); and half of the first layer's heads start out attending to the token before, by their
biases. Both are only initial values.

Whether a category is there at all, as POPE asks, it answers at random even of a scene told in words: to compare what is
asked with what is told is learned alone within 300 steps, but not beside the rest within 3,000. Drills that only
compared at first gave models of images that were right about all of POPE, with 7 and 9 % of blind pairs for 42 (one
seed, both towers interleaved): letters of options were learned too late. So POPE stays as it is.

`python -m blindpairs.demo lm FOLDER` makes what ships, with its log beside it.
"""

import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from blindpairs.demo.corpus import SEED
from blindpairs.demo.texts import Document, document, drill, vocabulary_texts
from blindpairs.mof.templates import IGNORE
from blindpairs.progress import Progress, silent
from blindpairs.workspace import write_text

TEXTS_SEED = SEED + 40
PAD, BEGIN, END, USER, ASSISTANT, IMAGE = SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<image>")
WIDTH, HEADS = 128, 4
ROPE_THETA = 10000.0
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}"
    "{{ '<|assistant|>' }}{%- generation -%}{{ ' ' ~ message.content ~ '</s>' }}{%- endgeneration -%}"
    "{%- else -%}{{ '<|user|>' ~ message.content }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
# An option or an instruction with the break before it; else what stands between commas, periods and breaks.
_PIECES = r"\n(?:\([a-z]\)|Answer)[^\n]*|\n|[,.]?[^\n,.]+|[,.]"


@dataclass(frozen=True)
class LanguageRecipe:
    """How to train. The defaults are those of the model that ships."""

    seed: int = TEXTS_SEED
    vocabulary: int = 960
    steps: int = 2000
    batch: int = 16  # documents
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    questions_weight: float = 0.1  # of the loss on what is told and asked, beside that on answers
    drilled: float = 0.6  # share of the steps after which few documents are drills
    evaluations: int = 40


def build_tokenizer(recipe: LanguageRecipe) -> Any:
    """The tokenizer as transformers has it, with its chat template."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(vocabulary_texts(400, np.random.default_rng([recipe.seed, 1])), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )


def build_model(tokenizer: Any, seed: int) -> Any:
    """An untrained `LlamaForCausalLM`."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=208,
        num_hidden_layers=4,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        attention_bias=True,  # see _look_back. Not a Qwen2: AutoTokenizer would give it Qwen2's way to cut texts
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.06,  # the default, 0.02, is for a thousand dimensions
        rope_theta=ROPE_THETA,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = transformers.LlamaForCausalLM(config)
    for number, layer in enumerate(model.model.layers):
        _look_alike(layer.self_attn)
        if number == 0:
            _look_back(layer.self_attn, HEADS // 2)
    return model


@torch.no_grad()
def _look_alike(attention: Any) -> None:
    """Equal queries and keys: a token attends to tokens equal to it."""
    both = torch.randn(WIDTH, WIDTH) * 0.08
    attention.q_proj.weight.copy_(both)
    attention.k_proj.weight.copy_(both)


@torch.no_grad()
def _look_back(attention: Any, heads: int) -> None:
    """The first `heads` heads attend to the token before: their biases differ by the rotation of one position."""
    size = WIDTH // HEADS
    angles = ROPE_THETA ** (-torch.arange(size // 2) / (size // 2))  # of one position, by pair of dimensions
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight[rows] *= 0.2
        attention.q_proj.bias[rows] = 4.0 * torch.cat([torch.ones_like(angles), torch.zeros_like(angles)])
        attention.k_proj.bias[rows] = 4.0 * torch.cat([angles.cos(), angles.sin()])


def encoded_document(text: Document, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids and labels: a telling stands where an image would, on a line of its own; answers are learned."""
    user, assistant, end = (tokenizer.convert_tokens_to_ids(name) for name in (USER, ASSISTANT, END))
    ids: list[int] = []
    labels: list[int] = []
    for number, one in enumerate(text.exchanges):
        asked = f"{text.told}\n{one.question}" if number == 0 else one.question
        before = [user, *_ids(tokenizer, asked), assistant]
        after = [*_ids(tokenizer, f" {one.answer}"), end]
        ids += before + after
        labels += [IGNORE] * len(before) + after
    return ids, labels


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _batch(recipe: LanguageRecipe, step: int, tokenizer: Any, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(ids, labels), each (B, S), padded at the right. Drills grow longer, and then most texts are documents."""
    share = min(1.0, step / (recipe.drilled * recipe.steps))
    drills = round(recipe.batch * (0.85 if share < 1 else 0.25))
    most = 2 + round(5 * max(0.0, 2 * share - 1))
    texts = [drill(rng, most, 10) if number < drills else document(rng) for number in range(recipe.batch)]
    rows = [encoded_document(text, tokenizer) for text in texts]
    ids, labels = (
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row[at]) for row in rows],
            batch_first=True,
            padding_value=(tokenizer.pad_token_id, IGNORE)[at],
        )
        for at in (0, 1)
    )
    return ids, labels


@dataclass(frozen=True)
class _Told:
    """What a step's batch gave: losses, and the share of right letters, of other first tokens, and of second letters.

    `options` counts letters that follow the option that they belong to.
    """

    answers: float
    questions: float
    letters: float
    words: float
    options: float


def _step(model: Any, batch: tuple[Tensor, Tensor], tokenizer: Any, recipe: LanguageRecipe) -> _Told:
    """Backward of one batch."""
    ids, labels = batch
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (B, S - 1, D)
    following, wanted = ids[:, 1:], labels[:, 1:]
    learned = wanted != IGNORE
    rest = (following != tokenizer.pad_token_id) & ~learned
    logits, target = model.lm_head(hidden[learned]), wanted[learned]
    cross_entropy = torch.nn.functional.cross_entropy
    answers = cross_entropy(logits, target)
    questions = cross_entropy(model.lm_head(hidden[rest]), following[rest])
    (answers + recipe.questions_weight * questions).backward()
    first = (ids[:, :-1] == tokenizer.convert_tokens_to_ids(ASSISTANT))[learned]
    right = (logits.argmax(dim=-1) == target)[first].float()
    letters = torch.isin(target[first], torch.tensor([_ids(tokenizer, f" {letter}")[0] for letter in "ab"]))
    shares = [float(right[where].mean()) if bool(where.any()) else math.nan for where in (letters, ~letters)]
    comma = torch.isin(target, torch.tensor([_ids(tokenizer, f", {letter}")[0] for letter in "ab"]))
    shares.append(float((logits.argmax(dim=-1) == target)[comma].float().mean()) if bool(comma.any()) else math.nan)
    return _Told(float(answers.detach()), float(questions.detach()), *shares)


def train_language_model(output: Path, recipe: LanguageRecipe = LanguageRecipe(), progress: Progress = silent) -> None:
    """Write lm/ under `output`: model, tokenizer, training.json and training.jsonl.

    `progress(done, total)` counts steps. The same recipe gives the same weights on the same machine with as many
    threads.
    """
    folder = output / "lm"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(recipe)
    model = build_model(tokenizer, recipe.seed % 2**31)
    write_text(folder / "training.json", _settings(recipe, model))
    log: list[dict[str, Any]] = []
    for row in _training(model, tokenizer, recipe, progress):
        log.append(row)
        write_text(folder / "training.jsonl", "".join(json.dumps(one) + "\n" for one in log))
        model.save_pretrained(folder)  # each time, so that an early model can be tried
    tokenizer.save_pretrained(folder)


def _training(model: Any, tokenizer: Any, recipe: LanguageRecipe, progress: Progress) -> Iterator[dict[str, Any]]:
    """Train, and yield a line for the log `recipe.evaluations` times."""
    optimizer = torch.optim.AdamW(_groups(model, recipe), recipe.learning_rate, betas=(0.9, 0.98))
    warm = max(1, recipe.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps))
    )
    rng = np.random.default_rng([recipe.seed, 2])
    stops = {round(recipe.steps * (i + 1) / recipe.evaluations) for i in range(recipe.evaluations)}
    told: list[_Told] = []
    cpu = time.process_time()
    for step in range(1, recipe.steps + 1):
        told.append(_step(model, _batch(recipe, step - 1, tokenizer, rng), tokenizer, recipe))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress(step, recipe.steps)
        if step in stops:
            means = {name: round(float(np.nanmean([getattr(one, name) for one in told])), 4) for name in vars(told[0])}
            yield {"step": step, **means, "cpu_seconds": round(time.process_time() - cpu, 1)}
            told.clear()


def _groups(model: Any, recipe: LanguageRecipe) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for norms and biases."""
    weights = list(model.parameters())
    return [
        {"params": [one for one in weights if one.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [one for one in weights if one.ndim < 2], "weight_decay": 0.0},
    ]


def _settings(recipe: LanguageRecipe, model: Any) -> str:
    versions = {one.__name__: one.__version__ for one in (torch, transformers, tokenizers)}
    facts = {"parameters": model.num_parameters(), "threads": torch.get_num_threads()}
    return json.dumps({**asdict(recipe), **facts, "python": platform.python_version(), **versions}, indent=1) + "\n"
