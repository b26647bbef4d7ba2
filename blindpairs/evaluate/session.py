"""One evaluation from specs to scores: models are opened, asked and judged, and what they said is read and scored.

    with open_cache(space.replies) as cache:
        session = Session(space.results, benchmark, Conditions(cache), partial(open_model, work=space.root))
        entry = session.answer(Asked("openai:llava@http://localhost:8000/v1"))
        session.score([entry], Rules())
        print("\\n".join(model_table([entry.summary])))

Answers are filed under the benchmark as it was opened, and may be scored by another ground truth: what a model says
does not depend on what is right.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blindpairs.benchmark import Benchmark
from blindpairs.benchmark.sidecar import read_sidecar
from blindpairs.errors import BlindpairsError, ConfigError, InputError
from blindpairs.evaluate.answering import (
    AnsweringReport,
    Conditions,
    Planned,
    answer_questions,
    missing_plan,
    shard_questions,
)
from blindpairs.evaluate.answers import Answer, mean_seconds
from blindpairs.evaluate.as_official import recorded_replies
from blindpairs.evaluate.asking import FREE_FORM, PROTOCOLS, Asking, exchanged
from blindpairs.evaluate.baselines import UNASKED, Baseline, first_option, guessing
from blindpairs.evaluate.foreign_answers import import_answers
from blindpairs.evaluate.judging import judge_answers, judge_setup, official_replies, verdict_folder
from blindpairs.evaluate.readers import OURS, READERS, Disagreement, explain, read_with
from blindpairs.evaluate.results import (
    WHOLE,
    Setup,
    Shard,
    answer_folders,
    benchmark_folder,
    check_origin,
    read_failures,
    read_setup,
    record_imported,
    recorded_answers,
    write_scores,
)
from blindpairs.evaluate.scores import Key, keys_of
from blindpairs.evaluate.study import recorded_human
from blindpairs.evaluate.summary import BothOrders, Summary, both_orders, rate_fields, summarise
from blindpairs.evaluate.verdicts import Judging, ReaderScores, answered
from blindpairs.progress import Progress, silent
from blindpairs.vlm import Answerer, Failure, Plan, open_cache
from blindpairs.vlm.specs import parse_model_spec
from blindpairs.workspace import sha256_file

BASELINES: Mapping[str, Callable[[], Baseline]] = {"random": guessing, "first": first_option}


@dataclass(frozen=True)
class Asked:
    """Whom to ask, and how."""

    spec: str  # of a model, `blind:` and one, `random`, `first`, or `recorded:` and a folder of the results
    asking: Asking = PROTOCOLS["ours"]
    exchanged: bool = False  # whether the options are shown in the other order


@dataclass(frozen=True)
class Rules:
    """How answers are read and counted."""

    readers: Sequence[str] = ()  # others than ours, whose numbers are wanted, too
    explain: bool = False  # list what they score otherwise
    judge: str = ""  # the spec of a model, or the path of a file of its recorded replies
    complete_pairs: bool = False  # score the complete pairs of incomplete answers

    def __post_init__(self) -> None:
        for name in self.readers:
            if name not in READERS:
                raise ConfigError(f"there is no reader {name!r}: choose one of {', '.join(READERS)}")
        if "official" in self.readers and not self.judge:
            raise ConfigError("--read official needs a judge: name a model, or the file of its replies, with --judge")


@dataclass
class Entry:
    """A folder of answers, and what this run made of it."""

    folder: Path
    setup: Setup
    report: AnsweringReport | None = None  # None where nothing was asked
    notes: Sequence[str] = ()
    summary: Summary | None = None
    verdicts: Sequence[Answer] | None = None  # of a judge, which were scored in place of the answers
    readouts: list[ReaderScores] = field(default_factory=list)
    differences: dict[str, list[Disagreement]] = field(default_factory=dict)
    both_orders: BothOrders | None = None


class Session:
    """Evaluations of one benchmark. `truth` is the same benchmark with the ground truth that counts."""

    def __init__(
        self,
        results: Path,
        benchmark: Benchmark,
        conditions: Conditions,
        open_model: Callable[[str], Answerer],
        truth: Benchmark | None = None,
        shard: Shard = WHOLE,
    ) -> None:
        self.benchmark = benchmark
        self.truth = truth or benchmark
        self.folder = benchmark_folder(results, benchmark)
        self._conditions = conditions
        self._shard = shard
        self._open = open_model
        self._opened: dict[str, Answerer] = {}

    def check(self, spec: str) -> None:
        """Raise ConfigError or InputError for a spec that names nobody. Opens no model."""
        kind, _, target = spec.partition(":")
        if kind == "human":
            recorded_human(self.folder, spec, self.benchmark)
        elif kind == "recorded":
            self._recorded_setup(target)
        elif spec not in BASELINES:
            parse_model_spec(target if kind == "blind" else spec)

    def _respondent(self, asked: Asked) -> tuple[Setup, Answerer | Baseline | None]:
        """The setup, and who answers: None for answers that are recorded already."""
        kind, _, target = asked.spec.partition(":")
        if asked.spec in BASELINES:
            baseline = BASELINES[asked.spec]()
            return Setup(asked.spec, baseline.settings, UNASKED, images=False), baseline
        if kind == "human":  # people answer in `blindpairs study`, and are never asked here
            return read_setup(recorded_human(self.folder, asked.spec, self.benchmark), self.benchmark), None
        if kind == "recorded":
            return self._recorded_setup(target), None
        model = self.model(target if kind == "blind" else asked.spec)
        name = f"blind:{model.name}" if kind == "blind" else model.name
        return Setup(name, model.settings, asked.asking, asked.exchanged, kind != "blind"), model

    def model(self, spec: str) -> Answerer:
        """The model of a spec. Only the last one is kept: two do not always fit into one memory."""
        if spec not in self._opened:
            self._opened.clear()
            self._opened[spec] = self._open(spec)
        return self._opened[spec]

    def plan(self, asked: Asked) -> Planned:
        """What asking somebody would take."""
        setup, answerer = self._respondent(asked)
        before = {answer.key: answer for answer in recorded_answers(self.folder / setup.folder_name)}
        wanted = shard_questions(self._shown(setup), self._shard)
        missing = {key: question for key, question in wanted.items() if key not in before}
        asks = not isinstance(answerer, Baseline | None)  # those two cost nothing
        cost = missing_plan(setup, missing) if asks else Plan()
        return Planned(setup, cost, len(before), mean_seconds(before.values()))

    def answer(self, asked: Asked, progress: Progress = silent) -> Entry:
        """Ask what is missing. Raises AssetMissing for a model that is not here."""
        setup, answerer = self._respondent(asked)
        folder = self.folder / setup.folder_name
        if answerer is None:
            return Entry(folder, setup)
        conditions = replace(self._conditions, progress=progress)
        report = answer_questions(setup, answerer, self._shown(setup), folder, conditions, self._shard)
        return Entry(folder, setup, report)

    def import_answers(self, file: Path, export: Path) -> Entry:
        """Record the answers in a foreign file; the sidecar beside it, or in an export, knows its numbers."""
        sidecar = read_sidecar(file.parent) or read_sidecar(export)
        ids = {str(number): (one.pair_id, one.side) for number, one in sidecar.items()}
        imported = import_answers(file, self.benchmark, ids or None)
        model = next((answer.model for answer in imported.answers if answer.model), "") or file.stem
        settings = {"kind": "imported", "file": file.name, "sha256": sha256_file(file)}
        setup = Setup(model, settings, Asking(f"imported:{imported.harness}"))
        record_imported(self.folder / setup.folder_name, setup, self.benchmark, imported.answers)
        return Entry(self.folder / setup.folder_name, setup, notes=imported.notes)

    def recorded(self, known: Collection[Path]) -> list[Entry]:
        """All recorded answers besides those that are known, by model, protocol and order of the options."""
        folders = (folder for folder in answer_folders(self.folder) if folder not in known)
        entries = [Entry(folder, read_setup(folder, self.benchmark)) for folder in folders]
        return sorted(entries, key=lambda one: (one.setup.model, one.setup.asking.name, one.setup.exchanged))

    def score(self, entries: Iterable[Entry], rules: Rules) -> None:
        """Read and score the answers of each entry, and write that beside them."""
        for entry in entries:
            answers = recorded_answers(entry.folder)
            check_origin(entry.folder, entry.setup, answers)
            self._summarise(entry, answers, rules)
            if entry.summary and entry.summary.blind and entry.setup.asking.name != FREE_FORM.name:
                for name in rules.readers:
                    self._read_with(name, entry, answers, rules)
            other = self.folder / replace(entry.setup, exchanged=False).folder_name
            if entry.setup.exchanged:
                entry.both_orders = both_orders(self.truth, recorded_answers(other), answers)
            write_scores(entry.folder, entry_fields(entry), self._truth_name())

    def _summarise(self, entry: Entry, answers: list[Answer], rules: Rules) -> None:
        failures, reader = read_failures(entry.folder), OURS
        if entry.setup.asking.name == FREE_FORM.name:
            answers, failures, reader = self._judged(entry, rules)
            entry.verdicts = answers
        partly = rules.complete_pairs
        entry.summary = summarise(entry.setup, self.truth, answers, failures, reader=reader, complete_pairs=partly)

    def _judged(self, entry: Entry, rules: Rules) -> tuple[list[Answer], dict[Key, Failure], str]:
        """The verdicts on answers to questions without options: of the judge that is named, else those recorded."""
        if rules.judge:
            judge = self.model(rules.judge)
            report = judge_answers(judge, self.truth, entry.folder, self._conditions)
            verdicts = verdict_folder(entry.folder, judge_setup(judge))
            if entry.report is None:
                entry.report = report
            else:
                both = {**entry.report.failures, **report.failures}
                entry.report = replace(entry.report, failures=both, stopped=entry.report.stopped or report.stopped)
        else:
            verdicts = next(iter(answer_folders(entry.folder)), entry.folder / "judge")
        failures = read_failures(entry.folder) | read_failures(verdicts)
        return recorded_answers(verdicts), failures, f"judge {verdicts.name}"

    def _read_with(self, name: str, entry: Entry, answers: Sequence[Answer], rules: Rules) -> None:
        shown = exchanged(self.truth) if entry.setup.exchanged else self.truth
        keys = {answer.key for answer in answers}
        blind = [pair for pair in shown.pairs if pair.question and not pair.is_control]
        pairs = tuple(pair for pair in blind or shown.pairs if pair.question and keys.issuperset(keys_of(pair)))
        part = replace(shown, pairs=pairs)
        judging = self._judging(name, part, answers, rules)
        entry.readouts.append(read_with(name, part, answers, judging))
        if rules.explain:
            entry.differences[name] = explain(name, part, answers, judging)

    def _judging(self, name: str, benchmark: Benchmark, answers: Sequence[Answer], rules: Rules) -> Judging:
        if not rules.judge or name not in ("official", "vlmevalkit"):
            return Judging()
        if Path(rules.judge).is_file():
            return Judging(recorded_replies(Path(rules.judge)))
        if name == "vlmevalkit":
            raise ConfigError("--read vlmevalkit takes a judge's recorded replies only: name their file with --judge")
        asked = answered(benchmark, answers)
        return Judging(official_replies(self.model(rules.judge), asked, self._conditions))

    def _shown(self, setup: Setup) -> Benchmark:
        return exchanged(self.benchmark) if setup.exchanged else self.benchmark

    def _truth_name(self) -> str:
        return "" if self.truth.ground_truth == self.benchmark.ground_truth else self.truth.ground_truth

    def _recorded_setup(self, name: str) -> Setup:
        folders = {folder.name: folder for folder in answer_folders(self.folder)}
        if name not in folders:
            listed = ", ".join(folders) or "nothing is recorded there"
            raise InputError(f"recorded:{name}: no such folder in {self.folder} ({listed})")
        return read_setup(folders[name], self.benchmark)


@contextmanager
def recorded_session(results: Path, benchmark: Benchmark, truth: Benchmark) -> Iterator[Session]:
    """A session that asks nobody: for what is recorded."""

    def refuse(spec: str) -> Answerer:
        raise ConfigError(f"{spec}: nobody is asked here; run `blindpairs eval --model {spec}`")

    with open_cache(None) as cache:
        yield Session(results, benchmark, Conditions(cache), refuse, truth)


def entry_fields(entry: Entry) -> dict[str, Any]:
    """An entry as JSON: its scores with what they rest on, and the numbers of other readers."""
    fields: dict[str, Any] = {"folder": entry.folder.name, **(entry.summary.fields() if entry.summary else {})}
    if entry.report:
        fields |= {"answered_now": entry.report.answered, "answered_before": entry.report.kept}
    fields["readers"] = {one.reader: {"scores": dict(one.headline), "notes": one.notes} for one in entry.readouts}
    if entry.both_orders:
        fields["both_orders"] = {name: rate_fields(rate) for name, rate in vars(entry.both_orders).items()}
    if entry.differences:
        fields["differences"] = {
            name: [_disagreement_fields(one) for one in listed] for name, listed in entry.differences.items()
        }
    return fields


def _disagreement_fields(disagreement: Disagreement) -> dict[str, Any]:
    pair_id, side, which = disagreement.answered.key
    key = {"pair_id": pair_id, "side": side, "which": which, "text": disagreement.answered.text}
    return {**key, "ours": vars(disagreement.ours), "theirs": vars(disagreement.theirs)}


def first_error(entries: Iterable[Entry]) -> BlindpairsError | None:
    """What ended the first of the runs that ended early."""
    return next((one.report.stopped for one in entries if one.report and one.report.stopped), None)
