"""The rules for all files of the repository: sizes, docstrings, types, and the entries of the top folder."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {"pyproject.toml", "README.md", "Makefile", "LICENSE", "blindpairs", "tests", "data", ".ci", ".gitignore"}
SOURCES = sorted([*(ROOT / "blindpairs").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
LONGEST_FILE = 400  # non-blank lines
LONGEST_FUNCTION = 60  # lines
MOST_PARAMETERS = 6
MOST_OPTIONS = 10  # of a command: those that belong together are a group, see cli/groups.py
PROMISED_LATER = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")  # spelled so that this file passes

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    """Every function of a file, methods and nested ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def name(path: Path) -> str:
    """A file's path as the parametrised tests show it."""
    return str(path.relative_to(ROOT))


def parameters(function: Function) -> list[str]:
    """What a caller passes: everything but the receiver."""
    arguments = function.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [one for one in names if one not in ("self", "cls")]


def is_command_line(path: Path) -> bool:
    """cli.py, or the files of cli/ once it is a folder."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py") == "cli"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file_and_its_functions_fit_a_reader(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= LONGEST_FILE
    lengths = {one.name: (one.end_lineno or one.lineno) - one.lineno + 1 for one in functions(path)}
    assert {function: length for function, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_take_few_parameters(path: Path) -> None:
    most = MOST_OPTIONS if is_command_line(path) else MOST_PARAMETERS
    assert {one.name: parameters(one) for one in functions(path) if len(parameters(one)) > most} == {}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_say_what_they_return(path: Path) -> None:
    assert [one.name for one in functions(path) if one.returns is None] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file_promises_nothing_for_later(path: Path) -> None:
    assert PROMISED_LATER.findall(path.read_text(encoding="utf-8")) == []


def test_every_module_has_tests_in_its_place() -> None:
    modules = {path.relative_to(ROOT / "blindpairs").parts[0] for path in SOURCES if in_package(path)}
    tests = {path.relative_to(ROOT / "tests").parts[0] for path in SOURCES if not in_package(path)}
    wanted = {f"test_{one}" if one.endswith(".py") else one for one in modules if not one.startswith("__")}
    assert sorted(wanted - tests) == []


def in_package(path: Path) -> bool:
    """Whether a source belongs to what ships."""
    return path.is_relative_to(ROOT / "blindpairs")


def test_top_of_the_tree_is_exactly_the_fixed_set() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == TOP


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in shown.splitlines()] == phony.split()
