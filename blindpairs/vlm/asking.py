"""What is asked of a vision-language model, and what comes back.

A model gets one user turn of texts and images, and returns one text. It knows nothing of pairs, benchmarks or people:
whoever asks puts its own id into `key` and finds it again in the reply.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Picture:
    """One image for a model, encoded. It must be upright: some servers apply EXIF orientation and some ignore it."""

    data: bytes
    media_type: str  # "image/jpeg", "image/png", "image/webp" or "image/gif"


Part = str | Picture


@dataclass(frozen=True)
class Ask:
    """One question for a model: one user turn, at most `max_tokens` tokens of answer."""

    key: str  # the caller's id
    parts: tuple[Part, ...]  # texts and images in the order in which the model sees them
    system: str = ""
    schema: Mapping[str, Any] | None = None  # the JSON Schema of an object that the reply must be
    max_tokens: int = 512
    temperature: float = 0.0  # 0 is greedy

    @property
    def pictures(self) -> list[Picture]:
        """The images, in order."""
        return [part for part in self.parts if isinstance(part, Picture)]

    @property
    def texts(self) -> list[str]:
        """The texts of the user turn, in order."""
        return [part for part in self.parts if isinstance(part, str)]


@dataclass(frozen=True)
class Reply:
    """What a model said. The tokens are None where the endpoint does not count them."""

    key: str
    text: str  # through `ask_all` and with a schema: JSON that follows the schema
    seconds: float
    prompt_tokens: int | None
    completion_tokens: int | None
    finish: str  # "stop" or "length" (cut at max_tokens), or another word of the endpoint
    cached: bool = False  # nothing was asked for it now


@dataclass(frozen=True)
class Failure:
    """An ask without a reply. `code` is a stable word for tables, `message` is for people.

    Codes: broken_json, empty, refused (by the model or its filter), bad_request, too_large, rate_limited, quota,
    unauthorised, not_found, redirected, not_an_api, server, timeout, unreachable, bad_image, out_of_memory.
    """

    key: str
    code: str
    message: str


Keep = Callable[[Reply], None]


def keep_nothing(_: Reply) -> None:
    """Store no reply."""


class Answerer(Protocol):
    """A model that answers."""

    @property
    def name(self) -> str:
        """The model's name for people and file names."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything besides the ask that decides what the model answers, ready for JSON. Never a key."""

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
        """One outcome per ask, in any order, as they complete. The asks are drawn as there is room for them.

        `keep` gets every reply the moment it is there, which may be long before the caller takes it from the iterator,
        and on another thread.
        """
