"""The suites POPE, LLaVA-Bench and following.

Each is its questions with how they are asked, who answers them without looking, and a name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from blindpairs.errors import ConfigError
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import Answer, AnswerFile
from blindpairs.evaluate.asking import Asking
from blindpairs.evaluate.baselines import Baseline, guessing_yes_or_no, yes_always
from blindpairs.evaluate.following import MANNER as FOLLOWING_MANNER
from blindpairs.evaluate.following import FollowingQuestion, FollowingScores, ask_following, score_following
from blindpairs.evaluate.llava_bench import MANNER as BENCH_MANNER
from blindpairs.evaluate.llava_bench import ask_llava_bench
from blindpairs.evaluate.llava_bench_files import BenchQuestion, llava_bench_answers
from blindpairs.evaluate.pope import MANNER as POPE_MANNER
from blindpairs.evaluate.pope import PopeScores, ask_pope, score_pope
from blindpairs.evaluate.pope_files import LLAVA_QUESTIONS, SUFFIX, PopeQuestion, pope_answers
from blindpairs.evaluate.suites import Rule
from blindpairs.vlm import Answerer, Failure
from blindpairs.workspace import digest

Baselines = Mapping[str, Callable[[], Baseline]]


@dataclass(frozen=True)
class PopeSuite:
    """The questions of a folder of POPE."""

    folder: Path
    questions: Sequence[PopeQuestion]
    name = "pope"
    asking = Asking("pope", "{question}" + SUFFIX, POPE_MANNER.temperature, POPE_MANNER.max_tokens)
    usual_rule: ClassVar[Rule] = "llava"  # by which the published numbers are made
    baselines: ClassVar[Baselines] = {"random": guessing_yes_or_no, "yes": yes_always}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything but the places of the images."""
        return digest([[one.item_id, _image_name(one), one.text, one.label] for one in self.questions])[:16]

    def ask(self, model: Answerer, file: AnswerFile, conditions: Conditions, *, images: bool) -> list[Failure]:
        """Ask what `file` lacks, with the images or without them."""
        return ask_pope(_shown(self.questions, images=images), model, file, conditions)

    def answers_in(self, file: Path) -> list[Answer]:
        """The answers of a file that LLaVA's script wrote; the folder must hold the list that explains its ids."""
        known = self.folder / LLAVA_QUESTIONS
        if not known.is_file():
            raise ConfigError(f"--answers: {known} is missing, which alone says what the ids in {file.name} mean")
        return pope_answers(file, known, self.questions)

    def score(self, answers: Sequence[Answer], rule: Rule) -> PopeScores:
        """The scores of answers to all questions."""
        return score_pope(self.questions, answers, rule)


@dataclass(frozen=True)
class BenchSuite:
    """The questions of a folder of LLaVA-Bench."""

    folder: Path
    questions: Sequence[BenchQuestion]
    name = "llava-bench"
    asking = Asking("llava-bench", "{question}", BENCH_MANNER.temperature, BENCH_MANNER.max_tokens)
    usual_rule: ClassVar[Rule] = "ours"
    baselines: ClassVar[Baselines] = {}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything but the places of the images."""
        rows = [[one.item_id, _image_name(one), one.text, one.category] for one in self.questions]
        return digest([rows, [[one.context, one.reference] for one in self.questions]])[:16]

    def ask(self, model: Answerer, file: AnswerFile, conditions: Conditions, *, images: bool) -> list[Failure]:
        """Ask what `file` lacks, with the images or without them."""
        return ask_llava_bench(_shown(self.questions, images=images), model, file, conditions)

    def answers_in(self, file: Path) -> list[Answer]:
        """The answers of a file that LLaVA's script wrote."""
        return llava_bench_answers(file)


@dataclass(frozen=True)
class FollowingSuite:
    """Instructions that ask for a form, about scenes of the demo."""

    folder: Path
    questions: Sequence[FollowingQuestion]
    name = "following"
    asking = Asking("following", "{question}", FOLLOWING_MANNER.temperature, FOLLOWING_MANNER.max_tokens)
    usual_rule: ClassVar[Rule] = "ours"
    baselines: ClassVar[Baselines] = {}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything but the places of the images."""
        rows = [[one.item_id, _image_name(one), one.about, one.text, one.answer, one.form] for one in self.questions]
        return digest(rows)[:16]

    def ask(self, model: Answerer, file: AnswerFile, conditions: Conditions, *, images: bool) -> list[Failure]:
        """Ask what `file` lacks, with the images or without them."""
        return ask_following(_shown(self.questions, images=images), model, file, conditions)

    def answers_in(self, file: Path) -> list[Answer]:
        """ConfigError: nobody else asks these questions."""
        raise ConfigError(
            f"--answers: {file.name} cannot hold answers to following, which nobody else asks: leave it out"
        )

    def score(self, answers: Sequence[Answer], rule: Rule) -> FollowingScores:
        """The scores of answers to all questions. ConfigError for another rule than ours: there is none."""
        if rule != self.usual_rule:
            raise ConfigError(f"there is no rule {rule!r} for following: it is read to the letter")
        return score_following(self.questions, answers)


Suite = PopeSuite | BenchSuite | FollowingSuite
Question = PopeQuestion | BenchQuestion | FollowingQuestion
AnyQuestion = TypeVar("AnyQuestion", PopeQuestion, BenchQuestion, FollowingQuestion)


def _shown(questions: Sequence[AnyQuestion], *, images: bool) -> Sequence[AnyQuestion]:
    """The questions as a model gets them: without an image's place, it is asked without the image."""
    return questions if images else [replace(question, uri="") for question in questions]


def _image_name(question: Question) -> str:
    """The image's name; a question of a table without names has its place there, which is not the same elsewhere."""
    return "" if question.image == question.uri else question.image
