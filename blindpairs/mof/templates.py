"""From a conversation to token ids and labels: LLaVA's `plain` and `vicuna_v1`, or the language model's own template.

Promises: the text of `plain` and `vicuna_v1` is LLaVA's to the byte; the ids are those that the saved processor makes
of the same messages; labels come from the places of the answers in the text, never from lengths counted again; no text
of a conversation becomes a control token, whatever it spells. The last is done by a copy of the tokenizer that does not
know its control tokens by their own names: it reads them under private names, which no conversation may contain.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer

from blindpairs.errors import ConfigError, InputError
from blindpairs.mof.chat_templates import (
    OTHERWISE,
    VICUNA_SYSTEM,
    Message,
    Template,
    has_generation_tags,
    image_token,
    processor_template,
    rendered,
    rendered_with_answers,
)
from blindpairs.mof.conversations import RESERVED, Conversation, Turn
from blindpairs.workspace import digest

IGNORE = -100  # the label of a token that is not learned: torch's cross entropy leaves it out
# Marks in a text on its way to the tokenizer, all of them code points that Unicode reserves for such use.
OPEN, CLOSE = "\ufdd0", "\ufdd1"  # an answer
PRIVATE = "\ufdd2{}\ufdd3"  # a control token, by its number
SPELLED = "\ufdd4{}\ufdd5"  # text of a conversation that spells a control token

NO_HEADER = "\ufdd6"  # the template writes nothing before an answer

Ids = npt.NDArray[np.int64]
Learned = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Encoded:
    """A conversation as ids (tokens,), its image as one, and which of them are learned (tokens,)."""

    ids: Ids
    learned: Learned


@dataclass(frozen=True)
class Marked:
    """A text for the private tokenizer, and the places of its answers: start and end of each, in characters."""

    text: str
    answers: tuple[tuple[int, int], ...]


class TurnTokenizer:
    """Conversations to ids and labels, with one tokenizer and one template."""

    def __init__(self, tokenizer: Any, template: Template) -> None:
        """ConfigError where the tokenizer is not of the tokenizers library, or lacks what the template needs."""
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ConfigError("the language model's tokenizer is not of the tokenizers library, which tells offsets")
        self.template = template
        self.jinja = processor_template(template, tokenizer)
        self.image_token = image_token(tokenizer)
        self._own = tokenizer
        self._controls = control_tokens(tokenizer, self.jinja)
        self._numbers = {name: str(number) for number, name in enumerate(self._controls)}
        names = "|".join(map(re.escape, sorted(self._controls, key=len, reverse=True)))
        self._control = re.compile(names)
        # Alternatives that each begin with a letter of their own: Python then searches three times as fast.
        self._seams = re.compile(f"({names}|{SPELLED.format('[0-9]+')}|{OPEN}|{CLOSE})")
        self._private, self._ids = private_copy(tokenizer, self._controls)  # _ids: those of the copy -> (ids,) meant
        self.image_id = int(tokenizer.convert_tokens_to_ids(self.image_token))
        described = tokenizer.backend_tokenizer.to_str()
        self.fingerprint = digest([described, self.jinja])  # of all that ids depend on
        self._header = "" if template != "chat" or has_generation_tags(self.jinja) else self._answer_header()
        # The processor adds special tokens, unless the template begins with one itself.
        bos, sample = tokenizer.bos_token, Conversation("", None, (Turn("human", "?"), Turn("gpt", "!")))
        self._adds_bos = not (bos and self._marked(sample).startswith(bos))

    def spread(self, encoded: Encoded, image_tokens: int) -> tuple[Ids, Ids]:
        """(ids, labels), with `image_tokens` ids in the place of the image."""
        labels = np.where(encoded.learned, encoded.ids, IGNORE)
        repeats = np.where(encoded.ids == self.image_id, image_tokens, 1)
        return np.repeat(encoded.ids, repeats), np.repeat(labels, repeats)

    def ends(self) -> list[int]:
        """The token that ends an answer, if the template has one; what stands before the answer is none."""
        (encoded,) = self.encoded([Conversation("", None, (Turn("human", "?"), Turn("gpt", "!")))])
        controls = set(self._own.convert_tokens_to_ids(self._controls))
        return [one for one in encoded.ids[encoded.learned].tolist() if one in controls][-1:]

    def text(self, conversation: Conversation) -> str:
        """What the language model reads, with the image as one token."""
        marked = self._marked(conversation).replace(OPEN, "").replace(CLOSE, "")
        return re.sub(SPELLED.format("([0-9]+)"), lambda found: self._controls[int(found[1])], marked)

    def encoded(self, conversations: Sequence[Conversation]) -> Iterator[Encoded]:
        """Each conversation, whatever number of places an image will have. Threads of the library share the work."""
        texts = [self._resolved(self._marked(one)) for one in conversations]
        encodings = self._private.encode_batch([one.text for one in texts], add_special_tokens=self._adds_bos)
        for conversation, text, encoding in zip(conversations, texts, encodings, strict=True):
            ids = self._ids[np.asarray(encoding.ids, dtype=np.int64)]  # (tokens,)
            if (ids == self.image_id).sum() != (conversation.image is not None):
                raise InputError(f"row {conversation.id!r}: the template does not write its image once")
            yield Encoded(ids, learned_tokens(encoding, text.answers))

    def _marked(self, conversation: Conversation) -> str:
        """The text with marks around answers, control tokens by name, and what only spells one hidden."""
        if any(RESERVED.search(turn.text) for turn in conversation.turns):
            raise InputError(f"row {conversation.id!r} holds a code point that Unicode reserves for marks (U+FDD0 ...)")
        turns = [replace(turn, text=self._control.sub(self._hidden, turn.text)) for turn in conversation.turns]
        # The Jinja texts of these two say the same, at a fifteenth of the speed: an index would take twice the time.
        if self.template == "plain":
            return self._plain(conversation, turns)
        if self.template == "vicuna_v1":
            return self._vicuna(turns)
        return self._chat(turns)

    def _hidden(self, found: re.Match[str]) -> str:
        return SPELLED.format(self._numbers[found[0]])

    def _plain(self, conversation: Conversation, turns: Sequence[Turn]) -> str:
        if len(turns) != 2:
            raise InputError(
                f"row {conversation.id!r} has {len(turns)} turns: template plain is for one caption an image"
            )
        image = self.image_token if turns[0].image else ""
        return f"{image}{OPEN}{turns[1].text}\n{CLOSE}"

    def _vicuna(self, turns: Sequence[Turn]) -> str:
        # The space after the colon belongs to the answer: asked, the model continues right after the colon.
        end = self._own.eos_token
        said = (
            f"USER: {self._with_image(turn)} " if turn.role == "human" else f"ASSISTANT:{OPEN} {turn.text}{end}{CLOSE}"
            for turn in turns
        )
        return f"{VICUNA_SYSTEM} {''.join(said)}"

    def _with_image(self, turn: Turn) -> str:
        return f"{self.image_token}\n{turn.text}".strip() if turn.image else turn.text

    def _chat(self, turns: Sequence[Turn]) -> str:
        if not self._header:
            text, answers = rendered_with_answers(self.jinja, messages_of(turns), self._own)
            for start, end in reversed(answers):
                text = f"{text[:start]}{OPEN}{text[start:end]}{CLOSE}{text[end:]}"
            return text
        marked = [replace(turn, text=_inside_space(turn.text)) if turn.role == "gpt" else turn for turn in turns]
        return self._widened(rendered(self.jinja, messages_of(marked), self._own))

    def _answer_header(self) -> str:
        """What the template writes before an answer, such as `<|im_start|>assistant`."""
        question = messages_of([Turn("human", "?")])
        asked, invited = (rendered(self.jinja, question, self._own, prompt=prompt) for prompt in (False, True))
        if not invited.startswith(asked):
            raise ConfigError(
                f"the chat template has no generation tags, and its prompt does not continue its text: {OTHERWISE}"
            )
        return invited[len(asked) :] or NO_HEADER

    def _widened(self, text: str) -> str:
        """Move the marks of each answer: back to the end of what invites it, on to the token that ends it."""
        out, place = [], 0
        for answer in re.finditer(f"{OPEN}([^{CLOSE}]*){CLOSE}", text):
            before = text[place : answer.start()]
            header = before.rfind(self._header) if self._header != NO_HEADER else len(before.rstrip())
            end = re.compile(rf"\s*(?:{self._control.pattern})").match(text, answer.end())
            if header < 0 or not end:
                missing = "begins" if header < 0 else "ends"
                raise ConfigError(
                    f"the chat template has no generation tags, and no mark where an answer {missing}: {OTHERWISE}"
                )
            header += len(self._header) if self._header != NO_HEADER else 0
            out += [before[:header], OPEN, before[header:], answer[1], end[0], CLOSE]
            place = end.end()
        return "".join([*out, text[place:]])

    def _resolved(self, marked: str) -> Marked:
        """The text without marks, and where the answers were."""
        pieces, answers, length, start = [], [], 0, 0
        for piece in self._seams.split(marked):
            if piece == OPEN:
                start = length
            elif piece == CLOSE:
                answers.append((start, length))
            else:
                if piece in self._numbers:
                    piece = PRIVATE.format(self._numbers[piece])
                elif piece.startswith(SPELLED[0]):
                    piece = self._controls[int(piece[1:-1])]
                pieces.append(piece)
                length += len(piece)
        return Marked("".join(pieces), tuple(answers))


def _inside_space(text: str) -> str:
    """The text with marks inside the space around it, which some templates trim and others keep."""
    inner = text.strip()
    start = len(text) - len(text.lstrip())
    return f"{text[:start]}{OPEN}{inner}{CLOSE}{text[start + len(inner) :]}"


def messages_of(turns: Iterable[Turn]) -> list[Message]:
    """Turns as `apply_chat_template` takes them."""
    messages: list[Message] = []
    for turn in turns:
        parts = [{"type": "image"}] if turn.image else []
        role = "user" if turn.role == "human" else "assistant"
        messages.append({"role": role, "content": [*parts, {"type": "text", "text": turn.text}]})
    return messages


def control_tokens(tokenizer: Any, template: str) -> list[str]:
    """The tokens that no text of a conversation may become: special ones, and added ones that the template writes."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    names = {token.content for token in added if token.special}
    names |= {token.content for token in added if token.content in template and not token.content.isspace()}
    return sorted(names | {image_token(tokenizer)})


def private_copy(tokenizer: Any, controls: Sequence[str]) -> tuple[Tokenizer, Ids]:
    """A tokenizer that knows its control tokens by private names only, and the table from its ids to those meant."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {}
    for token in described["added_tokens"]:
        rules[token["content"]] = {key: token[key] for key in ("lstrip", "rstrip", "single_word")}
        token["special"] = token["special"] or token["content"] in controls
    described |= {"truncation": None, "padding": None}
    copy = Tokenizer.from_str(json.dumps(described))
    copy.encode_special_tokens = True  # the tokens by their own names are text
    names = [PRIVATE.format(number) for number in range(len(controls))]
    copy.add_tokens(
        [
            AddedToken(name, normalized=False, special=False, **rules.get(control, {}))
            for name, control in zip(names, controls, strict=True)
        ]
    )
    ids = np.arange(max(copy.get_vocab().values()) + 1, dtype=np.int64)
    for name, control in zip(names, controls, strict=True):
        ids[copy.token_to_id(name)] = tokenizer.convert_tokens_to_ids(control)
    return copy, ids


def learned_tokens(encoding: Any, answers: Sequence[tuple[int, int]]) -> Learned:
    """(tokens,) whether each token has a character in an answer, as the tokenizer tells offsets."""
    starts, ends = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2).T  # (tokens,) each
    learned: Learned = np.zeros(len(ends), dtype=bool)
    for start, end in answers:
        learned |= (ends > start) & (starts < end)
    learned[np.asarray(encoding.special_tokens_mask, dtype=bool)] = False  # a BOS has no place in the text
    return learned
