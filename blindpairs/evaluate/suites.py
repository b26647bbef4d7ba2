"""What the suites share: their files, the images of their questions, and asking a model all of them.

A suite is a folder in the layout of its authors; its questions are asked as they stand, each about one whole image.

Promises: a question that is answered already is not asked again, and each answer is on disk before the next is waited
for; images are read as they are needed, and sent as they are stored unless they are not upright or of a rare format; a
damaged line of a file is an error that names it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from blindpairs.access import reading
from blindpairs.errors import InputError, Undecodable, first_names
from blindpairs.evaluate.answering import SAID_NOTHING, Conditions, outcomes_of
from blindpairs.evaluate.answers import Answer, AnswerFile, item_key
from blindpairs.evaluate.pictures import upright_picture
from blindpairs.images import read_many
from blindpairs.vlm import Answerer, Ask, Failure, Picture
from blindpairs.workspace import digest

Rule = Literal["ours", "llava", "lmms-eval"]  # whose way of reading answers, or a judge's replies
RULES: tuple[Rule, ...] = ("ours", "llava", "lmms-eval")
BATCH = 32  # items whose images are read in one pass over their containers
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class SuiteItem:
    """One question of a suite. Without an image it is a text alone, as the prompts of a judge are."""

    item_id: str
    prompt: str
    image: str = ""  # a path, or `file.parquet#row`


@dataclass(frozen=True)
class Manner:
    """How the items of a suite are asked; `name` stands for it in the answers."""

    name: str
    max_tokens: int
    temperature: float = 0.0
    system: str = ""

    def hash_of(self, prompt: str) -> str:
        """Of the whole prompt without the image."""
        return digest([self.system, prompt])[:16]


@dataclass(frozen=True)
class Figure:
    """A share with its 95 % interval; None where too few images allow none. nan where nothing was counted."""

    share: float
    interval: tuple[float, float] | None


def ask_items(
    model: Answerer, items: Sequence[SuiteItem], manner: Manner, answers: AnswerFile, conditions: Conditions
) -> list[Failure]:
    """Ask what `answers` lacks and append what is said; returns the items that got no answer, each with the reason.

    A refusal and an empty reply are an empty answer, because a model that is asked again says nothing again.
    Raises BudgetSpent and EndpointFailed after everything that was answered is on disk.
    """
    left = [item for item in items if item_key(item.item_id) not in answers.keys]
    prompts = {item.item_id: item.prompt for item in left}
    settings = {**model.settings, "max_tokens": manner.max_tokens, "temperature": manner.temperature}
    failures: list[Failure] = []
    asks = _asks(left, manner, failures)
    for reply in outcomes_of(model, asks, conditions, len(left)):
        if isinstance(reply, Failure) and reply.code not in SAID_NOTHING:
            failures.append(reply)
            continue
        hashed = manner.hash_of(prompts[reply.key])
        answer = Answer(item_key(reply.key), "", manner.name, hashed, model.name, settings)
        if isinstance(reply, Failure):
            answers.append([replace(answer, finish=reply.code)])
        else:
            answers.append([replace(answer, text=reply.text, seconds=reply.seconds, finish=reply.finish)])
    return failures


def _asks(items: Sequence[SuiteItem], manner: Manner, failures: list[Failure]) -> Iterator[Ask]:
    for start in range(0, len(items), BATCH):
        for item, data in _with_images(items[start : start + BATCH]):
            try:
                picture = [] if data is None else [as_picture(data)]
            except Undecodable as error:
                failures.append(Failure(item.item_id, "bad_image", f"its image cannot be read: {error.message}"))
                continue
            yield Ask(
                item.item_id,
                (*picture, item.prompt),
                system=manner.system,
                max_tokens=manner.max_tokens,
                temperature=manner.temperature,
            )


def _with_images(items: Sequence[SuiteItem]) -> Iterator[tuple[SuiteItem, bytes | Undecodable | None]]:
    for item in items:
        if not item.image:
            yield item, None
    shown = [item for item in items if item.image]
    for position, data in read_many((item.image, None) for item in shown):
        yield shown[position], data


def as_picture(data: bytes | Undecodable) -> Picture:
    """An encoded image for a model; raises Undecodable for one that cannot be read."""
    if isinstance(data, Undecodable):
        raise data
    return upright_picture(data)


def read_lines(path: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines, each with a text under all of these names.

    A number is taken for its text: ids are written either way. Raises InputError that names a damaged line.
    """
    found = []
    with reading(path):
        content = path.read_bytes()
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number:,} is not JSON ({str(error)[:80]}): restore the file") from error
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number:,} holds a JSON {type(record).__name__}, not an object")
        for name in texts:
            value = record.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                record[name] = str(value)
            elif not isinstance(value, str):
                raise InputError(f"{path}, line {number:,} has no text {name!r}: restore the file")
        found.append(record)
    return found


def absent_images(images: Mapping[str, Path]) -> list[str]:
    """The names of images whose files are not there, in order."""
    return [name for name, path in images.items() if not path.is_file()]


def texts_by_item(answers: Sequence[Answer], wanted: Sequence[str], what: str) -> dict[str, str]:
    """What was said about each wanted item; answers to others are left out. InputError names what is missing."""
    texts = {answer.key[0]: answer.text for answer in answers if not answer.key[1]}
    missing = [item_id for item_id in wanted if item_id not in texts]
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(wanted):,} {what} are missing ({first_names(missing, SHOWN)}): "
            "run the same command again to get them"
        )
    return {item_id: texts[item_id] for item_id in wanted}
