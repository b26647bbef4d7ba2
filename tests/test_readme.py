"""The README is true: its commands exist, run as written, and print the lines below them.

A ```console block is run, in order, in one temporary folder: each `$ blindpairs ...` or `$ make TARGET` line (as the
Makefile has it) must end with 0 and print the lines below it. There `...` stands for whatever varies within a line, and
alone on a line for any number of lines. Other `$` lines set a reader up and are not run. The ```python blocks are run
afterwards, in order, as one script in the same folder; ```python3 is for a trained run, and the tests of training run
it. A ```sh block needs weights, a network or data of the reader's
own: it is not run, but every `blindpairs` line in it must parse.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from demo_run import DEMO, ROOT, DemoRun, execute
from typer.testing import CliRunner

from blindpairs import errors
from blindpairs.cli import app
from blindpairs.cli.app import PIPE_CLOSED
from blindpairs.errors import BlindpairsError
from blindpairs.executors import RayMissing

README = ROOT / "README.md"
NUMBER = r" *\b[0-9][0-9,]*(?:\.[0-9]+)?\b"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS: list[str] = sorted(getattr(typer.main.get_command(app), "commands", {}))


@dataclass(frozen=True)
class Step:
    """One `$` line of a console block, and what stands below it."""

    command: str
    expected: str


def blocks(text: str, language: str) -> list[str]:
    """The bodies of the fenced blocks in a language."""
    return [body for name, body in FENCE.findall(text) if name == language]


def steps(block: str) -> list[Step]:
    """A console block as steps; a command may go on after a backslash at the line's end."""
    parts = re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]
    pairs = (part.partition("\n") for part in parts)
    return [Step(" ".join(command.split()), expected.rstrip()) for command, _, expected in pairs]


def matches(expected: str, actual: str) -> bool:
    """Whether a command's output is what the README shows, `...` aside.

    Numbers may differ by 3 % or by 2: another processor rounds otherwise, and a pair on a threshold comes or goes.
    """
    pattern = ""
    shown: list[str] = []
    for line in expected.rstrip().splitlines():
        anything = r"(?:.*\n)*?"
        words = ".*?".join(_with_numbers(words, shown) for words in line.rstrip().split("..."))
        pattern += anything if line.strip() == "..." else words + r"\n"
    found = re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in actual.rstrip().splitlines()))
    return found is not None and all(_close(a, b) for a, b in zip(shown, found.groups(), strict=True))


def _with_numbers(words: str, shown: list[str]) -> str:
    """The words as a pattern with a group for each number (and the spaces that align it); the numbers go to `shown`."""
    pieces = re.split(rf"({NUMBER})", words)
    shown += pieces[1::2]
    return "".join(rf"({NUMBER})" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces))


def _close(one: str, other: str) -> bool:
    a, b = (float(text.replace(",", "")) for text in (one, other))
    return abs(a - b) <= max(0.03 * abs(a), 2 if a >= 10 else 0)


def behind_make(target: str, makefile: str) -> str:
    """The `blindpairs` command that a Makefile target runs."""
    recipe = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe, f"the Makefile has no target {target!r}"
    found = re.search(r"\$\(BIN\)/(blindpairs .*)", recipe[1])
    assert found, f"make {target} runs no blindpairs command: show it in a ```sh block"
    return found[1]


def resolved(command: str) -> str | None:
    """What to run for a `$` line, or None where it only sets the reader up."""
    *_, last = (part.strip() for part in command.split("&&"))
    if last.startswith("make "):
        return behind_make(last.split()[1], (ROOT / "Makefile").read_text(encoding="utf-8"))
    return last if last.split()[0] == "blindpairs" else None


def invocations(block: str) -> Iterator[list[str]]:
    """The arguments of every `blindpairs` command in a shell block: behind pipes, `&&` and settings too."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        words = list(lexer)
        for place, word in enumerate(words):
            first = place == 0 or words[place - 1] in ("|", "&&", ";", "(") or "=" in words[place - 1]
            if word == "blindpairs" and first:
                rest = words[place + 1 :]
                end = next((i for i, one in enumerate(rest) if re.fullmatch(r"[|&;<>()]+", one)), len(rest))
                yield rest[:end]


def parses(arguments: list[str]) -> bool:
    """Whether the command line knows a command and its options; values and files are not looked at."""
    return CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0


@pytest.fixture(scope="module")
def runs(demo_run: DemoRun) -> list[tuple[Step, int, str, str]]:
    """Every step of the README's console blocks with its exit code and output, run once, in order, in one folder.

    The first of them is the demo.
    """
    every = [step for block in blocks(README.read_text(encoding="utf-8"), "console") for step in steps(block)]
    (first, demo), *others = [(step, command) for step in every if (command := resolved(step.command)) is not None]
    assert demo == DEMO
    done = [(first, demo_run.code, demo_run.printed, demo_run.complaints)]
    return done + [(step, *execute(command, demo_run.folder)) for step, command in others]


@pytest.mark.timeout(600)
def test_every_command_runs_and_prints_what_the_readme_shows(runs: list[tuple[Step, int, str, str]]) -> None:
    assert runs, "the README runs nothing"
    for step, code, printed, complaints in runs:
        assert code == 0, f"$ {step.command}\n{complaints[-2000:]}"
        assert matches(step.expected, printed), f"$ {step.command}\n{printed}\n--- but the README says\n{step.expected}"


# What the comments of the recipes promise.
RECIPES_PROMISE = """
assert vectors.shape == (3000, 128) and vectors.dtype == np.float16
assert np.allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-3)
assert (ids.num_rows, failures.num_rows) == (3000, 0) and {"uri", "code", "message"} < set(failures.column_names)
assert pairs.num_rows > 0 and {"pair_id", "clip_sim", "dino_sim"} < set(pairs.column_names)
assert [picture.mode for picture in pictures] == ["RGB"] * 3
assert [(one.setup.model, one.blind.pair_accuracy.hits) for one in summaries][0] == ("first", 0)
"""


@pytest.mark.usefixtures("runs")
def test_recipes_run_and_give_what_their_comments_say(demo_run: DemoRun) -> None:
    script = "\n".join([*blocks(README.read_text(encoding="utf-8"), "python"), RECIPES_PROMISE])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=demo_run.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_first_command_and_its_output_come_before_the_reader_scrolls() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines, start=1) if line.startswith("$ "))
    output = next(
        number for number, line in enumerate(lines[first:], start=first + 1) if not line.startswith(("$ ", "```"))
    )
    assert first <= 15
    assert output <= 25
    assert lines[output - 1].strip(), "the first command shows no output"


def test_exit_codes_of_the_readme_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| ([0-9]+(?:, [0-9]+)*) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {int(code) for row in rows for code in row.split(", ")}
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, BlindpairsError)]
    assert listed == {0, 1, RayMissing.exit_code, 130, 143, PIPE_CLOSED} | {one.exit_code for one in classes}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_in_the_readme_and_has_help(command: str) -> None:
    assert re.search(rf"\b(?:blindpairs|make) {command}\b", README.read_text(encoding="utf-8"))
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) > 3


def test_commands_that_are_not_run_still_parse() -> None:
    text = README.read_text(encoding="utf-8")
    written = [arguments for block in blocks(text, "sh") for arguments in invocations(block)]
    assert [arguments for arguments in written if not parses(arguments)] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)`", README.read_text(encoding="utf-8"))) <= targets


# --- the harness itself, on a small README

EXAMPLE = """
```console
$ git clone blindpairs && cd blindpairs && make demo
found 12 pairs in ... s
$ blindpairs mine \\
    --top 3
a  0.97
...
z  0.95
```
```sh
BLINDPAIRS_WORK=w blindpairs embed photos/ --device cuda | tee log   # a comment
```
"""


def test_console_block_is_read_as_commands_with_the_lines_below_them() -> None:
    (block,) = blocks(EXAMPLE, "console")
    assert steps(block) == [
        Step("git clone blindpairs && cd blindpairs && make demo", "found 12 pairs in ... s"),
        Step("blindpairs mine --top 3", "a  0.97\n...\nz  0.95"),
    ]


def test_make_line_is_run_as_the_makefile_has_it() -> None:
    assert resolved("git clone x && make demo") == "blindpairs demo --work blindpairs-work"
    assert resolved("blindpairs mine --top 3") == "blindpairs mine --top 3"
    assert resolved("pip install blindpairs-of-shoes") is None
    with pytest.raises(AssertionError, match="no target 'dome'"):
        resolved("make dome")


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("found 12 pairs in ... s", "found 12 pairs in 3.1 s\n", True),
        ("found 12 pairs in ... s", "found 19 pairs in 3.1 s\n", False),
        ("found 12 pairs in ... s", "found 12 pairs in 3.1\nline s\n", False),
        ("a\n...\nz", "a\nz\n", True),
        ("a\n...\nz", "a\nb\nc\nz\n", True),
        ("a\n...\nz", "a\nb\n", False),
        ("a", "a\nsomething more\n", False),
        ("a (b) [c]*", "a (b) [c]*", True),
        ("", "", True),
        ("", "anything\n", False),
    ],
)
def test_output_is_compared_line_by_line_but_for_the_dots(expected: str, actual: str, same: bool) -> None:
    assert matches(expected, actual) is same


def test_shell_block_gives_the_arguments_of_its_commands() -> None:
    (block,) = blocks(EXAMPLE, "sh")
    assert list(invocations(block)) == [["embed", "photos/", "--device", "cuda"]]
    assert list(invocations("pip install blindpairs\n$ blindpairs mine > a && blindpairs embed")) == [
        ["mine"],
        ["embed"],
    ]


def test_unknown_option_or_command_does_not_parse() -> None:
    assert parses(["embed", "photos", "--device", "cuda"])
    assert not parses(["embed", "photos", "--devise", "cuda"])
    assert not parses(["embark"])


def test_execution_reports_exit_code_and_both_streams(tmp_path: Path) -> None:
    code, printed, complaints = execute("blindpairs --version  # the version", tmp_path)
    assert (code, complaints) == (0, "")
    assert printed.startswith("blindpairs ")
    assert execute("blindpairs embark", tmp_path)[0] == 2
