"""LLaVA-Bench: a judge compares a model's free answers with those of a GPT-4 that read a description of the image.

The judge is any model that answers, and part of the result: scores of two judges cannot be compared. The prompt is that
of haotian-liu/LLaVA, llava/eval/eval_gpt_review_bench.py and (COCO) eval_gpt_review_visual.py, with the rules of
llava/eval/table/rule.json. A relative score is mean(score of the model) / mean(score of the reference) * 100, as in
llava/eval/summarize_gpt_review.py. How the judge's reply is read, and what becomes of one that gives no scores:

* `ours`: the first line with text is two numbers from 1 to 10 and marks; other replies are counted apart;
* `llava`: the first line, split at single spaces, is two numbers; other replies are scores of -1 and -1, and averaged;
* `lmms-eval` (EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/llava-in-the-wild/utils.py): the first two numbers of the
  first line, so that `Assistant 1: 8, Assistant 2: 6` gives 1 and 8; else -1 and -1, averaged.

Promises: the judge of a review, its prompt and its whole reply are recorded; a review of another answer than the one
that is scored is an error; so is a missing one.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import ConfigError, InputError, first_names
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import Answer, AnswerFile
from blindpairs.evaluate.llava_bench_files import CATEGORIES, BenchQuestion
from blindpairs.evaluate.suites import SHOWN, Manner, Rule, SuiteItem, ask_items, texts_by_item
from blindpairs.statistics import bootstrap_interval
from blindpairs.vlm import Answerer, Failure

ScorePair = tuple[float, float]  # the judge's scores of the reference and of the model
FAILED: ScorePair = (-1.0, -1.0)  # what both harnesses take a reply for that they cannot read
# Images. Of simulated benches of 20 to 30 images, 91 to 94 in 100 intervals held the truth, where 95 are promised.
INTERVAL_FROM = 20
# Greedy, and 1,024 tokens as in llava/eval/model_vqa.py; lmms-eval allows 4,096.
MANNER = Manner("llava-bench", max_tokens=1024)
JUDGING = Manner(
    "llava-bench-review",
    max_tokens=1024,
    temperature=0.2,
    system="You are a helpful and precise assistant for checking the quality of the answer.",
)
# The published rule, word for word: another wording would be another benchmark.
_RULE = (
    "We would like to request your feedback on the performance of two AI assistants in response to the user question "
    "displayed above. The user asks the question on observing an image. For your reference, the visual content in the "
    "image is represented with {described} \n"
    "Please rate the helpfulness, relevance, accuracy, level of details of their responses. Each assistant receives an "
    "overall score on a scale of 1 to 10, where a higher score indicates better overall performance.\n"
    "Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, "
    "respectively. The two scores are separated by a space.\n"
    "In the subsequent line, please provide a comprehensive explanation of your evaluation, avoiding any potential "
    "bias and ensuring that the order in which the responses were presented does not affect your judgment."
)
_DESCRIBED = {
    "wild": "a few sentences describing the image.",
    "coco": "five descriptive sentences describing the same image and the bounding box coordinates of each object in "
    "the scene. These coordinates are in the form of bounding boxes, represented as (x1, y1, x2, y2) with floating "
    "numbers ranging from 0 to 1. These values correspond to the top left x, top left y, bottom right x, and bottom "
    "right y.",
}
_TWO_NUMBERS = re.compile(r"[^\w.-]*(\d+(?:\.\d+)?)(?:\s*[,;]\s*|\s+)(\d+(?:\.\d+)?)[^\w-]*")


@dataclass(frozen=True)
class BenchFigures:
    """Of one category, or of all. nan without a readable review."""

    relative: float  # percent
    interval: tuple[float, float] | None  # 95 %, whole images drawn; None with fewer than INTERVAL_FROM images
    reference: float  # mean score of the reference, from 1 to 10
    model: float
    reviews: int
    failed: int  # without two scores; a part of the means only under the rules of the harnesses


@dataclass(frozen=True)
class BenchScores:
    """All questions, and those of each category; `judges` are the models that wrote the reviews."""

    rule: Rule
    all: BenchFigures
    categories: Mapping[str, BenchFigures]
    judges: tuple[str, ...]
    notes: tuple[str, ...] = ()


def ask_llava_bench(
    questions: Sequence[BenchQuestion], model: Answerer, answers: AnswerFile, conditions: Conditions
) -> list[Failure]:
    """Ask the questions that `answers` lacks; see `suites.ask_items`."""
    items = [SuiteItem(one.item_id, one.text, one.uri) for one in questions]
    return ask_items(model, items, MANNER, answers, conditions)


def judge_llava_bench(
    questions: Sequence[BenchQuestion],
    answers: Sequence[Answer],
    judge: Answerer,
    reviews: AnswerFile,
    conditions: Conditions,
) -> list[Failure]:
    """Have the answers reviewed that `reviews` lacks. InputError for a question without an answer."""
    answer_texts = texts_by_item(answers, [one.item_id for one in questions], "answers to LLaVA-Bench")
    items = [SuiteItem(one.item_id, judge_prompt(one, answer_texts[one.item_id])) for one in questions]
    return ask_items(judge, items, JUDGING, reviews, conditions)


def judge_prompt(question: BenchQuestion, answer: str) -> str:
    """What the judge reads: the context, the question, both answers, and the rule."""
    rule = _RULE.format(described=_DESCRIBED[question.variant])
    parts = [("Context", question.context), ("Question", question.text)]
    texts = [f"[{name}]\n{text}\n\n" for name, text in parts]
    for number, text in enumerate((question.reference, answer), 1):
        texts.append(f"[Assistant {number}]\n{text}\n\n[End of Assistant {number}]\n\n")
    return "".join([*texts, f"[System]\n{rule}\n\n"])


def score_llava_bench(
    questions: Sequence[BenchQuestion], answers: Sequence[Answer], reviews: Sequence[Answer], rule: Rule = "ours"
) -> BenchScores:
    """The relative scores. InputError for a missing review, and for one of another answer than that in `answers`.

    Reviews that were not asked for by blindpairs have no hash of their prompt, and are taken as they are.
    """
    if rule not in _RULES:
        raise ConfigError(f"there is no rule {rule!r} for LLaVA-Bench: choose one of {', '.join(_RULES)}")
    wanted = [one.item_id for one in questions]
    answer_texts = texts_by_item(answers, wanted, "answers to LLaVA-Bench")
    replies = texts_by_item(reviews, wanted, "reviews of LLaVA-Bench")
    _refuse_stale(questions, answer_texts, reviews)
    pairs = {item_id: _RULES[rule](text) for item_id, text in replies.items()}
    categories = {
        name: _figures([one for one in questions if one.category == name], pairs, rule)
        for name in CATEGORIES
        if any(one.category == name for one in questions)
    }
    judges = tuple(sorted({review.model for review in reviews}))
    whole = _figures(questions, pairs, rule)
    return BenchScores(rule, whole, categories, judges, tuple(_notes(rule, whole, judges)))


def read_scores(reply: str) -> ScorePair | None:
    """The two scores that a reply begins with, or None; marks such as `**8 7**` or `(8, 7)` may be around them."""
    line = next((line for line in reply.splitlines() if line.strip()), "")
    match = _TWO_NUMBERS.fullmatch(line)
    scores = (float(match[1]), float(match[2])) if match else FAILED
    return scores if all(1 <= score <= 10 for score in scores) else None


def read_llava_scores(reply: str) -> ScorePair | None:
    """As eval_gpt_review_bench.py reads a reply; None for its [-1, -1]."""
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        return (float(parts[0]), float(parts[1])) if len(parts) == 2 else None
    except ValueError:
        return None


def read_lmms_eval_scores(reply: str) -> ScorePair | None:
    """As lmms-eval's llava-in-the-wild reads a reply; None for its [-1, -1]."""
    found = re.findall(r"-?\d+(?:\.\d+)?", reply.strip().split("\n")[0])
    return (float(found[0]), float(found[1])) if len(found) >= 2 else None


_RULES: Mapping[str, Callable[[str], ScorePair | None]] = {
    "ours": read_scores,
    "llava": read_llava_scores,
    "lmms-eval": read_lmms_eval_scores,
}


def _refuse_stale(
    questions: Sequence[BenchQuestion], answer_texts: Mapping[str, str], reviews: Sequence[Answer]
) -> None:
    hashes = {review.key[0]: review.prompt_hash for review in reviews if review.prompt_hash}
    stale = [
        one.item_id
        for one in questions
        if one.item_id in hashes
        and hashes[one.item_id] != JUDGING.hash_of(judge_prompt(one, answer_texts[one.item_id]))
    ]
    if stale:
        raise InputError(
            f"{len(stale):,} reviews are of other answers or contexts than these ({first_names(stale, SHOWN)}): "
            "move the file of reviews away, and have the answers judged again"
        )


def _figures(questions: Sequence[BenchQuestion], pairs: Mapping[str, ScorePair | None], rule: Rule) -> BenchFigures:
    read = [(one.image, pairs[one.item_id]) for one in questions]
    failed = sum(pair is None for _, pair in read)
    kept = [(image, pair or FAILED) for image, pair in read if pair or rule != "ours"]
    if not kept:
        return BenchFigures(math.nan, None, math.nan, math.nan, len(read), failed)
    images = list(dict.fromkeys(image for image, _ in kept))
    groups = np.zeros((len(images), 2))  # (images, 2): sums of the scores of reference and model
    for image, pair in kept:
        groups[images.index(image)] += pair
    reference, model = np.mean([pair for _, pair in kept], axis=0).tolist()
    interval = bootstrap_interval(groups, _relative) if len(images) >= INTERVAL_FROM else None
    relative = _relative(groups)
    if rule != "ours":  # both harnesses round the means before they divide, and the quotient
        divisor = round(reference, 3)
        relative = round(round(model, 3) / divisor * 100, 1) if divisor else math.nan
    return BenchFigures(relative, interval, reference, model, len(read), failed)


def _relative(groups: NDArray[np.floating[Any]]) -> float:
    reference, model = groups.sum(axis=0).tolist()
    return float(model / reference * 100) if reference else math.nan


def _notes(rule: Rule, whole: BenchFigures, judges: Sequence[str]) -> list[str]:
    notes = []
    if whole.failed and rule == "ours":
        notes.append(f"{whole.failed:,} of {whole.reviews:,} reviews give no two scores; they are left out.")
    elif whole.failed:
        notes.append(f"{rule} averages {whole.failed:,} of {whole.reviews:,} reviews without scores in, as -1 and -1.")
    if len(judges) > 1:
        notes.append(f"The reviews are of several judges: {', '.join(judges)}.")
    return notes
