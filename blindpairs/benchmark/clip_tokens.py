"""How many tokens a text has for CLIP: the byte-pair encoding of open_clip, without torch, which its own module loads.

The page for authors asks this while a statement is written: 0.5 s and 50 MB the first time, instead of 900 MB. The
merges are the file that open_clip ships, and the steps those of its SimpleTokenizer (open_clip/tokenizer.py).
"""

import gzip
import html
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from blindpairs.errors import AssetMissing

MERGES = 49152 - 256 - 2  # of the lines after the first: the other entries of the vocabulary are bytes and two marks
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def clip_token_count(text: str) -> int:
    """The number of tokens, with start and end."""
    import ftfy

    cleaned = html.unescape(html.unescape(ftfy.fix_text(text))).strip()  # twice, as open_clip does
    return len(_encoder().encode(cleaned).ids) + 2  # start and end


@cache
def _encoder() -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # one printable character for each byte
    merges = [(first, second) for first, second in (line.split() for line in _lines()[1 : MERGES + 1])]
    names = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges)]
    vocabulary = {name: place for place, name in enumerate(names)}  # only counted: which number is of no matter
    encoder = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    encoder.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return encoder


def _lines() -> list[str]:
    found = find_spec("open_clip")  # finds the folder without importing it
    if found is None or not found.submodule_search_locations:
        raise AssetMissing("open_clip, whose tokenizer CLIP's texts need, is not installed: reinstall blindpairs")
    path = Path(found.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    return gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
