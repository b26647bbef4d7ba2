"""Models and benchmarks for the tests of asking: they answer at once, and count what they are asked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pictured_pairs import benchmark_of

from blindpairs.benchmark import Benchmark
from blindpairs.vlm import Ask, Failure, Reply
from blindpairs.vlm.asking import Keep, keep_nothing


def by_hash(ask: Ask) -> str:
    """An answer that depends on all that is seen."""
    seen = [*ask.texts, *(picture.data.hex() for picture in ask.pictures)]
    return "(a)" if sum(map(ord, "".join(seen))) % 3 else "(b)"


class Model:
    """Answers by a function of the request; a text such as `!server` is a failure with that code."""

    def __init__(self, answer: Callable[[Ask], str] = by_hash, name: str = "model") -> None:
        self.name = name
        self.settings: Mapping[str, Any] = {"kind": "test", "name": name}
        self.asked: list[Ask] = []
        self._answer = answer

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
        for ask in asks:
            self.asked.append(ask)
            text = self._answer(ask)
            if text.startswith("!"):
                yield Failure(ask.key, text[1:], "no answer")
            else:
                yield Reply(ask.key, text, 0.5, 10, 2, "stop")


def with_controls(count: int) -> Benchmark:
    """`count` blind pairs, and a control of each."""
    made = benchmark_of(2 * count, second=None)
    pairs = list(made.pairs)
    controls = [replace(pairs[count + place], control_of=pairs[place].pair_id) for place in range(count)]
    return replace(made, pairs=(*pairs[:count], *controls))
