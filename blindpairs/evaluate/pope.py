"""POPE (arXiv 2305.10355): does a model say that objects are in an image which are not? Asking, reading, figures.

The same answers give the figures of three rules:

* `llava` (haotian-liu/LLaVA, llava/eval/eval_pope.py), by which POPE numbers are published: the text before the first
  full stop is `no` if one of its words is `No`, `no` or `not`, and anything else is `yes`, also an empty answer;
* `lmms-eval` (EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/pope/utils.py): only a bare `yes` or `no` counts, in any
  case; `Yes.` is wrong, and missing from recall. Its yes ratio counts the labels, not the answers, so that it is the
  same for every model;
* `ours`: the word yes or no; an answer with neither or both is unreadable, counted wrong and counted apart.

Promises: answers are matched by the ids of questions; one that is missing is an error, never a smaller denominator;
whole images are drawn for intervals, because the questions of an image are not independent.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import ConfigError
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import Answer, AnswerFile
from blindpairs.evaluate.pope_files import SPLITS, SUFFIX, PopeQuestion
from blindpairs.evaluate.reading import REASONING
from blindpairs.evaluate.scores import BOOTSTRAP_FROM
from blindpairs.evaluate.suites import Figure, Manner, Rule, SuiteItem, ask_items, texts_by_item
from blindpairs.statistics import bootstrap_interval, effective_count, wilson_interval
from blindpairs.vlm import Answerer, Failure

Counts = NDArray[np.float64]  # (..., 6): how many answers of each kind, see _KINDS
# LLaVA's 128 tokens and greedy decoding, which lmms-eval uses, too.
MANNER = Manner("pope", max_tokens=128)
FIGURES = ("accuracy", "precision", "recall", "f1", "yes_ratio")
# (label, what was read: yes, no or neither) -> place in Counts.
_KINDS = {(True, True): 0, (False, True): 1, (False, False): 2, (True, False): 3, (True, None): 4, (False, None): 5}
_WORD = re.compile(r"(?<![\w'])(yes|no)(?![\w'])", re.IGNORECASE)
_FIRST = re.compile(r"\W*(yes|no)\b(?=\s*(?:[.,;:!*-]|$))", re.IGNORECASE)


@dataclass(frozen=True)
class PopeFigures:
    """The five figures of POPE. `unreadable` answers are wrong, and neither yes nor no."""

    accuracy: Figure
    precision: Figure  # of the answers that say yes
    recall: Figure  # of the questions whose label is yes
    f1: Figure
    yes_ratio: Figure
    questions: int
    unreadable: int


@dataclass(frozen=True)
class PopeScores:
    """By split; the mean of the splits, which papers report as POPE; and all questions together, as lmms-eval does."""

    rule: Rule
    splits: Mapping[str, PopeFigures]
    mean: PopeFigures
    pooled: PopeFigures
    notes: tuple[str, ...] = ()


def ask_pope(
    questions: Sequence[PopeQuestion], model: Answerer, answers: AnswerFile, conditions: Conditions
) -> list[Failure]:
    """Ask the questions that `answers` lacks, with LLaVA's prompt; see `suites.ask_items`."""
    items = [SuiteItem(one.item_id, one.text + SUFFIX, one.uri) for one in questions]
    return ask_items(model, items, MANNER, answers, conditions)


def score_pope(questions: Sequence[PopeQuestion], answers: Sequence[Answer], rule: Rule = "llava") -> PopeScores:
    """The figures of recorded answers. InputError for a question without an answer, ConfigError for an unknown rule."""
    if rule not in _RULES:
        raise ConfigError(f"there is no rule {rule!r} for POPE: choose one of {', '.join(_RULES)}")
    texts = texts_by_item(answers, [one.item_id for one in questions], "answers to POPE")
    splits = [split for split in SPLITS if any(one.split == split for one in questions)]
    images = list(dict.fromkeys(one.image for one in questions))
    counts = np.zeros((len(images), len(splits), len(_KINDS)))  # (images, S, 6)
    rows = {image: row for row, image in enumerate(images)}
    for one in questions:
        kind = _KINDS[one.label, _RULES[rule](texts[one.item_id])]
        counts[rows[one.image], splits.index(one.split), kind] += 1
    figures = {split: _figures(counts[:, [place]], rule) for place, split in enumerate(splits)}
    mean, pooled = _figures(counts, rule), _figures(counts.sum(axis=1, keepdims=True), rule)
    return PopeScores(rule, figures, mean, pooled, tuple(_notes(rule, counts)))


def read_llava(text: str) -> bool:
    """Whether eval_pope.py takes an answer for a yes."""
    words = text.split(".")[0].replace(",", "").split(" ")  # at spaces only: a no before a line feed is not seen
    return not {"No", "not", "no"} & set(words)


def read_lmms_eval(text: str) -> bool | None:
    """What lmms-eval compares with the label; None for what is neither."""
    return {"yes": True, "no": False}.get(text.lower().strip())


def read_yes_or_no(text: str) -> bool | None:
    """What an answer says: its first word if that is a verdict, else the only one of both words that occurs."""
    visible = REASONING.sub(" ", text)
    first = _FIRST.match(visible)
    found = {first[1].lower()} if first else {word.lower() for word in _WORD.findall(visible)}
    return found == {"yes"} if len(found) == 1 else None


_RULES: Mapping[str, Callable[[str], bool | None]] = {
    "ours": read_yes_or_no,
    "llava": read_llava,
    "lmms-eval": read_lmms_eval,
}


def _figures(counts: Counts, rule: Rule) -> PopeFigures:
    """Of counts (images, S, 6): each figure is the mean of those of the S splits."""
    asked = counts.sum(axis=(1, 2))  # (images,)
    groups = counts[asked > 0]
    whole = groups.sum(axis=0)  # (S, 6)
    values = {name: _mean(whole, name, rule) for name in FIGURES}
    if len(groups) >= BOOTSTRAP_FROM:
        intervals = {
            name: bootstrap_interval(groups, partial(_drawn, name, rule))
            for name in FIGURES
            if not math.isnan(values[name])
        }
    else:
        # As if the answers about an image always agreed: wider than the truth, and only for shares of all questions.
        trials = effective_count(asked[asked > 0])
        intervals = {name: wilson_interval(values[name], trials) for name in ("accuracy", "yes_ratio")}
    # A figure that cannot be counted in some resample has no interval.
    defined = {name: interval for name, interval in intervals.items() if not math.isnan(sum(interval))}
    figures: dict[str, Any] = {name: Figure(value, defined.get(name)) for name, value in values.items()}
    return PopeFigures(**figures, questions=int(counts.sum()), unreadable=int(whole[:, 4:].sum()))


def _drawn(name: str, rule: Rule, groups: NDArray[np.floating[Any]]) -> float:
    return _mean(np.asarray(groups.sum(axis=0), np.float64), name, rule)


def _mean(counts: Counts, name: str, rule: Rule) -> float:
    return float(np.mean([_figure(one, name, rule) for one in counts]))


def _figure(counts: Counts, name: str, rule: Rule) -> float:
    """One figure of counts (6,); where nothing can be counted it is nan, or 0 where lmms-eval says so."""
    right_yes, wrong_yes, right_no, wrong_no, unread_yes, _ = counts.tolist()
    said_yes, total = right_yes + wrong_yes, counts.sum()
    # lmms-eval leaves unreadable answers out of recall.
    labelled_yes = right_yes + wrong_no + (0.0 if rule == "lmms-eval" else unread_yes)
    nothing = 0.0 if rule == "lmms-eval" else math.nan
    precision = right_yes / said_yes if said_yes else nothing
    recall = right_yes / labelled_yes if labelled_yes else nothing
    if name == "precision":
        return precision
    if name == "recall":
        return recall
    if name == "f1":
        # 0 / 0 where both are 0, or where no answer is yes: then no object was found, and F1 is 0.
        return 2 * precision * recall / (precision + recall) if right_yes else 0.0 if labelled_yes else nothing
    if name == "accuracy":
        return float((right_yes + right_no) / total)
    # The yes ratio of lmms-eval is that of the labels.
    return float((right_yes + wrong_no + unread_yes if rule == "lmms-eval" else said_yes) / total)


def _notes(rule: Rule, counts: Counts) -> list[str]:
    kinds = counts.sum(axis=(0, 1))  # (6,)
    said_yes, total = float(kinds[0] + kinds[1]), float(kinds.sum())
    notes = []
    if rule == "lmms-eval":
        notes.append(
            f"lmms-eval's pope_yes_ratio counts the labels that are yes: this model says yes to {said_yes / total:.1%}."
        )
        if unread := int(kinds[4:].sum()):
            notes.append(f"{unread:,} answers are neither yes nor no alone: wrong, and left out of recall.")
    elif not said_yes and rule == "llava":
        notes.append("The model never says yes: eval_pope.py stops with a division by zero.")
    return notes
