"""A language model as the judge of answers: to questions without options, and as MMVP's own script has it.

Our judge is not told what is right. It says which option an answer means, or neither, and its verdicts are recorded
beside the answers like answers of its own: they are read by the same rule, and asked for once. MMVP's judge is told
the right option and says yes or no (tsb0601/MMVP, scripts/gpt_grader.py); its prompt is that one, to the byte.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from blindpairs.benchmark import Benchmark, Question
from blindpairs.errors import InputError
from blindpairs.evaluate.answering import AnsweringReport, Conditions, Recorder, name_of, outcomes_of
from blindpairs.evaluate.answers import AnswerFile
from blindpairs.evaluate.asking import Asking
from blindpairs.evaluate.results import ANSWERS, Setup, recorded_answers, write_failures, write_setup
from blindpairs.evaluate.scores import Key, questions_of
from blindpairs.evaluate.verdicts import Answered
from blindpairs.vlm import Answerer, Ask, Failure

JUDGE = Asking(
    "judge",
    "A person was shown an image and asked a question about it. Which of two options does the person's answer mean?\n"
    "Question: {question}\n(a) {first}\n(b) {second}\nThe person's answer: {answer}\n"
    "Reply with (a), with (b), or with the word neither. Reply with nothing else.",
    temperature=0.0,
    max_tokens=512,
)
OFFICIAL_SYSTEM = (
    "You are a helpful and precise assistant for checking the quality of the answer. Please answer in only yes or no."
)
OFFICIAL = (
    "Given the following question {question} (a) {first} (b) {second}, the correct answer is {truth}. "
    "Does the following answer correctly answers the question, answer:{answer}?"
)


def judge_setup(judge: Answerer) -> Setup:
    """What the verdicts of a judge record."""
    return Setup(judge.name, judge.settings, JUDGE, images=False)


def verdict_folder(folder: Path, setup: Setup) -> Path:
    """Where the verdicts of a judge on the answers of a folder are."""
    return folder / setup.folder_name


def judge_answers(judge: Answerer, benchmark: Benchmark, folder: Path, conditions: Conditions) -> AnsweringReport:
    """Ask the judge about every answer of a folder that it has not judged yet."""
    setup = judge_setup(judge)
    verdicts = verdict_folder(folder, setup)
    questions = questions_of(benchmark)
    answers = {one.key: one for one in recorded_answers(folder) if one.key in questions}
    with AnswerFile(verdicts / ANSWERS) as file:
        write_setup(verdicts, setup, benchmark)
        missing = [key for key in answers if key not in file.keys]
        prompts = {key: judged_text(JUDGE.template, questions[key], answers[key].text) for key in missing}
        recorder = Recorder(setup, file, prompts)
        recorder.take(outcomes_of(judge, _asks(prompts), conditions, len(missing)))
        write_failures(verdicts, recorder.failed)
    return recorder.report(kept=len(answers) - len(missing))


def judged_text(template: str, question: Question, answer: str, truth: str = "") -> str:
    """The words of a judge's request about one answer."""
    first, second = question.options
    return template.format(question=question.text, first=first, second=second, answer=answer, truth=truth)


def official_replies(
    judge: Answerer, asked: Sequence[Answered], conditions: Conditions
) -> Callable[[Answered, int], str]:
    """A judge for the reader `official`: all answers are judged now. InputError where it does not reply about one."""

    def ask(one: Answered) -> Ask:
        text = judged_text(OFFICIAL, one.question, one.text, f"({'ab'[one.truth]})")
        return Ask(name_of(one.key), (text,), OFFICIAL_SYSTEM, max_tokens=512, temperature=0.2)

    replies: dict[str, str] = {}
    for outcome in outcomes_of(judge, map(ask, asked), conditions, len(asked)):
        if isinstance(outcome, Failure):
            raise InputError(f"the judge {judge.name} does not reply ({outcome.code}: {outcome.message})")
        replies[outcome.key] = outcome.text
    return lambda one, _: replies[name_of(one.key)]


def _asks(prompts: Mapping[Key, str]) -> Iterator[Ask]:
    for key, text in prompts.items():
        yield Ask(name_of(key), (text,), max_tokens=JUDGE.max_tokens or 0, temperature=JUDGE.temperature or 0.0)
