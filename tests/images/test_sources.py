"""Braces expand as the shell expands them."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindpairs.errors import InputError
from blindpairs.images import sources
from blindpairs.images.sources import expand_braces, resolve

WORDS = st.sampled_from(["a", "b", "xy", "0", "-", ".tar", ""])
RANGES = st.tuples(st.integers(-12, 12), st.integers(-12, 12), st.integers(1, 4), st.sampled_from(["", "0", "00"])).map(
    lambda found: f"{{{found[3]}{abs(found[0])}..{found[1]}" + (f"..{found[2]}}}" if found[2] > 1 else "}")
)


def lists(inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Lists of two and more, braces around one word, and one after another."""
    listed = st.lists(inside, min_size=1, max_size=3).map(lambda parts: f"{{{','.join(parts)}}}")
    return listed | st.lists(inside | listed, min_size=1, max_size=3).map("".join)


PATTERNS = st.recursive(WORDS | RANGES, lists, max_leaves=8)


def bash(patterns: list[str]) -> list[list[str]]:
    """What bash makes of each, in one process; the letters around keep empty words from vanishing."""
    script = "\n".join(f"printf '%s\\n' @{pattern}@; echo" for pattern in patterns)
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    return [block.split("\n") for block in done.stdout.removesuffix("\n\n").split("\n\n")]


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@settings(max_examples=25, deadline=None)
@given(patterns=st.lists(PATTERNS.filter(lambda pattern: "{}" not in pattern), min_size=20, max_size=20))
def test_braces_expand_as_bash_expands_them(patterns: list[str]) -> None:
    assert [list(expand_braces(f"@{pattern}@")) for pattern in patterns] == bash(patterns)


Tree = str | list["Tree"] | tuple["Tree", ...]  # a word; one after another; one of several


def written(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    return "".join(map(written, tree)) if isinstance(tree, list) else f"{{{','.join(map(written, tree))}}}"


def obvious(tree: Tree) -> list[str]:
    if isinstance(tree, str):
        return [tree]
    if isinstance(tree, tuple):
        return [word for part in tree for word in obvious(part)]
    return ["".join(words) for words in itertools.product(*map(obvious, tree))]


TREES: st.SearchStrategy[Tree] = st.recursive(
    st.sampled_from(["a", "b/", ".tar", ""]),
    lambda inside: st.lists(inside, min_size=2, max_size=3).map(tuple) | st.lists(inside, min_size=1, max_size=3),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(tree=TREES)
def test_nested_lists_are_the_products_of_their_parts(tree: Tree) -> None:
    assert list(expand_braces(written(tree))) == obvious(tree)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{a{1,2}b,c}", ["a1b", "a2b", "c"]),
        ("{{a,b},{c,d{e,f}}}", ["a", "b", "c", "de", "df"]),
        ("{x{0..1}y,z}", ["x0y", "x1y", "z"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..7..3}", ["0", "3", "6"]),
        ("{7..0..3}", ["7", "4", "1"]),
        ("{1..3..0}", ["1", "2", "3"]),
        ("{5..5}", ["5"]),
        ("a}b{c", ["a}b{c"]),
        ("{a}{b,c}", ["{a}b", "{a}c"]),
        ("a}{b,c}", ["a}b", "a}c"]),
    ],
)
def test_braces_by_example(pattern: str, expected: list[str]) -> None:
    assert list(expand_braces(pattern)) == expected


@pytest.mark.parametrize(
    "pattern", ["{" * 3000 + "}" * 3000, f"{{1..{'9' * 5000}}}.tar", "{a," * 3000 + "b" + "}" * 3000]
)
def test_braces_beyond_all_measure_are_refused_in_a_line(pattern: str) -> None:
    with pytest.raises(InputError, match=r"^\{.{79}\.\.\. does not exist, and it has too many braces to expand$"):
        resolve([pattern])


def test_as_many_files_as_allowed_are_taken_and_one_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_SHARDS", 12)
    for first, second in itertools.product(range(3), range(5)):
        (tmp_path / f"{first}-{second}.tar").write_bytes(b"")
    assert len(resolve([f"{tmp_path}/{{0..2}}-{{0..3}}.tar"])) == 12
    for pattern in ("{0..2}-{0..4}.tar", "{0..12}.tar", "{0,1}-{0..6}.tar"):
        with pytest.raises(InputError, match="names more than 12 files"):
            resolve([f"{tmp_path}/{pattern}"])
