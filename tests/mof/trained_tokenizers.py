"""Small tokenizers of the two kinds that language models have, trained in a moment on the texts of these tests."""

from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from blindpairs.mof.chat_templates import VICUNA_SYSTEM, Template
from blindpairs.mof.conversations import Conversation
from blindpairs.mof.templates import TurnTokenizer

TEXTS = [
    VICUNA_SYSTEM,
    "USER: What is the animal in this picture? ASSISTANT: A dog with a red hat, on the grass.",
    "if seen:\n    print(1234567890)\n",
    "Two cats \N{CAT} and 17 balls, seen from above. Describe the image concisely.",
] * 3

# As Llama 3's: a BOS, and headers of several tokens.
HEADERS = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '<|im_end|>\n\n' + message.content | trim + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_end|>\n\n' }}{% endif %}"
)
# As Mistral's: nothing before an answer.
INSTRUCTIONS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
)
# As Qwen 3's: an empty thought before the last answer, which the model must write itself.
THOUGHTS = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and loop.last %}{{ '(think)\n\n(/think)\n\n' }}{% endif %}"
    "{{ message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
UNTAGGED = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + (message.content | trim) + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TAGGED = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ (message.content | trim) + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ (message.content | trim) + '<|im_end|>' }}{% endif %}{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenized(
    conversation: Conversation, tokenizer: Any, template: Template, places: int
) -> tuple[list[int], list[int]]:
    """(ids, labels) of one conversation, whose image has so many places."""
    return ids_and_labels(TurnTokenizer(tokenizer, template), conversation, places)


def ids_and_labels(tokens: TurnTokenizer, conversation: Conversation, places: int) -> tuple[list[int], list[int]]:
    """As `tokenized`, with a tokenizer that is kept."""
    (encoded,) = tokens.encoded([conversation])
    ids, labels = tokens.spread(encoded, places)
    return ids.tolist(), labels.tolist()


@cache
def llama_like(*, first_only: bool = False, template: str | None = None) -> Any:
    """As LLaMA's: a space before every piece between control tokens, bytes for what it does not know, a BOS.

    With `first_only`, as later ones: a space only at the start of the text.
    """
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # LLaMA has no pre-tokenizer; without one, so small a corpus would become one token
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    if first_only:
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=tokens, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        chat_template=template,
    )


def qwen_like(*, tags: bool) -> Any:
    """As Qwen's: bytes with offsets that leave spaces out, no BOS, ChatML; with generation tags or without."""
    return byte_level(TAGGED if tags else UNTAGGED)


@cache
def byte_level(template: str) -> Any:
    """Qwen's with another chat template."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, "<|im_start|>"], trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<image>"},
        chat_template=template,
    )
