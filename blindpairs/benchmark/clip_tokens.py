"""How many tokens CLIP makes of a text: counted in a moment, while a page waits, without loading torch.

It is the byte pair encoding of CLIP's text tower (openai/CLIP, clip/simple_tokenizer.py; Sennrich et al. 2016, arXiv
1508.07909) with the vocabulary that open_clip ships. open_clip has it, too, but loads torch with it: seconds, and
hundreds of megabytes in a server that needs neither.

Promise: the count is that of open_clip's `SimpleTokenizer`, for every text.
"""

import gzip
import html
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from blindpairs.errors import AssetMissing

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
MERGES = slice(1, 49152 - 256 - 2 + 1)  # of the file's lines: the first is a header, and CLIP uses no more
ENDS = 2  # tokens that start and end every text
_WORDS = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_SPECIAL = ("<start_of_text>", "<end_of_text>")  # one token each


def clip_tokens(text: str) -> int:
    """The number of CLIP's tokens, with start and end. AssetMissing where open_clip's vocabulary is not installed."""
    import ftfy

    cleaned = html.unescape(html.unescape(ftfy.fix_text(text)))
    words = _pattern().findall(" ".join(cleaned.split()).lower())
    return sum(_count(word) for word in words) + ENDS


@cache
def _pattern() -> Any:
    import regex  # type: ignore[import-untyped]  # the standard library's knows no classes of letters

    return regex.compile(_WORDS, regex.IGNORECASE)


@cache
def _ranks() -> dict[tuple[str, str], int]:
    """Two symbols that become one -> how early. A symbol is bytes, each as one letter; `</w>` ends a word."""
    package = find_spec("open_clip")  # does not import it
    places = [Path(place) / VOCABULARY for place in (package.submodule_search_locations if package else None) or ()]
    if not places or not places[0].is_file():
        raise AssetMissing(f"open_clip's {VOCABULARY} is not installed: reinstall open_clip_torch")
    lines = gzip.decompress(places[0].read_bytes()).decode().split("\n")[MERGES]
    pairs = (tuple(line.split()) for line in lines)
    return {(first, second): rank for rank, (first, second) in enumerate(pairs)}


@cache
def _letters() -> list[str]:
    """The letter of each byte: itself where it prints in Latin-1, else one of those from 256 on."""
    prints = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    letters, others = [], 0
    for byte in range(256):
        letters.append(chr(byte if byte in prints else 256 + others))
        others += byte not in prints
    return letters


def _count(word: str) -> int:
    """The number of tokens of one word: the two neighbours with the lowest rank become one until none has a rank."""
    if word in _SPECIAL:
        return 1
    letters, ranks = _letters(), _ranks()
    symbols = [letters[byte] for byte in word.encode()]
    symbols[-1] += "</w>"
    never = len(ranks)
    while len(symbols) > 1:
        best = min(pairwise(symbols), key=lambda pair: ranks.get(pair, never))
        if best not in ranks:
            break
        merged: list[str] = []
        for symbol in symbols:
            # The last symbol of a pair that was merged just now ends with `best[1]` and is another one.
            if merged and (merged[-1], symbol) == best:
                merged[-1] += symbol
            else:
                merged.append(symbol)
        symbols = merged
    return len(symbols)
