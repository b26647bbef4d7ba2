"""Tokens are counted as open_clip counts them, and torch stays out."""

import random
import subprocess
import sys
from functools import cache

import pytest
from nasty_texts import NASTY
from open_clip.tokenizer import SimpleTokenizer

from blindpairs.benchmark.clip_tokens import clip_tokens
from blindpairs.system import child_environment


@cache
def tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def theirs(text: str) -> int:
    return len(tokenizer().encode(text)) + 2


@pytest.mark.parametrize("name", NASTY)
def test_texts_that_formats_get_wrong_are_counted_as_open_clip_counts_them(name: str) -> None:
    assert clip_tokens(NASTY[name]) == theirs(NASTY[name])


def test_texts_by_lot_are_counted_as_open_clip_counts_them() -> None:
    draw = random.Random(0)
    words = [
        "the",
        "Doors",
        "aaaa",
        "aaabaaab",
        "123",
        "it's",
        "you'LL",
        "&amp;",
        "&lt;b&gt;",
        "<end_of_text>",
        "...",
        "ﬁ",
    ]
    letters = "abcdeeeiou aaa.,!?'-_0123 ÄöüßñçøŁ 漢字かな 한글 אבג 😀👩‍👩‍👧 \u0301\u200d\x1f"
    for _ in range(2_000):
        some = [draw.choice(words), "".join(draw.choices(letters, k=draw.randrange(30)))]
        text = draw.choice((" ", "", "\n")).join(draw.choices(some, k=draw.randrange(1, 5)))
        assert clip_tokens(text) == theirs(text), text


def test_counting_loads_neither_torch_nor_open_clip() -> None:
    script = (
        "import sys, time; from blindpairs.benchmark.clip_tokens import clip_tokens\n"
        "assert clip_tokens('a photo of a door') == 7\n"
        "assert not {'torch', 'open_clip'} & set(sys.modules), 'loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=child_environment())
    assert done.returncode == 0, done.stderr
