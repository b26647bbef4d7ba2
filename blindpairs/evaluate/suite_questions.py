"""The questions of POPE and of LLaVA-Bench, each with how it is asked, who answers it without looking, and its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from blindpairs.errors import ConfigError
from blindpairs.evaluate import suites
from blindpairs.evaluate.answers import Answer, AnswerFile
from blindpairs.evaluate.asking import Asking
from blindpairs.evaluate.baselines import Baseline, guessing_yes_or_no, yes_always
from blindpairs.evaluate.llava_bench import MANNER as BENCH_MANNER
from blindpairs.evaluate.llava_bench import ask_llava_bench
from blindpairs.evaluate.llava_bench_files import BenchQuestion, llava_bench_answers
from blindpairs.evaluate.pope import MANNER as POPE_MANNER
from blindpairs.evaluate.pope import Rule, ask_pope
from blindpairs.evaluate.pope_files import LLAVA_QUESTIONS, SUFFIX, PopeQuestion, pope_answers
from blindpairs.vlm import Answerer, Failure
from blindpairs.workspace import digest

Baselines = Mapping[str, Callable[[], Baseline]]
RULES: tuple[Rule, ...] = ("ours", "llava", "lmms-eval")


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
        return digest([[one.item_id, _named(one), one.text, one.label] for one in self.questions])[:16]

    def ask(self, model: Answerer, file: AnswerFile, asking: suites.Asking, *, images: bool) -> list[Failure]:
        """Ask what `file` lacks, with the images or without them."""
        shown = self.questions if images else [replace(one, uri="") for one in self.questions]
        return ask_pope(shown, model, file, asking)

    def answers_in(self, file: Path) -> list[Answer]:
        """The answers of a file that LLaVA's script wrote; the folder must hold the list that explains its ids."""
        known = self.folder / LLAVA_QUESTIONS
        if not known.is_file():
            raise ConfigError(f"--answers: {known} is missing, which alone says what the ids in {file.name} mean")
        return pope_answers(file, known, self.questions)


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
        rows = [[one.item_id, _named(one), one.text, one.category] for one in self.questions]
        return digest([rows, [[one.context, one.reference] for one in self.questions]])[:16]

    def ask(self, model: Answerer, file: AnswerFile, asking: suites.Asking, *, images: bool) -> list[Failure]:
        """Ask what `file` lacks, with the images or without them."""
        shown = self.questions if images else [replace(one, uri="") for one in self.questions]
        return ask_llava_bench(shown, model, file, asking)

    def answers_in(self, file: Path) -> list[Answer]:
        """The answers of a file that LLaVA's script wrote."""
        return llava_bench_answers(file)


Suite = PopeSuite | BenchSuite


def _named(question: PopeQuestion | BenchQuestion) -> str:
    """The image's name; a question of a table without names has its place there, which is not the same elsewhere."""
    return "" if question.image == question.uri else question.image
