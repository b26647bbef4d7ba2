"""What is wrong with the pairs of a benchmark, before it is exported: each finding has a reason and a pair.

A finding either refuses its pair (no score of it would mean anything, or a format would silently change it) or is a
note for the author. Nothing is dropped in silence: `check` returns every finding, and callers list the pairs that they
leave out. What only one foreign format cannot carry is refused by that format's export, not here.

A model without the image gives one answer for both images of a pair. So it solves no pair whose answers differ, and
every pair whose answers are the same: `same_answer` finds these without asking a model.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches

from blindpairs.benchmark.clip_tokens import clip_token_count
from blindpairs.benchmark.model import Benchmark, BenchmarkPair, Question
from blindpairs.statistics import binomial_test

# How pandas 3 reads an empty cell (pandas/_libs/parsers.pyx); VLMEvalKit reads its tables so, and drops such options.
READ_AS_MISSING = {
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
}
CLIP_TOKENS = 77  # with start and end
PROMPT = "a photo of "  # which MMVP-VLM's script puts before every statement (tsb0601/MMVP, scripts/evaluate_vlm.py)
YES_NO_STARTS = {  # how questions begin that yes or no would answer
    *("is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would"),
}
STOP_WORDS = {  # words that describe no image; words of one or two letters are left out, too
    *("the", "and", "are", "has", "its", "not", "for", "with", "from", "that", "this", "there", "which", "what", "who"),
    *("image", "picture", "photo", "one", "two", "does", "have"),
}
MOST_USES = 2  # of an image in blind pairs; MediConfusion has one image in 14 of its 176 pairs
UNBALANCED = 0.01  # the p-value below which an unequal split is reported
OTHER_IMAGE = re.compile(
    r"\b(?:other|another|first|second|left|right|both|two|each)\s+(?:image|picture|photo)s?\b|"
    r"\b(?:image|picture|photo)\s+(?:a|b|1|2|one|two)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `check` is a stable word; `pair_id` is "" for what concerns the whole set."""

    pair_id: str
    check: str
    message: str
    refuses: bool = True


def check(benchmark: Benchmark) -> list[Finding]:
    """Every finding, pair by pair in their order, then those of the whole set."""
    found = [finding for pair in benchmark.pairs for finding in _of_pair(pair, benchmark.patterns)]
    found += _repeated(benchmark.pairs)
    found += _orphaned(benchmark.pairs, {finding.pair_id for finding in found if finding.refuses})
    return [*found, *_image_uses(benchmark.pairs), *_balance(benchmark.pairs)]


def without_refused(pairs: Iterable[BenchmarkPair], findings: Iterable[Finding]) -> tuple[BenchmarkPair, ...]:
    """The pairs that no finding refuses."""
    refused = {finding.pair_id for finding in findings if finding.refuses}
    return tuple(pair for pair in pairs if pair.pair_id not in refused)


def _of_pair(pair: BenchmarkPair, patterns: Sequence[str]) -> Iterator[Finding]:
    if pair.question is None and not (pair.statement_a and pair.statement_b):
        yield Finding(pair.pair_id, "nothing_asked", "it has neither a question nor two statements")
    statements = (pair.statement_a, pair.statement_b)
    for name, question in (("question", pair.question), ("second question", pair.second)):
        if question is not None:
            for word, message in question_faults(question):
                yield Finding(pair.pair_id, word, f"{name}: {message}")
            if why := shown_by_one(question, statements):
                yield Finding(pair.pair_id, "shown_by_one", f"{name}: {why}", refuses=False)
    if pair.question and pair.second and pair.second.answers != pair.question.answers[::-1]:
        yield Finding(pair.pair_id, "second_not_exchanged", "the answers of the second question are not exchanged")
    yield from (Finding(pair.pair_id, word, message) for word, message in statement_faults(statements))
    yield from (Finding(pair.pair_id, *one) for one in pattern_faults(pair.patterns, patterns))


def pattern_faults(names: Sequence[str], taxonomy: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """(word, message, whether it refuses) for what is wrong with the patterns of a pair; any, where none is known."""
    if not names:
        yield "no_pattern", "it has no visual pattern", False
    for name in names:
        if taxonomy and name not in taxonomy:
            near = get_close_matches(name, taxonomy, 1)
            advice = f"did you mean {near[0]!r}?" if near else f"the taxonomy has {', '.join(taxonomy)}"
            yield "unknown_pattern", f"{name!r} is not in the taxonomy: {advice}", True


def question_faults(question: Question) -> Iterator[tuple[str, str]]:
    """(word, message) for each thing that is wrong with one question."""
    if not question.text.strip():
        yield "no_text", "it is empty"
    if OTHER_IMAGE.search(question.text):
        yield "other_image", f"{question.text!r} speaks of more than the one image that it is asked of"
    if not set(question.answers) <= {0, 1}:
        yield "no_such_option", f"its answers {question.answers} are not 0 or 1"
    elif question.answers[0] == question.answers[1]:
        yield "same_answer", f"{question.options[question.answers[0]]!r} is the answer for both images"
    first, other = (" ".join(option.casefold().split()) for option in question.options)
    if first == other:
        yield "equal_options", f"both options are {question.options[0]!r}"
    for option in question.options:
        if "(" in option or ")" in option:
            yield "bracket", f"option {option!r} has a bracket, which the readers of MMVP's options take for a letter"
        if option.strip() in READ_AS_MISSING:
            yield "read_as_missing", f"option {option!r} is an empty cell for pandas, and would vanish"


def shown_by_one(question: Question, statements: tuple[str, str] = ("", "")) -> str:
    """Why a question seems to take for granted what only one of its images shows; "" where it does not.

    "Is the door open?" makes sense for both images, "What colour is the open door?" does not. So a question that does
    not ask for yes or no must not have the words of one option without the other, nor a word that only one of the two
    statements has. A person decides: it is a note.
    """
    asked, options = _words(question.text), [_words(option) for option in question.options]
    if asked[:1] and asked[0] in YES_NO_STARTS:
        return ""
    inside = [_contains(asked, option) for option in options]
    if inside[0] != inside[1]:
        return f"it has the words {question.options[inside.index(True)]!r}, which are the answer for one image only"
    first, other = (_words(one) for one in statements)
    for word in asked if first and other else ():
        known = [any(_same_stem(word, one) for one in words) for words in (first, other)]
        if len(word) > 2 and word not in STOP_WORDS and known[0] != known[1]:
            if not any(_same_stem(word, one) for option in options for one in option):
                return f"it has the word {word!r}, which the statement of one image only has"
    return ""


def _same_stem(word: str, other: str) -> bool:
    """Whether two words seem to be forms of one: `cars` and `car`, `women` and `woman`."""
    # Without up to three letters of an ending, but never by fewer than three letters.
    return other.startswith(word[: max(3, len(word) - 3)])


def _contains(text: Sequence[str], part: Sequence[str]) -> bool:
    return any(text[start : start + len(part)] == part for start in range(len(text) - len(part) + 1)) and bool(part)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def statement_faults(statements: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """(word, message) for each thing that is wrong with the statements of image a and image b."""
    if any(statements) and not all(statements):
        yield "one_statement", "one image has a statement and the other has none"
    if all(statements) and len({" ".join(text.casefold().split()) for text in statements}) == 1:
        yield "equal_statements", f"both statements are {statements[0]!r}"
    for text in statements:
        if OTHER_IMAGE.search(text):
            yield "other_image", f"statement {text!r} speaks of more than its one image"
        if len(text) + len(PROMPT) > CLIP_TOKENS - 2 and (count := clip_token_count(PROMPT + text)) > CLIP_TOKENS:
            yield "long_statement", f"a statement has {count} tokens with {PROMPT!r}; CLIP reads 77"


def _repeated(pairs: Sequence[BenchmarkPair]) -> Iterator[Finding]:
    ids = Counter(pair.pair_id for pair in pairs)
    for name, count in ids.items():
        if count > 1:
            yield Finding(name, "duplicate_id", f"{count} pairs have this id")
    asked: dict[object, str] = {}
    for pair in pairs:
        text = pair.question.text if pair.question else pair.statement_a
        key = (frozenset(pair.image_ids), " ".join(text.casefold().split()))
        first = asked.setdefault(key, pair.pair_id)  # whichever image is a: exchanged pairs are duplicates, too
        if first != pair.pair_id:
            yield Finding(pair.pair_id, "duplicate", f"pair {first} asks the same of the same images")
        if pair.image_id_a == pair.image_id_b:
            yield Finding(pair.pair_id, "one_image", "both images are the same file")


def _orphaned(pairs: Sequence[BenchmarkPair], refused: Set[str]) -> Iterator[Finding]:
    """Controls without their blind pair: alone they control nothing."""
    kept = {pair.pair_id for pair in pairs} - refused
    for pair in pairs:
        if pair.control_of is not None and pair.control_of not in kept:
            why = "was refused" if pair.control_of in refused else "is not in the benchmark"
            yield Finding(pair.pair_id, "blind_pair_missing", f"it is a control of {pair.control_of}, which {why}")


def _image_uses(pairs: Sequence[BenchmarkPair]) -> Iterator[Finding]:
    uses: defaultdict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if not pair.is_control:
            for key in set(pair.image_ids):
                uses[key].append(pair.pair_id)
    for key, names in uses.items():
        if len(names) > MOST_USES:
            message = f"image {key} is in {len(names)} pairs: {', '.join(names)}"
            yield Finding(names[MOST_USES], "image_used_often", message, refuses=False)


def _balance(pairs: Sequence[BenchmarkPair]) -> Iterator[Finding]:
    """Splits that a model could use, or that its habits would show in: which option is right, and which comes first."""
    questions = [pair.question for pair in pairs if pair.question]
    yield from _unequal("answer_a", "image a's answer is the first option", [q.answers[0] == 0 for q in questions])
    # For each set of two options, whether the first one in the alphabet was shown first.
    orders: defaultdict[frozenset[str], list[bool]] = defaultdict(list)
    for question in questions:
        first, other = (option.casefold() for option in question.options)
        orders[frozenset((first, other))].append(first < other)
    for options, order in orders.items():
        lowest = min(options)
        yield from _unequal("option_order", f"of {' / '.join(sorted(options))}, {lowest!r} comes first", order)


def _unequal(word: str, what: str, seen: Sequence[bool]) -> Iterator[Finding]:
    count = sum(seen)
    if seen and binomial_test(count, len(seen)) < UNBALANCED:
        yield Finding("", word, f"{what} in {count:,} of {len(seen):,} questions", refuses=False)
