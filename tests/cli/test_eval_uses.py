"""No option of `blindpairs eval` is ignored in silence: of every two, both are read, or one line refuses one."""

import json
from dataclasses import fields
from enum import Enum
from itertools import combinations
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from fake_endpoint import FakeEndpoint, completion
from pictured_pairs import benchmark_of
from typer.testing import CliRunner, Result

from blindpairs.benchmark.hub import export_hub
from blindpairs.cli import app
from blindpairs.cli.draft import Spending
from blindpairs.cli.eval_options import AskingOptions, ComparingOptions, ReadingOptions
from blindpairs.cli.eval_suites import SuiteOptions
from blindpairs.cli.eval_uses import Use, use_of
from blindpairs.cli.groups import flag_of, given_options
from blindpairs.errors import ConfigError

GROUPS = (AskingOptions, ReadingOptions, ComparingOptions, Spending, SuiteOptions)
FLAGS = {one.name: flag_of(group, one.name) for group in GROUPS for one in fields(group)} | {"benchmark": "--benchmark"}
PAIRS = list(combinations(FLAGS, 2))


def value_of(field: str) -> list[str]:
    """Something to give an option, by its declared type."""
    hints: dict[str, Any] = {}
    for group in GROUPS:
        hints |= get_type_hints(group)
    kinds = {kind for kind in (hints.get(field, str), *get_args(hints.get(field, str))) if isinstance(kind, type)}
    if bool in kinds:
        return []
    if enum := next((kind for kind in kinds if issubclass(kind, Enum)), None):
        return [list(enum)[-1].value]
    return ["1" if kinds & {int, float} else "x"]


def call(work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", "--work", str(work), *map(str, arguments)])


def test_every_declared_option_has_a_use() -> None:
    assert set(FLAGS) == {field for use in Use for field in use.reads}
    assert all(use.marks <= use.reads for use in Use)


def use_or_refusal(pair: tuple[str, ...]) -> Use | str:
    """What two options are for, or why they do not go together."""
    try:
        return use_of({field: FLAGS[field] for field in FLAGS if field in pair})
    except ConfigError as error:
        return str(error)


def test_of_every_two_options_both_are_read_or_one_line_refuses_one() -> None:
    for pair in PAIRS:
        found = use_or_refusal(pair)
        if isinstance(found, Use):
            assert set(pair) <= found.reads
        else:
            assert "\n" not in found
            assert any(FLAGS[field] in found for field in pair)
    assert 100 < sum(isinstance(use_or_refusal(pair), str) for pair in PAIRS) < 250


# Two marks of one use are refused alike, so one of each use stands for it.
MARKS = {"compare", "power", "suite", "readout"}
REFUSED = [pair for pair in PAIRS if set(pair) & MARKS and isinstance(use_or_refusal(pair), str)]


@pytest.mark.parametrize("pair", REFUSED, ids=" ".join)
def test_refusal_comes_before_anything_is_done(pair: tuple[str, str], tmp_path: Path) -> None:
    refusal = use_or_refusal(pair)
    arguments = [part for field in FLAGS if field in pair for part in (FLAGS[field], *value_of(field))]
    refused = call(tmp_path / "work", *arguments)
    assert (refused.exit_code, refused.stdout, refused.stderr) == (3, "", f"error: {refusal}\n")
    assert not (tmp_path / "work").exists()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The fields of the options that a command reads; that an option is given does not count as reading it."""
    seen: set[str] = set()
    for group in GROUPS:
        plain = group.__getattribute__

        def spied(self: object, name: str, plain: Any = plain) -> object:
            seen.add(name)
            return plain(self, name)

        monkeypatch.setattr(group, "__getattribute__", spied)
    return seen


def test_every_use_reads_what_it_says(tmp_path: Path, read: set[str]) -> None:
    doors = tmp_path / "doors"
    export_hub(benchmark_of(4, second=None), doors)
    given = ("--benchmark", doors)
    with FakeEndpoint(lambda number, _: completion("(a)")) as endpoint:
        runs: dict[Use, tuple[object, ...]] = {
            Use.ask: (*given, "--model", endpoint.spec, "--model", "demo:clip"),
            Use.together: (*given, "--published"),
            Use.suite: ("--suite", "pope"),
            Use.readout: (*given, "--readout", "demo:dino"),
        }
        for use, arguments in runs.items():
            read.clear()
            done = call(tmp_path / "work", *arguments)
            assert done.exit_code == 0, done.output
            assert use.reads - read - {"benchmark"} == set(), use


def test_options_that_are_given_are_told_by_their_flags() -> None:
    asking = AskingOptions(swap=True, template=["{}"])
    assert given_options(asking, SuiteOptions(layer=0), Spending(max_requests=0)) == {
        "swap": "--swap",
        "template": "--template",
        "layer": "--layer",
        "max_requests": "--max-requests",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "demo:clip", "--swap"), "--swap is for a model that is asked: name one with --model"),
        (("--model", "first", "--ask", "official", "--swap"), "--ask, --swap are for a model that is asked"),
        (("--model", "first", "--free-form", "--judge", "hf:x"), "--free-form is for a model that is asked"),
        (("--swap",), "--swap is for a model that is asked"),
        (("--model", "demo:clip", "--shard", "0/2"), "--shard is for models that answer, and nobody who"),
        (("--answers", "x.jsonl", "--shard", "0/2"), "--shard is for models that answer, and nobody"),
        (("--model", "first", "--judge", "hf:x"), "--judge is for --free-form, --read official and --read vlmevalkit"),
        (("--model", "first", "--free-form", "--judge", "hf:x", "--read", "cambrian"), "leave --read out"),
        (("--model", "demo:clip", "--complete-pairs"), "--complete-pairs is for models that answer"),
        (("--model", "demo:clip", "--read", "cambrian", "--explain"), "--read, --explain are for models that answer"),
        (("--model", "first", "--template", "a {}"), "--template is for CLIP-style models, and none is evaluated"),
        (("--template", "a {}"), "--template is for CLIP-style models"),
        (("--compare", "demo:clip", "--zero-shot", ""), "--zero-shot is empty"),
        (("--suite", "pope", "--data", ""), "--data is empty"),
    ],
)
def test_option_that_nobody_who_is_evaluated_would_read_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    doors = tmp_path / "doors"
    export_hub(benchmark_of(2, second=None), doors)
    where = () if "--suite" in arguments else ("--benchmark", doors)
    refused = call(tmp_path / "work", *where, *arguments)
    assert (refused.exit_code, refused.stdout) == (3, ""), refused.output
    assert words in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("work/results/*"))


def test_plan_names_who_is_not_asked(tmp_path: Path) -> None:
    export_hub(benchmark_of(2, second=None), tmp_path / "doors")
    given = ("--benchmark", tmp_path / "doors", "--model", "demo:clip", "--plan")
    assert call(tmp_path, *given).stdout.splitlines()[1:] == [
        "  demo:clip: not asked, it compares statements with images"
    ]
    assert json.loads(call(tmp_path, *given, "--json").stdout)["not_asked"] == ["demo:clip"]
