"""What asking will cost, before it is asked; and a limit that is kept.

Promises: no more requests are begun than `max_requests`, and a request is begun only if the largest answer that it
permits still fits into `max_tokens`. Only a prompt that is longer than its estimate can exceed that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from blindpairs.errors import ConfigError
from blindpairs.vlm.asking import Ask, Failure, Reply

CHARACTERS_PER_TOKEN = 4  # English text; other languages need up to four times as many tokens
# LLaVA-1.5 has 576 per image, GPT-4o 765 for 1024 x 1024 pixels, Qwen2-VL about 1,300 per megapixel.
TOKENS_PER_IMAGE = 1000


@dataclass(frozen=True)
class Budget:
    """What one run may spend; None is without limit. What the cache answers is free."""

    max_requests: int | None = None
    max_tokens: int | None = None  # of prompts and answers together

    def __post_init__(self) -> None:
        for name, value in (("max_requests", self.max_requests), ("max_tokens", self.max_tokens)):
            if value is not None and value < 0:
                raise ConfigError(f"{name} is {value}: a budget cannot be negative")


@dataclass(frozen=True)
class Plan:
    """What asking everything would take: counts, and tokens by estimate (prompts) and at most (answers)."""

    requests: int = 0
    images: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests with {self.images:,} images, about {self.prompt_tokens:,} tokens of prompts "
            f"({TOKENS_PER_IMAGE:,} an image) and at most {self.answer_tokens:,} of answers"
        )


def plan(asks: Iterable[Ask]) -> Plan:
    """The cost of asking everything once, without repeats for broken replies."""
    total = Plan()
    for ask in asks:
        total = Plan(
            total.requests + 1,
            total.images + len(ask.pictures),
            total.prompt_tokens + prompt_tokens(ask),
            total.answer_tokens + ask.max_tokens,
        )
    return total


def prompt_tokens(ask: Ask) -> int:
    """The estimated tokens of a prompt: its text / 4, and a round figure per image."""
    characters = len(ask.system) + sum(map(len, ask.texts))
    return -(-characters // CHARACTERS_PER_TOKEN) + TOKENS_PER_IMAGE * len(ask.pictures)


class Meter:
    """Counts against a budget what is asked and answered."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._reserved: dict[str, int] = {}  # key of a request under way -> the most tokens that it may take
        self.requests = 0
        self.tokens = 0

    @property
    def under_way(self) -> bool:
        """Whether a request is under way, which may turn out to be cheaper than what is reserved for it."""
        return bool(self._reserved)

    def begin(self, ask: Ask) -> bool:
        """Count a request, or return False where the budget has no room for it."""
        most = prompt_tokens(ask) + ask.max_tokens
        limit = self._budget
        if limit.max_requests is not None and self.requests >= limit.max_requests:
            return False
        if limit.max_tokens is not None and self.tokens + sum(self._reserved.values()) + most > limit.max_tokens:
            return False
        self.requests += 1
        self._reserved[ask.key] = most
        return True

    def end(self, outcome: Reply | Failure) -> None:
        """Replace what was reserved for a request by what it took.

        A failed request keeps its reservation, and so does one without a count: it may have been billed.
        """
        most = self._reserved.pop(outcome.key)
        if isinstance(outcome, Reply) and None not in (outcome.prompt_tokens, outcome.completion_tokens):
            self.tokens += (outcome.prompt_tokens or 0) + (outcome.completion_tokens or 0)
        else:
            self.tokens += most

    def spent(self, left: int) -> str:
        """The message for a budget that is spent with `left` asks unanswered."""
        limit = self._budget
        limits = [f"{limit.max_requests:,} requests"] if limit.max_requests is not None else []
        limits += [f"{limit.max_tokens:,} tokens"] if limit.max_tokens is not None else []
        return (
            f"the budget of {' and '.join(limits)} is spent ({self.requests:,} requests, {self.tokens:,} tokens) and "
            f"{left:,} questions are not answered yet;\nrun the same command again to go on, with a larger budget or "
            "the same: what is answered is not asked again"
        )
