"""How MMVP's own script scores answers: a language model says yes or no, and pairs are neighbouring lines.

The rule is that of tsb0601/MMVP, scripts/gpt_grader.py: a reply counts as yes only if it is the word alone, in any
case; "Yes." and everything else is no. Its judge, gpt-4-0314, is retired, so replies come from a file or a callable.
A last line without a neighbour is left out; `accuracy` is pair accuracy from 0 to 1.

Replies are recorded as lines `{"pair_id": ..., "side": "a", "which": "first", "replies": ["Yes"]}`, one reply for each
attempt of the judge, by key and never by order.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from blindpairs.access import reading
from blindpairs.errors import InputError
from blindpairs.evaluate.verdicts import Answered, HarnessResult, Judging, Verdict, first_questions, pairs_by_line

_YES_OR_NO = re.compile(r"(?:yes|no)$", re.IGNORECASE)


def read_official(asked: Sequence[Answered], judging: Judging) -> HarnessResult:
    """Verdicts, `accuracy` for answers in the order of the lines, and notes. InputError without a judge."""
    if judging.reply is None:
        raise InputError("MMVP's own scores need a judge's replies: name the file of its recorded replies")
    lines = first_questions(asked)  # its script knows no second question
    verdicts = {one.key: graded(judging.reply(one, 0)) for one in lines}
    right = [verdicts[one.key].outcome == "right" for one in lines]
    # strict=False drops a last line without a neighbour, as the script does.
    pairs = [a and b for a, b in zip(right[::2], right[1::2], strict=False)]
    notes = pairs_by_line(lines, "MMVP's script")
    if cut := sum(verdict.reason == "not_the_word_alone" for verdict in verdicts.values()):
        notes.append(f'{cut:,} replies are not the word yes or no alone, such as "Yes.", and count as wrong.')
    return verdicts, {"accuracy": sum(pairs) / len(pairs)} if pairs else {}, notes


def graded(reply: str) -> Verdict:
    """What a reply of the judge counts for."""
    if reply.lower() == "yes":
        return Verdict("right", None, "judge")
    if _YES_OR_NO.match(reply):
        # With a line feed after it, a yes passes the check of the script and is then no "yes".
        return Verdict("wrong", None, "judge" if reply.lower() == "no" else "not_the_word_alone")
    return Verdict("unreadable", None, "not_the_word_alone")


def recorded_replies(path: Path) -> Callable[[Answered, int], str]:
    """A judge that gives the recorded replies of a file; InputError for a damaged line, or a reply that is missing."""
    replies: dict[tuple[str, ...], list[str]] = {}
    with reading(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            key, attempts = _recorded(path, number, line)
            if replies.setdefault(key, attempts) != attempts:
                raise InputError(f"{path}, line {number:,}: other replies about the same answer of pair {key[0]}")

    def reply(one: Answered, attempt: int) -> str:
        attempts = replies.get(one.key, [])
        if attempt >= len(attempts):
            raise InputError(
                f"{path} has {len(attempts)} replies about the {one.key[2]} question, image {one.key[1]} of pair "
                f"{one.key[0]}, and {attempt + 1} are needed: ask the judge for the rest"
            )
        return attempts[attempt]

    return reply


def _recorded(path: Path, number: int, line: bytes) -> tuple[tuple[str, ...], list[str]]:
    try:
        record = json.loads(line.decode())
        key, attempts = tuple(record[name] for name in ("pair_id", "side", "which")), record["replies"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}, line {number:,} is not a recorded reply ({str(error)[:80]})") from error
    if not isinstance(attempts, list) or not all(isinstance(text, str) for text in (*key, *attempts)):
        raise InputError(f"{path}, line {number:,} is not a recorded reply (its replies are not a list of texts)")
    return key, attempts
