"""LLaVA's own rules for prompts and labels, written out from its `preprocess_v1` and `preprocess_plain`: a slow judge.

They find an answer by the number of tokens that a tokenizer makes of the text before it, which holds for LLaMA's.
"""

from typing import Any

from blindpairs.mof.chat_templates import VICUNA_SYSTEM

IMAGE, IGNORE = -200, -100


def vicuna(rows: list[tuple[str, str]], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids (with IMAGE for the image) and labels of (question, answer) rounds; `<image>` may stand in a question."""
    text = VICUNA_SYSTEM + " "
    for question, answer in rows:
        if "<image>" in question:
            question = ("<image>\n" + question.replace("<image>", "").strip()).strip()
        text += f"USER: {question} ASSISTANT: {answer}</s>"
    ids = with_image(text, tokenizer)
    labels = list(ids)
    done = 1
    labels[:done] = [IGNORE] * done
    for part in text.split("</s>"):
        if not part:
            break
        asked, _ = part.split(" ASSISTANT: ")
        # minus BOS, and the piece that is the last space
        asked_length = len(with_image(asked + " ASSISTANT: ", tokenizer)) - 2
        labels[done : done + asked_length] = [IGNORE] * asked_length
        done += len(with_image(part, tokenizer))
    return ids, labels


def plain(caption: str, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids and labels of a caption."""
    ids = with_image(f"<image>{caption}\n", tokenizer)
    asked = len(with_image("<image>", tokenizer))
    return ids, [IGNORE] * asked + ids[asked:]


def with_image(text: str, tokenizer: Any) -> list[int]:
    """`tokenizer_image_token`: the pieces around `<image>` one by one, with BOS at the very start only."""
    first, *others = text.split("<image>")
    ids: list[int] = list(tokenizer(first).input_ids)
    for piece in others:
        ids += [IMAGE, *tokenizer(piece).input_ids[1:]]
    return ids
