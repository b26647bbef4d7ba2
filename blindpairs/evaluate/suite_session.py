"""One evaluation of a suite from specs to scores, recorded as the answers to a benchmark are.

    with open_cache(space.replies) as cache:
        suite = PopeSuite(folder, read_pope(folder))
        session = SuiteSession(space.results, suite, Conditions(cache), partial(open_model, work=space.root))
        entry = session.answer(session.respondent("openai:llava@http://localhost:8000/v1"))
        session.score(entry, ["llava"])

    results/<suite>-<fingerprint>/<model>-<hash>/answers.jsonl
    results/<suite>-<fingerprint>/<model>-<hash>/<judge>-<hash>/answers.jsonl   the reviews of LLaVA-Bench

The fingerprint is over the questions and not over the images, which may be a gigabyte: their names stand for them.
Promises: what is answered, or reviewed, is not asked again; scores are of complete answers only.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from blindpairs.errors import BlindpairsError, BudgetSpent, EndpointFailed, InputError
from blindpairs.evaluate.answering import BLANK, Conditions, Planned
from blindpairs.evaluate.answers import Answer, AnswerFile, item_key, mean_seconds
from blindpairs.evaluate.asking import Asking
from blindpairs.evaluate.baselines import UNASKED, Baseline
from blindpairs.evaluate.following import FollowingScores
from blindpairs.evaluate.llava_bench import (
    JUDGING,
    BenchScores,
    judge_llava_bench,
    judge_prompt,
    score_llava_bench,
)
from blindpairs.evaluate.llava_bench import MANNER as BENCH_MANNER
from blindpairs.evaluate.llava_bench_files import llava_bench_reviews
from blindpairs.evaluate.pope import PopeScores
from blindpairs.evaluate.results import (
    ANSWERS,
    Setup,
    answer_folders,
    benchmark_folder,
    check_revision,
    read_setup,
    record_imported,
    recorded_answers,
    write_scores,
    write_setup,
)
from blindpairs.evaluate.suite_questions import BenchSuite, Question, Suite
from blindpairs.evaluate.suites import Rule
from blindpairs.progress import Progress, silent
from blindpairs.vlm import Answerer, Ask, Failure, Plan, plan
from blindpairs.vlm.budget import CHARACTERS_PER_TOKEN
from blindpairs.workspace import sha256_file

SuiteScores = PopeScores | BenchScores | FollowingScores
REVIEW = Asking("review", JUDGING.system, JUDGING.temperature, JUDGING.max_tokens)


@dataclass(frozen=True)
class SuiteRespondent:
    """A model or a baseline, and how it is asked."""

    setup: Setup
    answerer: Answerer | Baseline


@dataclass
class SuiteEntry:
    """A folder of answers, and what this run made of it. `missing` counts questions without an answer or a review."""

    folder: Path
    setup: Setup
    answered_now: int = 0
    answered: int = 0
    missing: int = 0
    failures: list[Failure] = field(default_factory=list)
    stopped: BlindpairsError | None = None
    scores: list[SuiteScores] = field(default_factory=list)


class SuiteSession:
    """Evaluations of one suite."""

    def __init__(
        self, results: Path, suite: Suite, conditions: Conditions, open_model: Callable[[str], Answerer]
    ) -> None:
        self.suite = suite
        self.folder = benchmark_folder(results, suite)
        self._conditions = conditions
        self._open = open_model
        self._wanted = {item_key(one.item_id) for one in suite.questions}

    def respondent(self, spec: str) -> SuiteRespondent:
        """Who a spec names: a baseline of the suite, a model, or `blind:` and a model, asked without the images."""
        if spec in self.suite.baselines:
            baseline = self.suite.baselines[spec]()
            return SuiteRespondent(Setup(spec, baseline.settings, UNASKED, images=False), baseline)
        blind = spec.startswith("blind:")
        model = self._open(spec.removeprefix("blind:"))
        name = f"blind:{model.name}" if blind else model.name
        return SuiteRespondent(Setup(name, model.settings, self.suite.asking, images=not blind), model)

    def plan(self, respondent: SuiteRespondent) -> Planned:
        """What asking somebody would take; reads no image, and leaves the judge out."""
        setup = respondent.setup
        before = {answer.key: answer for answer in recorded_answers(self.folder / setup.folder_name)}
        missing = [one for one in self.suite.questions if item_key(one.item_id) not in before]
        left = {(one.uri, one.text): one for one in missing}.values()  # POPE's splits share questions: asked once
        asked = not isinstance(respondent.answerer, Baseline)
        cost = plan(self._request(one, setup) for one in left) if asked else Plan()
        return Planned(setup, cost, len(before), mean_seconds(before.values()))

    def _request(self, one: Question, setup: Setup) -> Ask:
        text = self.suite.asking.template.format(question=one.text)
        parts = (BLANK, text) if setup.images else (text,)
        return Ask(one.item_id, parts, max_tokens=setup.asking.max_tokens or 0)

    def answer(self, respondent: SuiteRespondent, progress: Progress = silent) -> SuiteEntry:
        """Ask what is missing."""
        setup = respondent.setup
        entry = SuiteEntry(self.folder / setup.folder_name, setup)
        check_revision(entry.folder, self.suite)
        with AnswerFile(entry.folder / ANSWERS) as file:
            write_setup(entry.folder, setup, self.suite)
            before = len(file.keys)
            if isinstance(respondent.answerer, Baseline):
                _record_baseline(respondent.answerer, self.suite, file)
            else:
                conditions, model = replace(self._conditions, progress=progress), respondent.answerer
                _ask(entry, lambda: self.suite.ask(model, file, conditions, images=setup.images))
            entry.answered_now = len(file.keys) - before
        return entry

    def import_answers(self, file: Path) -> SuiteEntry:
        """Record the answers in a file of LLaVA's. InputError for a file without any."""
        answers = self.suite.answers_in(file)
        if not answers:
            raise InputError(f"{file} holds no answers to {self.suite.name}")
        model = next((answer.model for answer in answers if answer.model), "") or file.stem
        settings = {"kind": "imported", "file": file.name, "sha256": sha256_file(file)}
        setup = Setup(model, settings, Asking("imported:llava"))
        entry = SuiteEntry(self.folder / setup.folder_name, setup)
        entry.answered_now = record_imported(entry.folder, setup, self.suite, answers)
        return entry

    def recorded(self, known: Collection[Path]) -> list[SuiteEntry]:
        """All recorded answers besides those that are known."""
        return [SuiteEntry(folder, read_setup(folder)) for folder in answer_folders(self.folder) if folder not in known]

    def complete(self, entry: SuiteEntry) -> bool:
        """Whether every question has an answer."""
        return self._wanted <= {answer.key for answer in recorded_answers(entry.folder)}

    def score(
        self,
        entry: SuiteEntry,
        rules: Sequence[Rule],
        judge: Answerer | Path | None = None,
        progress: Progress = silent,
    ) -> None:
        """Score complete answers by each rule, and write that beside them; those to LLaVA-Bench are judged first.

        `judge` may be a file of reviews by LLaVA's script. InputError where such a file lacks a review.
        """
        answers = recorded_answers(entry.folder)
        entry.answered = len(self._wanted & {answer.key for answer in answers})
        entry.missing = len(self._wanted) - entry.answered
        if not entry.missing:
            if isinstance(self.suite, BenchSuite):
                assert judge is not None
                entry.scores += self._judged(entry, answers, rules, judge, progress)
            else:
                entry.scores += [self.suite.score(answers, rule) for rule in rules]
        if entry.scores:
            write_scores(entry.folder, {"scores": {one.rule: score_fields(one) for one in entry.scores}})

    def _judged(
        self,
        entry: SuiteEntry,
        answers: Sequence[Answer],
        rules: Sequence[Rule],
        judge: Answerer | Path,
        progress: Progress,
    ) -> list[BenchScores]:
        assert isinstance(self.suite, BenchSuite)
        questions = self.suite.questions
        if isinstance(judge, Path):
            reviews = llava_bench_reviews(judge)
        else:
            reviews = self._reviewed(entry, answers, judge, progress)
            entry.missing = len(self._wanted - {review.key for review in reviews})
        return [] if entry.missing else [score_llava_bench(questions, answers, reviews, rule) for rule in rules]

    def _reviewed(
        self, entry: SuiteEntry, answers: Sequence[Answer], judge: Answerer, progress: Progress
    ) -> list[Answer]:
        assert isinstance(self.suite, BenchSuite)
        questions = self.suite.questions
        setup = _reviewing(judge)
        reviews, conditions = entry.folder / setup.folder_name, replace(self._conditions, progress=progress)
        with AnswerFile(reviews / ANSWERS) as file:
            write_setup(reviews, setup, self.suite)
            _ask(entry, lambda: judge_llava_bench(questions, answers, judge, file, conditions))
        return recorded_answers(reviews)

    def plan_reviews(self, planned: Planned, judge: Answerer) -> Plan:
        """What the judge would take at most: answers that are not there yet count as long as they may be."""
        assert isinstance(self.suite, BenchSuite)
        folder = self.folder / planned.setup.folder_name
        reviews = folder / _reviewing(judge).folder_name
        reviewed = {review.key for review in recorded_answers(reviews)}
        answer_texts = {answer.key: answer.text for answer in recorded_answers(folder)}
        # An answer that is not there yet costs the judge as much as the longest that the model may give.
        longest = "x" * (CHARACTERS_PER_TOKEN * BENCH_MANNER.max_tokens)
        left = {item_key(one.item_id): one for one in self.suite.questions}
        prompts = [
            judge_prompt(one, answer_texts.get(key, longest)) for key, one in left.items() if key not in reviewed
        ]
        return plan(Ask("", (text,), JUDGING.system, max_tokens=JUDGING.max_tokens) for text in prompts)


def _reviewing(judge: Answerer) -> Setup:
    return Setup(judge.name, judge.settings, REVIEW, images=False)


def _ask(entry: SuiteEntry, run: Callable[[], list[Failure]]) -> None:
    """Keep what got no answer, and what ended the run early: everything that was answered is recorded by then."""
    try:
        entry.failures += run()
    except (BudgetSpent, EndpointFailed) as error:
        entry.stopped = error


def _record_baseline(baseline: Baseline, suite: Suite, file: AnswerFile) -> None:
    keys = [item_key(one.item_id) for one in suite.questions]
    file.append(
        Answer(key, baseline.answer(key), UNASKED.name, "", baseline.name, baseline.settings, 0.0, "stop")
        for key in keys
        if key not in file.keys
    )


def score_fields(scores: SuiteScores) -> dict[str, Any]:
    """Scores as JSON: shares from 0 to 1, relative scores in percent; null where nothing was counted."""
    return {name: _json_value(value) for name, value in asdict(scores).items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_value(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(one) for one in value]
    return None if isinstance(value, float) and value != value else value
