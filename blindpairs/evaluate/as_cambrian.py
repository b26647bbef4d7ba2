"""How Cambrian-1 reads answers: the whole answer must be the letter or the text of the right option.

The rule is that of cambrian-mllm/cambrian, eval/eval/mmvp/mmvp_test.py: what follows the last `answer is` or
`answer:`, in lower case and without some marks at its ends, must be equal to one of the two. So "(a) Open" is wrong,
and so is "The answer is: b". Its options are cut at brackets (mmvp_eval.py, `give_options`).

Pairs are neighbouring lines, counted by parity: a line that is missing shifts every pair after it, and a last line
without a neighbour counts half a pair. `accuracy` is in percent, of lines.
"""

from collections.abc import Sequence

from blindpairs.evaluate.verdicts import Answered, HarnessResult, Verdict, by_option, first_questions, pairs_by_line

_VERDICTS = ("answer is", "answer is:", "answer:")


def cleaned(text: str) -> str:
    """What of an answer is compared."""
    text = text.lower().strip()
    for verdict in _VERDICTS:
        text = text.rpartition(verdict)[2]
    return text.strip().rstrip(".:,").lstrip("(").rstrip(")")


def shown_options(options: tuple[str, str]) -> list[str] | None:
    """The options that it makes of `(a) Open (b) Closed`; None where it would stop with an error."""
    parts = [part.split(")") for part in f"(a) {options[0]} (b) {options[1]}".split("(")[1:]]
    return [part[1].strip() for part in parts] if all(len(part) > 1 for part in parts) else None


def read_cambrian(asked: Sequence[Answered]) -> HarnessResult:
    """Verdicts, `total`, `correct` and `accuracy` for answers in the order of the lines, and notes."""
    verdicts = {one.key: _verdict(one) for one in asked}
    lines = first_questions(asked)
    notes = pairs_by_line(lines, "Cambrian")
    if stopped := sum(shown_options(one.question.options) is None for one in lines):
        notes.append(f"Cambrian stops with an error: it cannot cut the options of {stopped:,} questions.")
    if not lines or stopped:
        return verdicts, {}, notes
    right = [verdicts[one.key].outcome == "right" for one in lines]
    # A pair counts as two lines, and a last line without a neighbour as one.
    both = sum(a and b for a, b in zip(right[::2], right[1::2], strict=False))
    correct = 2 * both + (len(right) % 2 == 1 and right[-1])
    headline = {"total": float(len(right)), "correct": float(correct), "accuracy": 100.0 * correct / len(right)}
    return verdicts, headline, notes


def _verdict(one: Answered) -> Verdict:
    compared = cleaned(one.text)
    options = [option.lower() for option in shown_options(one.question.options) or one.question.options]
    # The right option first: where an option is itself a letter, either makes the answer right.
    for option in (one.truth, 1 - one.truth):
        if compared == "ab"[option]:
            return by_option(option, one.truth, "letter")
        if compared == options[option]:
            return by_option(option, one.truth, "text")
    return by_option(None, one.truth, "more_than_the_option" if compared else "empty")
