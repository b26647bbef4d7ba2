"""A model that answers at once, by a function of what it is asked."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from blindpairs.vlm import Ask, Failure, Reply
from blindpairs.vlm.asking import Keep, keep_nothing


class AnsweringModel:
    """Answers by `answer(ask)`; None is a failure. `asked` has every ask that reached it."""

    name = "test-model"
    settings: Mapping[str, Any] = {"kind": "test"}

    def __init__(self, answer: Callable[[Ask], str | None]) -> None:
        self.asked: list[Ask] = []
        self._answer = answer

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
        """See `vlm.Answerer`."""
        for ask in asks:
            self.asked.append(ask)
            text = self._answer(ask)
            yield Failure(ask.key, "server", "HTTP 500") if text is None else Reply(ask.key, text, 0.1, 10, 5, "stop")
