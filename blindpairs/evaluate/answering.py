"""Asks a model every question of a benchmark that is not answered yet, and records what it says.

Promises: whatever ends a run, every answer is on disk, and after a kill in the cache of replies: none is asked for
again, and the same call goes on where it ended. A shard asks about its own pairs and no others, so that n of them, in
any order, record what one run would. A question without an answer is a failure with a reason, never an answer.

What a model refuses to say, and an empty reply, are answers: they are recorded as such and cannot be read. Otherwise a
model would be scored on the questions that it liked.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from blindpairs.benchmark import Benchmark, Question
from blindpairs.errors import BlindpairsError, BudgetSpent, EndpointFailed, Undecodable
from blindpairs.evaluate.answers import Answer, AnswerFile, read_answers
from blindpairs.evaluate.baselines import Baseline
from blindpairs.evaluate.pictures import upright_picture
from blindpairs.evaluate.results import (
    ANSWERS,
    WHOLE,
    Setup,
    Shard,
    answer_files,
    check_revision,
    shard_folder,
    write_failures,
    write_setup,
)
from blindpairs.evaluate.scores import Key, questions_of
from blindpairs.progress import Progress, silent
from blindpairs.vlm import Answerer, Ask, Budget, Cache, Failure, Meter, Picture, Plan, Reply, ask_all, plan
from blindpairs.workspace import digest

BATCH = 64  # answers that are written together; what a kill loses of them is in the cache
SAID_NOTHING = ("empty", "refused")  # failures of a model that are its answer
BLANK = Picture(b"", "image/png")  # stands for an image where only the cost is wanted


@dataclass(frozen=True)
class Conditions:
    """Where replies are kept, what a run may spend, and whom it tells how far it is."""

    cache: Cache
    budget: Budget | Meter = field(default_factory=Budget)  # a meter is one that several runs share
    progress: Progress = silent


@dataclass(frozen=True)
class Planned:
    """What asking what is missing would take. `seconds` is what one answer took until now, None without any."""

    setup: Setup
    plan: Plan
    answered: int
    seconds: float | None


@dataclass(frozen=True)
class AnsweringReport:
    """What a run did. `stopped` is what ended it early; what was answered before is recorded."""

    answered: int
    kept: int  # answered before
    failures: Mapping[Key, Failure]
    stopped: BlindpairsError | None = None


def answer_questions(
    setup: Setup,
    answerer: Answerer | Baseline,
    benchmark: Benchmark,
    folder: Path,
    conditions: Conditions,
    shard: Shard = WHOLE,
) -> AnsweringReport:
    """Ask what is missing. `benchmark` has the questions as they are shown: with exchanged options where `setup` says.

    Raises Locked while another run records the same share, and InputError for a folder that cannot be used.
    """
    shard_path = shard_folder(folder, shard)
    check_revision(folder, benchmark)
    with AnswerFile(shard_path / ANSWERS) as file:
        write_setup(folder, setup, benchmark)
        others = (path for path in answer_files(folder) if path != shard_path / ANSWERS)
        before = file.keys | {answer.key for other in others for answer in read_answers(other)}
        questions = shard_questions(benchmark, shard)
        missing = {key: question for key, question in questions.items() if key not in before}
        recorder = Recorder(setup, file, {key: setup.asking.text(question) for key, question in missing.items()})
        if isinstance(answerer, Baseline):
            recorder.take(Reply(name_of(key), answerer.answer(key), 0.0, None, None, "stop") for key in missing)
        elif missing:
            asks = missing_asks(setup, benchmark, missing, recorder.failed)
            recorder.take(outcomes_of(answerer, asks, conditions, len(missing)))
        write_failures(shard_path, recorder.failed)
    return recorder.report(kept=len(questions) - len(missing))


def shard_questions(benchmark: Benchmark, shard: Shard) -> dict[Key, Question]:
    """The questions of every n-th pair, from pair i on; the two questions of a pair stay together."""
    index, count = shard
    pair_ids = {pair.pair_id for number, pair in enumerate(benchmark.pairs) if number % count == index}
    return {key: question for key, question in questions_of(benchmark).items() if key[0] in pair_ids}


def missing_plan(setup: Setup, missing: dict[Key, Question]) -> Plan:
    """What asking these questions would cost; reads no image."""
    picture = BLANK if setup.images else None
    return plan(setup.asking.ask(name_of(key), question, picture) for key, question in missing.items())


def missing_asks(
    setup: Setup, benchmark: Benchmark, missing: dict[Key, Question], failed: dict[Key, Failure]
) -> Iterator[Ask]:
    """The requests for some questions. Images are read as they are needed; those that cannot be go to `failed`."""
    if not setup.images:
        yield from (setup.asking.ask(name_of(key), question, None) for key, question in missing.items())
        return
    image_of = benchmark.image_of_side
    keys_by_image: dict[str, list[Key]] = {}
    for key in missing:
        keys_by_image.setdefault(image_of[key[:2]], []).append(key)
    for image, data in benchmark.images(list(keys_by_image)):
        try:
            if isinstance(data, Undecodable):
                raise data
            picture = upright_picture(data)
        except Undecodable as error:
            reason = f"its image cannot be used ({error.code}): {error.message}"
            failed |= {key: Failure(name_of(key), "bad_image", reason) for key in keys_by_image[image]}
            continue
        yield from (setup.asking.ask(name_of(key), missing[key], picture) for key in keys_by_image[image])


def outcomes_of(
    answerer: Answerer, asks: Iterable[Ask], conditions: Conditions, total: int
) -> Iterator[Reply | Failure]:
    """The outcomes of `total` requests under these conditions."""
    cache, budget, progress = conditions.cache, conditions.budget, conditions.progress
    return ask_all(answerer, asks, cache=cache, budget=budget, progress=progress, total=total)


@dataclass
class Recorder:
    """Turns outcomes into recorded answers, a batch at a time."""

    setup: Setup
    file: AnswerFile
    prompts: Mapping[Key, str]  # of every question that is asked
    failed: dict[Key, Failure] = field(default_factory=dict)
    answered: int = 0
    stopped: BlindpairsError | None = None  # what ended the run early

    def take(self, outcomes: Iterable[Reply | Failure]) -> None:
        """Record until the outcomes end, in whatever way: what was said before an error is recorded, too.

        A budget that is spent, or an endpoint that fails, is kept in `stopped`; every other error is raised.
        """
        batch: list[Answer] = []
        keys = {name_of(key): key for key in self.prompts}  # outcomes come in any order
        try:
            for outcome in outcomes:
                key = keys[outcome.key]
                if isinstance(outcome, Failure) and outcome.code not in SAID_NOTHING:
                    self.failed[key] = outcome
                    continue
                batch.append(self._answer(key, outcome))
                if len(batch) == BATCH:
                    self._write(batch)
        except (BudgetSpent, EndpointFailed) as error:
            self.stopped = error
        finally:
            self._write(batch)

    def report(self, kept: int) -> AnsweringReport:
        """What the run did; `kept` are the answers that were there before it."""
        return AnsweringReport(self.answered, kept, self.failed, self.stopped)

    def _answer(self, key: Key, outcome: Reply | Failure) -> Answer:
        asking = self.setup.asking
        prompt = digest(self.prompts[key])[:16] if asking.template else ""
        answer = Answer(key, "", asking.name, prompt, self.setup.model, self.setup.answer_settings())
        if isinstance(outcome, Failure):
            return replace(answer, finish=outcome.code)
        return replace(answer, text=outcome.text, seconds=outcome.seconds, finish=outcome.finish)

    def _write(self, batch: list[Answer]) -> None:
        self.file.append(batch)
        self.answered += len(batch)
        batch.clear()


def name_of(key: Key) -> str:
    """A key as one text; its last two words are the side and the question, whatever the pair's id is."""
    return " ".join(key)
