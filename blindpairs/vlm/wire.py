"""The chat completions format: an ask as a request's body, and what a response means.

Images travel inside the request as data URLs. A server that is given an address instead fetches it, so a hostile
prompt could make it read what is not meant for it.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blindpairs.vlm.asking import Ask, Part

FORMATS = ("json_schema", "json_object", "")  # how a reply is forced into JSON, from strict to not at all


class AttemptFailed(Exception):
    """An attempt without a reply. `code` and `message` as in Failure."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retryable = retryable  # whether another attempt may do better
        self.retry_after = retry_after  # seconds that the endpoint asks to be left alone


@dataclass(frozen=True)
class Dialect:
    """What an endpoint understands, as far as it is known."""

    token_limit: str = "max_tokens"
    format: str = FORMATS[0]
    temperature: bool = True

    def simpler(self, ask: Ask, refusal: str) -> "Dialect | None":
        """What to try after a refusal; None where the request itself must be at fault."""
        if self.token_limit == "max_tokens" and "max_completion_tokens" in refusal:
            return replace(self, token_limit="max_completion_tokens")
        if self.temperature and "temperature" in refusal:  # models that reason allow their default only
            return replace(self, temperature=False)
        if ask.schema is not None and self.format:
            return replace(self, format=FORMATS[FORMATS.index(self.format) + 1])
        return None


@dataclass(frozen=True)
class Completion:
    """What a response holds. `text` is not empty."""

    text: str
    finish: str
    prompt_tokens: int | None
    completion_tokens: int | None


def request_body(model: str, ask: Ask, dialect: Dialect) -> dict[str, Any]:
    """The body of a request."""
    messages = [{"role": "system", "content": ask.system}] if ask.system else []
    request: dict[str, Any] = {
        "model": model,
        "messages": [*messages, {"role": "user", "content": _content(ask)}],
        dialect.token_limit: ask.max_tokens,
    }
    if dialect.temperature:
        request["temperature"] = ask.temperature
    if ask.schema is not None and dialect.format:
        request["response_format"] = {"type": dialect.format}
        if dialect.format == "json_schema":
            wanted = {"name": "reply", "strict": True, "schema": dict(ask.schema)}
            request["response_format"]["json_schema"] = wanted
    return request


def _content(ask: Ask) -> str | list[dict[str, Any]]:
    if len(ask.parts) == 1 and isinstance(ask.parts[0], str):  # what models without images take, too
        return ask.parts[0]
    return [_part(part) for part in ask.parts]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    encoded = base64.b64encode(part.data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{encoded}"}}


def read_completion(content: bytes, max_tokens: int) -> Completion:
    """The answer in the body of a successful response; raises AttemptFailed where there is none."""
    value = _json(content)
    if value is None and content.lstrip()[:1] == b"<":
        raise AttemptFailed("not_an_api", "it returned a web page; is the base address right, with /v1 at its end?")
    if value is None:
        raise AttemptFailed("server", "its response is cut off or not JSON", retryable=True)
    if isinstance(value, Mapping) and value.get("error"):  # some gateways report errors of theirs with status 200
        raise AttemptFailed("server", error_text(content), retryable=True)
    try:
        choice = value["choices"][0]
        message = choice["message"]
        text = _text(message.get("content"))
        refusal = message.get("refusal")
        finish = str(choice.get("finish_reason") or "stop")
        usage = value.get("usage") or {}
        counts = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise AttemptFailed("not_an_api", "its response is JSON, but not a chat completion") from error
    if refusal or finish == "content_filter":
        raise AttemptFailed("refused", f"the model refused: {printable(str(refusal or text or finish))}")
    if not text.strip():
        spent = f"; max_tokens={max_tokens} was used up before it said anything" if finish == "length" else ""
        raise AttemptFailed("empty", f"the model said nothing{spent}")
    return Completion(text, finish, *counts)


def _json(content: bytes) -> Any:
    """The JSON value; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _text(content: Any) -> str:
    """The text of a message, which is a string or a list of parts."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str | None):
        raise TypeError(content)
    # JSON can spell half a surrogate pair, which no file can hold.
    return (content or "").encode("utf-8", "backslashreplace").decode()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def error_text(content: bytes) -> str:
    """What an error response says, in one line."""
    value = _json(content)
    for key in ("error", "message", "detail"):
        if isinstance(value, Mapping) and value.get(key):
            value = value[key]
    if value is None:
        return "no reason given" if content.lstrip()[:1] in (b"<", b"") else printable(content.decode(errors="replace"))
    return printable(value if isinstance(value, str) else json.dumps(value))


def printable(text: str) -> str:
    """At most 300 characters on one line, without any that a terminal acts on."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text[:1000]).split())[:300]


def failed_response(status: int, content: bytes, retry_after: float | None) -> AttemptFailed:
    """What a response with an error status means. `retry_after` is what its header asks for, in seconds."""
    message = f"HTTP {status}: {error_text(content)}"
    if status in (401, 403):
        return AttemptFailed("unauthorised", message)
    if status == 404:
        return AttemptFailed("not_found", message)
    if status == 413:
        return AttemptFailed("too_large", message)
    if status == 402 or b"insufficient_quota" in content:  # OpenAI sends it with status 429; waiting does not help
        return AttemptFailed("quota", message)
    if status == 429:
        return AttemptFailed("rate_limited", message, retryable=True, retry_after=retry_after)
    if status == 408:
        return AttemptFailed("timeout", message, retryable=True, retry_after=retry_after)
    if status == 409 or (status >= 500 and status != 501):
        return AttemptFailed("server", message, retryable=True, retry_after=retry_after)
    if b"content_policy" in content or b"content_filter" in content:
        return AttemptFailed("refused", message)
    return AttemptFailed("bad_request", message)
