"""Counting CLIP's tokens without torch, held to open_clip's own tokenizer."""

import subprocess
import sys

import pytest
from demo_run import ROOT
from nasty_texts import NASTY

from blindpairs.benchmark.clip_tokens import clip_token_count

TEXTS = [
    "",
    "a photo of a striped elephant's 12 hats",
    "don't we'll I'd it'S",
    "<script>alert('x')</script> && 1,234.5",
    "na\u00efve caf\u00e9 \u2013 \u201cquotes\u201d \u2026 \u6771\u4eac \u05e9\u05dc \U0001f469\u200d\U0001f52c",
    "a_b c--d  \n e\tf",
    "&amp;amp; &lt;b&gt; x",
    "\ufb01ne \u00bd \u00b2  \u0130stanbul",
    "antidisestablishmentarianism qwrtzpsdf " * 20,
]


@pytest.mark.parametrize(
    "text", [*TEXTS, *(text for name, text in NASTY.items() if name not in ("very_long", "surrogate"))]
)
def test_count_is_that_of_open_clip(text: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    assert clip_token_count(text) == len(SimpleTokenizer().encode(text)) + 2


def test_counting_loads_no_torch() -> None:
    line = "import sys; from blindpairs.benchmark.clip_tokens import clip_token_count as count; count('a b'); "
    code = line + "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
