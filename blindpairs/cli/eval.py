"""`blindpairs eval`."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, progress_bars, say
from blindpairs.cli.benchmark import GivenBenchmark, open_benchmark
from blindpairs.cli.draft import Spending
from blindpairs.cli.eval_axes import BothAxes, of_the_demo
from blindpairs.cli.eval_compare import print_comparisons
from blindpairs.cli.eval_options import AskingOptions, ComparingOptions, ReadingOptions, is_asked
from blindpairs.cli.eval_readout import evaluate_readout
from blindpairs.cli.eval_report import print_plans, print_report, print_tables, raise_what_failed
from blindpairs.cli.eval_similarity import evaluate_models, evaluated, models_there
from blindpairs.cli.eval_suites import SuiteOptions, evaluate_suite
from blindpairs.cli.eval_table import tables
from blindpairs.cli.eval_uses import There, Use, check_read, use_of
from blindpairs.cli.groups import given_options, grouped
from blindpairs.cli.report import similarities, write_page
from blindpairs.cli.train_scores import write_cards
from blindpairs.errors import AssetMissing, ConfigError, InputError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.benchmark import Benchmark
    from blindpairs.evaluate.asking import Asking
    from blindpairs.evaluate.session import Asked, Entry, Rules, Session
    from blindpairs.progress import Progress

RUN = "run:"  # before the name of a run of train-mof
T = TypeVar("T")


@command
@grouped
def eval_(
    asking: AskingOptions,
    reading: ReadingOptions,
    comparing: ComparingOptions,
    spending: Spending,
    suites: SuiteOptions,
    benchmark: GivenBenchmark = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Ask models the questions of a benchmark, and score what they say.

    Answers are recorded below results/ in the work folder. The same command again asks what is missing.
    """
    from blindpairs.executors.shard import choose_shard

    given = given_options(asking, reading, comparing, spending, suites)
    space, use = Workspace(work), use_of(given | ({"benchmark": "--benchmark"} if benchmark else {}))
    if use is Use.suite:
        evaluate_suite(suites, asking, reading, spending, space, as_json=as_json)
        return
    comparing.check()
    how = _How(asking.asking(reading.judge), reading.rules(), choose_shard(asking.shard, os.environ))
    found = open_benchmark(space, named_folder("--benchmark", benchmark) if benchmark else None)
    truth = found.with_ground_truth(reading.ground_truth or found.ground_truth)
    if use is Use.readout:
        evaluate_readout(suites.readout or (), suites.layer, truth, space, as_json=as_json)
    elif use is Use.together:
        print_comparisons(comparing, space, found, truth, as_json=as_json)
    else:
        who = _who(asking, how.words, space, found, truth)
        check_read(given, _there(who, asking, reading))
        evaluation = _Evaluation(asking, reading, spending, how, who, comparing.published)
        evaluation.run(space, found, truth, as_json=as_json)


@dataclass(frozen=True)
class _How:
    """How is asked and read, and which share of the pairs."""

    words: "Asking"
    rules: "Rules"
    shard: tuple[int, int]


@dataclass(frozen=True)
class _Who:
    """Who is evaluated."""

    asks: "Sequence[Asked]"
    compared: Sequence[str]  # specs of CLIP-style models
    runs: Sequence[str]  # specs of runs that nobody named: one that cannot be loaded ends nothing
    bare: bool


def _who(asking: AskingOptions, words: "Asking", space: Workspace, found: "Benchmark", truth: "Benchmark") -> _Who:
    """Those who are named, else those who are there. ConfigError for one who has nothing to answer."""
    from blindpairs.encoders.text_side import has_text_side
    from blindpairs.evaluate.session import Asked

    specs, questions = asking.specs(), any(pair.question for pair in found.pairs)
    runs = _usable_runs(space) if asking.bare and questions else []
    compared = models_there(space, truth) if asking.bare else [spec for spec in specs if has_text_side(spec)]
    asked = [spec for spec in [*specs, *runs] if spec not in compared and (questions or not asking.bare)]
    if asked and not questions:
        raise ConfigError(f"{found.name} has statements and no questions: there is nothing to ask {asked[0]}")
    return _Who(
        [Asked(spec, words, other) for spec in asked for other in asking.orders(spec)], compared, runs, asking.bare
    )


def _there(who: _Who, asking: AskingOptions, reading: ReadingOptions) -> There:
    """What the options can be read for. Recorded answers may be of any kind."""
    recorded = who.bare or any(one.spec.startswith("recorded:") for one in who.asks)
    return There(
        asked=any(is_asked(one.spec) for one in who.asks),
        shared=bool(who.asks),
        answers=recorded or bool(who.asks or asking.answers),
        judged=recorded or asking.free_form or bool({"official", "vlmevalkit"} & set(reading.read or ())),
        compared=bool(who.compared),
    )


def _usable_runs(space: Workspace) -> list[str]:
    """The runs of the work folder that have a model, by spec; tells why the others are left out."""
    from blindpairs.vlm.runs import usable_runs

    usable, reasons = usable_runs(space.runs)
    for reason in reasons:
        say(f"left out: {reason}")
    return [f"{RUN}{name}" for name in usable]


@dataclass(frozen=True)
class _Evaluation:
    """Models that are asked, and CLIP-style models, on one benchmark."""

    asking: AskingOptions
    reading: ReadingOptions
    spending: Spending
    how: _How
    who: _Who
    published: bool

    def run(self, space: Workspace, found: "Benchmark", truth: "Benchmark", *, as_json: bool) -> None:
        """Ask, score and print; ends with the error of what failed."""
        from blindpairs.evaluate.answering import Conditions
        from blindpairs.evaluate.results import benchmark_folder
        from blindpairs.evaluate.session import Session
        from blindpairs.vlm import Meter, open_cache, open_model

        with open_cache(space.replies) as cache, progress_bars() as bar:
            conditions = Conditions(cache, Meter(self.spending.budget()), bar("judge", "answers"))
            opened = partial(open_model, work=space.root, notice=say)
            session = Session(space.results, found, conditions, opened, truth, self.how.shard)
            both = self.who.runs and of_the_demo(found, self.how.shard)
            axes = BothAxes(session, conditions, space) if both else None
            for one in self.who.asks:
                session.check(one.spec)
            if self.spending.plan:
                plans = list(self._each(session.plan))
                plans += self._each(axes.plan, self._runs()) if axes else []
                print_plans(found, plans, self.who.compared, as_json=as_json)
                return
            if self.asking.free_form:
                session.model(self.how.rules.judge)  # before anything is asked
            files = [named_folder("--answers", file) for file in self.asking.answers or ()]
            imported = [session.import_answers(file, space.exports / "mmvp") for file in files]
            entries = [*self._each(partial(self._answer, session, space, bar, axes)), *imported]
            if self.who.bare:
                entries += session.recorded([entry.folder for entry in entries])
            session.score(entries, self.how.rules)
        runs = dict.fromkeys(one.spec for one in self.who.asks if one.spec.startswith(RUN))
        write_cards(space, [spec.removeprefix(RUN) for spec in runs])
        scores = evaluate_models(space, truth, self.who.compared, self.asking.template or ())
        page = None
        if self.who.bare:
            scores = similarities(benchmark_folder(space.results, truth), truth)  # with those that were there
            page = write_page(space, truth, entries, scores)  # first, because without any result there is none
        others = [evaluated(scores)] if scores else []
        others += axes.beside(entries) if axes else []
        if self.reading.table:
            others.append(tables(entries, scores, published=self.published))
        if self.reading.table and not as_json:
            print_tables(truth, others[-1])
        else:
            print_report(session.folder, truth, entries, others, as_json=as_json)
        if page:
            say(f"look at it: {page}")
        raise_what_failed(entries)
        if axes:
            axes.raise_what_is_missing()

    def _answer(
        self,
        session: "Session",
        space: Workspace,
        bar: "Callable[[str, str], Progress]",
        axes: "BothAxes | None",
        one: "Asked",
    ) -> "Entry":
        from blindpairs.evaluate.asked_runs import answer_run
        from blindpairs.vlm.runs import newest_checkpoint

        progress = bar(one.spec, "questions")
        if one.spec not in self.who.runs:
            return session.answer(one, progress)
        checkpoint = newest_checkpoint(space.runs, one.spec.removeprefix(RUN))
        entry = answer_run(session, one, checkpoint, progress)
        if axes:
            axes.answer(one.spec, checkpoint, bar)
        return entry

    def _runs(self) -> "list[Asked]":
        """Each run that nobody named, once."""
        return [one for one in self.who.asks if one.spec in self.who.runs and not one.exchanged]

    def _each(self, of: "Callable[[Asked], T]", some: "Sequence[Asked] | None" = None) -> "Iterator[T]":
        """Of each who is asked, in turn; a run that nobody named and that cannot be loaded is said, and left out."""
        for one in self.who.asks if some is None else some:
            try:
                found = of(one)
            except (AssetMissing, ConfigError, InputError) as error:
                if one.spec not in self.who.runs:
                    raise
                say(f"left out: {error}")
            else:
                yield found
