"""People answer the questions of a benchmark, one image at a time and without the key: the paper's human study.

"Eyes Wide Shut?" (arXiv 2401.06209, section 3.1) asked people 300 questions in random order; their 95.7 % is most
likely per question, so question and pair accuracy both stand here. A participant NAME is recorded as a model
`human:NAME` in the format of all answers, so that `blindpairs eval --model human:NAME` reads people as models.

Promises: an answer that was reported as saved survives a kill; a participant goes on where the last answer ended, in
the same order; the two images of a pair never follow each other; what a page gets names neither the pair nor its side;
an answer that is sent twice is kept once, and another one to the same question is refused: answers are never rewritten.
"""

import math
import threading
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import TracebackType

import numpy as np

from blindpairs.benchmark import Benchmark, Question
from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.answers import Answer, AnswerFile, read_answers
from blindpairs.evaluate.asking import Asking
from blindpairs.evaluate.reading import LETTERS, read_answer
from blindpairs.evaluate.results import (
    ANSWERS,
    Setup,
    answer_folders,
    benchmark_folder,
    check_origin,
    read_setup,
    write_setup,
)
from blindpairs.evaluate.scores import Key, keys_of, questions_of
from blindpairs.evaluate.study_order import asked_order
from blindpairs.statistics import Rate, effective_count, rate_of
from blindpairs.workspace import digest

HUMAN = "human:"
STUDY = Asking("study", "{question}\n(a) {first}\n(b) {second}")
CANNOT_TELL = "I cannot tell."  # read as no option, so it counts as wrong, and as unreadable
LONGEST_NAME = 40
SECONDS = 5.0  # that a question is taken to need from who has answered fewer than PACE_FROM
PACE_FROM = 10
LONG = 30  # minutes, above which people want to be asked less
FEWER = 50  # pairs, as an example of less


@dataclass(frozen=True)
class StudyItem:
    """One question about one image, as a participant sees it: nothing in it says which pair it is of."""

    token: str  # stands for the question when it is answered
    question: str
    options: tuple[str, str]
    image_id: str


@dataclass(frozen=True)
class Participation:
    """How far a participant is."""

    name: str
    answered: int
    questions: int


@dataclass(frozen=True)
class StudyScores:
    """How right people are. Pairs are those of which a participant answered both images, counted once for each.

    The intervals are Wilson's. Answers about one pair are not independent: they count as many as `effective_count`.
    """

    participants: tuple[str, ...]
    questions: Rate
    pairs: Rate
    seconds: float | None = None  # the median of an answer


def spec_of(name: str) -> str:
    """`human:NAME`; InputError for a name that cannot be part of a spec, or that people could not tell from another."""
    name = unicodedata.normalize("NFC", name.strip())
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or set(name) & set("/@"):
        raise InputError(
            f"{name[:LONGEST_NAME]!r} cannot be the name of a participant: give one of visible characters without / "
            f"and @, {LONGEST_NAME} at most"
        )
    return HUMAN + name


def setup_of(name: str) -> Setup:
    """How a participant is asked. Names that differ are different people, also in their folders."""
    spec = spec_of(name)
    return Setup(spec, {"kind": "human", "name": spec.removeprefix(HUMAN)}, STUDY)


class Study:
    """A study of one benchmark with any number of participants; several threads may use it.

    It holds the folder of each participant who takes part here, so that no other process answers for the same person;
    a context manager, which gives them back.
    """

    def __init__(self, results: Path, benchmark: Benchmark, *, limit: int | None = None) -> None:
        """`limit` asks about so many pairs only, the same for everybody. ConfigError where nothing can be asked."""
        pairs = [pair for pair in benchmark.pairs if pair.question][:limit]
        self._benchmark = replace(benchmark, pairs=tuple(pairs))
        self._whole = benchmark
        self._folder = benchmark_folder(results, benchmark)
        self._questions = questions_of(self._benchmark)
        self._images = self._benchmark.image_of_side
        self._open: dict[str, _Participant] = {}
        self._lock = threading.Lock()
        if not self._questions:
            raise ConfigError(f"{benchmark.name} has no questions: people cannot be asked anything")

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the folders back; nothing waits to be written."""
        with self._lock:
            for one in self._open.values():
                one.file.close()
            self._open.clear()

    @property
    def questions(self) -> int:
        """How many everybody is asked."""
        return len(self._questions)

    @property
    def image_ids(self) -> set[str]:
        """The images that are shown."""
        return set(self._images.values())

    def next_items(self, name: str, count: int = 2) -> list[StudyItem]:
        """What this participant is asked next, the first one first; a `count` of 2 lets a page load the next early.

        Raises Locked where another process asks the same person, and InputError for a name that cannot be used.
        """
        with self._lock:
            one = self._participant(name)
            left = [key for key in one.order if key not in one.said][:count]
            return [self._item(one, key) for key in left]

    def answer(self, name: str, token: str, option: int | None, seconds: float | None = None) -> Participation:
        """Keep the option, 0 or 1, that a participant chose, None for who cannot tell; saved when this returns.

        InputError for a token that stands for no question, an option that is none, seconds that are no number, and
        another answer than before.
        """
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise InputError(f"{seconds} is not a number of seconds")
        with self._lock:
            one = self._participant(name)
            key = one.tokens.get(token)
            if key is None:
                raise InputError("this question is not part of the study: reload the page")
            said = _text(option, self._questions[key])
            before = one.said.get(key)
            if before is not None and before != said:
                raise InputError("this question was answered before, in another way: answers are never rewritten")
            if before is None:
                prompt = digest(STUDY.text(self._questions[key]))[:16]
                settings = one.setup.answer_settings()
                one.file.append([Answer(key, said, STUDY.name, prompt, one.setup.model, settings, seconds, "stop")])
                one.said[key] = said
                one.took += [] if seconds is None else [seconds]
            return self._participation(one)

    def participation(self, name: str) -> Participation:
        """How far a participant is."""
        with self._lock:
            return self._participation(self._participant(name))

    def minutes_left(self, name: str) -> int:
        """About how long the rest takes a participant, by the pace until now."""
        with self._lock:
            one = self._participant(name)
            seconds = median(one.took) if len(one.took) >= PACE_FROM else SECONDS
            return minutes_for(sum(key not in one.said for key in one.order), seconds)

    def _participation(self, one: "_Participant") -> Participation:
        answered = sum(key in one.said for key in one.order)
        return Participation(one.setup.model.removeprefix(HUMAN), answered, len(one.order))

    def _participant(self, name: str) -> "_Participant":
        setup = setup_of(name)
        if setup.model not in self._open:
            folder = self._folder / setup.folder_name
            file = AnswerFile(folder / ANSWERS)
            try:
                write_setup(folder, setup, self._whole)
                answers = list(read_answers(folder / ANSWERS))
            except BaseException:
                file.close()
                raise
            said = {answer.key: answer.text for answer in answers}
            took = [answer.seconds for answer in answers if answer.seconds is not None]
            order = asked_order(self._questions, f"{setup.model} {self._whole.fingerprint}")
            tokens = {_token(setup.model, key): key for key in order}
            self._open[setup.model] = _Participant(setup, file, said, took, order, tokens)
        return self._open[setup.model]

    def _item(self, one: "_Participant", key: Key) -> StudyItem:
        question = self._questions[key]
        return StudyItem(_token(one.setup.model, key), question.text, question.options, self._images[key[:2]])


@dataclass
class _Participant:
    setup: Setup
    file: AnswerFile
    said: dict[Key, str]
    took: list[float]  # seconds of each answer, where they are known
    order: list[Key]
    tokens: dict[str, Key]


def minutes_for(questions: int, seconds: float = SECONDS) -> int:
    """So many questions of so many seconds, in whole minutes."""
    return math.ceil(questions * seconds / 60)


def duration(minutes: int) -> str:
    """`1 h 36 min`."""
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def recorded_human(folder: Path, spec: str, benchmark: Benchmark | None = None) -> Path:
    """Where the answers of `human:NAME` are among the results on one benchmark. InputError names who is there."""
    people = _people(folder)
    if spec not in people:
        there = ", ".join(people) or "nobody has answered"
        raise InputError(f"{spec}: no answers are recorded in {folder} ({there}): `blindpairs study` records them")
    read_setup(people[spec], benchmark)  # refuses answers about another revision
    return people[spec]


def participants(folder: Path) -> list[str]:
    """The specs of the people whose answers are recorded among the results on one benchmark."""
    return sorted(_people(folder))


def study_scores(truth: Benchmark, folder: Path) -> dict[str, StudyScores]:
    """The scores of each participant by spec, of what each has answered, and of all together under "" if any did."""
    said = {}
    for spec, place in sorted(_people(folder).items()):
        answers = list(read_answers(place / ANSWERS))
        check_origin(place, read_setup(place), answers)
        said[spec] = answers
    scores = {spec: scores_of(truth, {spec: answers}) for spec, answers in said.items()}
    return scores | ({"": scores_of(truth, said)} if said else {})


def scores_of(truth: Benchmark, said: dict[str, list[Answer]]) -> StudyScores:
    """The scores of the answers of some participants, by spec; of blind pairs only, unless there are none."""
    right: dict[str, list[bool]] = {}
    whole: dict[str, list[bool]] = {}
    asked = [pair for pair in truth.pairs if pair.question]
    pairs = [pair for pair in asked if not pair.is_control] or asked
    counted = {key for pair in pairs for key in keys_of(pair)}
    options = {key: one for key, one in questions_of(truth).items() if key[2] == "first" and key in counted}
    for answers in said.values():
        given = {
            one.key: read_answer(one.text, options[one.key].options).option for one in answers if one.key in options
        }
        hits = {key: option == options[key].answers["ab".index(key[1])] for key, option in given.items()}
        for key, hit in hits.items():
            right.setdefault(key[0], []).append(hit)
        for pair in pairs:
            keys = [key for key in keys_of(pair) if key[2] == "first"]
            if all(key in hits for key in keys):
                whole.setdefault(pair.pair_id, []).append(all(hits[key] for key in keys))
    seconds = [one.seconds for answers in said.values() for one in answers if one.seconds is not None]
    took = median(seconds) if seconds else None
    return StudyScores(tuple(sorted(said)), _grouped(right), _grouped(whole), took)


def _grouped(groups: dict[str, list[bool]]) -> Rate:
    """The share of all trials, with Wilson's interval for as many as their groups can stand for."""
    trials = [hit for group in groups.values() for hit in group]
    return rate_of(trials, effective_count(np.array([len(group) for group in groups.values()])))


def _text(option: int | None, question: Question) -> str:
    """What is recorded for an option: text that our own reader reads as this option."""
    if option is None:
        return CANNOT_TELL
    if option not in (0, 1):
        raise InputError(f"option {option} is neither 0 nor 1")
    for text in (f"({LETTERS[option]})", question.options[option]):
        if read_answer(text, question.options).option == option:
            return text
    raise InputError(f"the options {question.options[0]!r} and {question.options[1]!r} cannot be told apart")


def _token(model: str, key: Key) -> str:
    return digest(["study", model, *key])[:24]


def _people(folder: Path) -> dict[str, Path]:
    """The folder of each participant by spec, among the results on one benchmark."""
    found = {read_setup(one).model: one for one in answer_folders(folder)}
    return {spec: one for spec, one in found.items() if spec.startswith(HUMAN)}
