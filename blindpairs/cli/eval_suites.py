"""`blindpairs eval --suite`: POPE, LLaVA-Bench and instructions, asked, judged and scored.

Also the options of `--readout`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import named_folder, progress_bars, say
from blindpairs.cli.eval_suites_report import print_suite, print_suite_plans, raise_what_is_missing
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.cli.draft import Spending
    from blindpairs.cli.eval_options import AskingOptions, ReadingOptions
    from blindpairs.evaluate.suite_questions import FollowingSuite, Suite
    from blindpairs.evaluate.suites import Rule
    from blindpairs.vlm import Answerer

SUITES = "suites"  # in the work folder: the demo's small ones
RULE_JUDGE = "rule"


class SuiteName(StrEnum):
    """Suites that are no pairs of images."""

    pope = "pope"
    llava_bench = "llava-bench"
    following = "following"


@dataclass(frozen=True)
class SuiteOptions:
    """What is evaluated in place of a benchmark of pairs."""

    suite: Annotated[
        SuiteName | None,
        typer.Option(
            rich_help_panel="Corpus",
            help="Ask POPE, LLaVA-Bench, or the demo's instructions that ask for a form (following), in place of a "
            "benchmark. For POPE --model also takes yes, which always says so; --read takes ours, llava or lmms-eval; "
            "LLaVA-Bench needs --judge, which takes rule for the demo's.",
        ),
    ] = None
    data: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Corpus",
            help="FOLDER of the suite, as its authors lay it out. [default: a small one of the demo's scenes]",
        ),
    ] = None
    readout: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="Encoders",
            help="Ask no model: predict the answers from the tokens of this encoder. Its spec, its column in the "
            "store, or auto, for clip and dino of the store, else the demo's. Repeatable.",
        ),
    ] = None
    layer: Annotated[
        int | None,
        typer.Option(
            rich_help_panel="Encoders",
            help="The layer for --readout: 0 is before the first block, -1 after the last. [default: -1]",
        ),
    ] = None


def evaluate_suite(
    options: SuiteOptions,
    asking: "AskingOptions",
    reading: "ReadingOptions",
    spending: "Spending",
    space: Workspace,
    *,
    as_json: bool,
) -> None:
    """Ask, judge and score a suite. ConfigError for a judge, or a rule, that does not fit it."""
    from blindpairs.evaluate.answering import Conditions
    from blindpairs.evaluate.suite_session import SuiteSession
    from blindpairs.vlm import Meter, open_cache, open_model
    from blindpairs.vlm.specs import parse_model_spec

    assert options.suite is not None
    rules, bare = _rules(reading.read or ()), not (asking.model or asking.answers)
    if options.suite is SuiteName.following:
        _check_following(options, asking, reading)
    _check_judge(options, reading.judge, asking)
    files = [named_folder("--answers", file) for file in asking.answers or ()]
    suite = _open_suite(options, space)
    specs = list(dict.fromkeys(asking.model or (suite.baselines if bare else ())))
    for spec in specs:
        if spec not in suite.baselines:
            parse_model_spec(spec.removeprefix("blind:"))  # before anybody is asked
    opener = partial(open_model, work=space.root, notice=say)
    with open_cache(space.replies) as cache, progress_bars() as bar:
        judge = _open_judge(reading.judge, opener) if options.suite is SuiteName.llava_bench else None

        def opened(spec: str) -> "Answerer":
            # The judge may be a respondent, too; otherwise two models at once may be too many for the memory.
            return judge if judge is not None and not isinstance(judge, Path) and judge.name == spec else opener(spec)

        session = SuiteSession(space.results, suite, Conditions(cache, Meter(spending.budget())), opened)
        respondents = (session.respondent(spec) for spec in specs)  # one at a time
        if spending.plan:
            print_suite_plans(session, respondents, judge, as_json=as_json)
            return
        imported = [session.import_answers(file) for file in files]
        entries = [session.answer(one, bar(one.setup.title, "questions")) for one in respondents] + imported
        if bare:
            entries += session.recorded([entry.folder for entry in entries])
        if not entries:
            raise ConfigError(f"nobody has answered {suite.name} yet: name a model, --model SPEC")
        for entry in entries:
            session.score(entry, rules or (suite.usual_rule,), judge, bar("judge", "answers"))
    print_suite(session, entries, as_json=as_json)
    raise_what_is_missing(entries)


def _rules(given: "Sequence[str]") -> "list[Rule]":
    """The rules that `--read` names, each once."""
    from blindpairs.evaluate.suites import RULES

    if unknown := [name for name in given if name not in RULES]:
        raise ConfigError(f"--read {unknown[0]!r} is no rule of a suite: choose {', '.join(RULES)}")
    return [rule for rule in RULES if rule in given]


def _check_following(options: SuiteOptions, asking: "AskingOptions", reading: "ReadingOptions") -> None:
    """ConfigError for what the demo's instructions have no use for: data, answers, readers and a judge."""
    why = {
        "--data": (options.data is not None, "it asks about scenes of the demo alone"),
        "--answers": (bool(asking.answers), "nobody else asks its questions"),
        "--read": (bool(reading.read), "its answers are right to the letter, or wrong"),
        "--judge": (bool(reading.judge), "its answers are right to the letter, or wrong"),
    }
    for flag, (given, reason) in why.items():
        if given:
            raise ConfigError(f"--suite following: {reason}, so leave {flag} out")


def _check_judge(options: SuiteOptions, judge: str, asking: "AskingOptions") -> None:
    """ConfigError, before anything is asked, for a judge that is not needed, not given, or does not fit."""
    if options.suite is not SuiteName.llava_bench:
        if judge:
            raise ConfigError("--suite pope is read by a rule: leave --judge out, or choose the rule with --read")
        return
    if options.data is not None and not judge:
        raise ConfigError("LLaVA-Bench needs a judge: --judge SPEC of a model, or FILE of the reviews it wrote")
    if options.data is not None and judge == RULE_JUDGE:
        raise ConfigError("--judge rule knows the demo's scenes only: leave --data out, or name a model as judge")
    if Path(judge).is_file() and len(asking.model or ()) + len(asking.answers or ()) != 1:
        raise ConfigError(f"--judge {judge} has the reviews of one model: give one --answers FILE or one --model")


def _open_judge(given: str, open_model: "Callable[[str], Answerer]") -> "Answerer | Path":
    from blindpairs.demo.small_suites import RuleJudge

    if given in ("", RULE_JUDGE):
        if not given:
            say("judged by the demo's rule, which knows what the scenes show; --judge names a model")
        return RuleJudge()
    return Path(given) if Path(given).is_file() else open_model(given)


def _open_suite(options: SuiteOptions, space: Workspace) -> "Suite":
    """The suite in the folder of `--data`, else the demo's, which is made where it is not there; this is said."""
    from blindpairs.demo.small_suites import demo_llava_bench, demo_pope
    from blindpairs.evaluate.llava_bench_files import check_llava_bench, read_llava_bench
    from blindpairs.evaluate.pope_files import check_pope, read_pope
    from blindpairs.evaluate.suite_questions import BenchSuite, PopeSuite

    assert options.suite is not None
    name = options.suite.value
    folder = named_folder("--data", options.data) if options.data is not None else space.root / SUITES / name
    if options.suite is SuiteName.following:
        return open_following(space)
    if options.data is None:
        say(f"no --data: this is a small {name} of the demo's scenes, in {folder}")
    if options.suite is SuiteName.pope:
        made = options.data is None and bool(check_pope(folder).missing)
        return PopeSuite(folder, demo_pope(folder) if made else read_pope(folder))
    made = options.data is None and bool(check_llava_bench(folder).missing)
    return BenchSuite(folder, demo_llava_bench(folder) if made else read_llava_bench(folder))


def open_following(space: Workspace) -> "FollowingSuite":
    """The suite of instructions, which is made where it is not there."""
    from blindpairs.demo.following import demo_following
    from blindpairs.evaluate.suite_questions import FollowingSuite

    folder = space.root / SUITES / SuiteName.following.value
    return FollowingSuite(folder, demo_following(folder))
