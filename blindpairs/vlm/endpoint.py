"""A model behind an OpenAI-compatible endpoint: vLLM, SGLang, Ollama, `transformers serve`, OpenAI and others.

Promises: the key goes to the host of the base address only, and into no message, setting or file; no redirect is
followed; a response ends at 20 MB and after a bounded time; every request ends in a Reply or a Failure, until several
fail in a row because of the endpoint, which ends the run with EndpointFailed.
"""

import asyncio
import ipaddress
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from blindpairs import __version__
from blindpairs.errors import ConfigError, EndpointFailed
from blindpairs.progress import Notice, drop_notice
from blindpairs.vlm.asking import Ask, Failure, Keep, Reply, keep_nothing
from blindpairs.vlm.retries import Breaker, RetryPolicy, Throttle, retry_after_seconds
from blindpairs.vlm.specs import UNKNOWN_SERVICE, ModelSpec
from blindpairs.vlm.wire import AttemptFailed, Dialect, failed_response, printable, read_completion, request_body

LARGEST_RESPONSE = 20_000_000  # bytes
SHORTEST_KEY = 16  # shorter ones, such as "EMPTY" for a server without keys, may be words of an answer


@dataclass
class _Session:
    """What the requests of one `ask` share."""

    client: httpx2.AsyncClient
    throttle: Throttle
    keep: Keep


class Endpoint:
    """Asks a model behind an endpoint."""

    def __init__(self, spec: ModelSpec, policy: RetryPolicy = RetryPolicy(), notice: Notice = drop_notice) -> None:
        """Nothing is asked yet. ConfigError for a key that cannot be one."""
        self._service = spec.service or UNKNOWN_SERVICE
        self._model = spec.target
        self._base_url = spec.base_url
        self._policy = policy
        self._notice = notice
        self._key = self._read_key()
        self._dialect = Dialect(self._service.token_limit, "json_schema" if self._service.structured else "")

    @property
    def name(self) -> str:
        """The model and the host that runs it."""
        return f"{self._model}@{urlsplit(self._base_url).netloc}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model and its address; what the server runs under that name is beyond our knowledge."""
        return {"kind": "openai", "model": self._model, "base_url": self._base_url}

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
        """One outcome per ask, as they complete; EndpointFailed after several failures in a row."""
        feed = iter(asks)
        breaker = Breaker(self._policy.consecutive_failures)
        pending: set[Future[Reply | Failure]] = set()
        with _event_loop() as loop, self._client(loop) as client:
            session = _Session(client, Throttle(self._policy.concurrency), keep)
            while True:
                while not breaker.open and len(pending) < self._policy.concurrency:
                    if (ask := next(feed, None)) is None:
                        break
                    pending.add(asyncio.run_coroutine_threadsafe(self._answer(session, ask), loop))
                if not pending:
                    break
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    breaker.record(outcome)
                    if breaker.open:
                        loop.call_soon_threadsafe(session.throttle.stop)
                    yield outcome
        if breaker.open and breaker.last is not None:
            raise EndpointFailed(self._advice(breaker.last))

    async def _answer(self, session: _Session, ask: Ask) -> Reply | Failure:
        """Try until there is a reply, or no hope of one."""
        policy, began = self._policy, time.monotonic()
        last = AttemptFailed("unreachable", "the endpoint failed before this was asked")
        attempts = failed = 0
        while failed < policy.attempts:
            async with session.throttle.slot() as may_ask:
                if not may_ask:
                    break
                started = time.monotonic()
                try:
                    reply = await self._attempt(session, ask)
                    session.throttle.succeeded()
                    session.keep(reply)
                    return reply
                except AttemptFailed as failure:
                    last = failure
                if last.code == "rate_limited":
                    session.throttle.rate_limited(started, last.retry_after)
            attempts += 1
            failed += last.code != "rate_limited"  # it works, and asks for time: only the time is limited
            pause = policy.wait(attempts) if last.retry_after is None else last.retry_after
            if not last.retryable or time.monotonic() - began + pause > policy.total_timeout:
                break
            if failed < policy.attempts:
                await session.throttle.rest(pause)
        return Failure(ask.key, last.code, self._without_key(last.message))

    async def _attempt(self, session: _Session, ask: Ask) -> Reply:
        """One attempt, repeated only to find what the endpoint understands; raises AttemptFailed."""
        dialect = known = self._dialect
        started = time.monotonic()
        while True:
            try:
                content = await self._post(session, request_body(self._model, ask, dialect))
                break
            except AttemptFailed as refusal:
                simpler = dialect.simpler(ask, refusal.message) if refusal.code == "bad_request" else None
                if simpler is None:
                    refusal.message += self._image_advice(ask, refusal)
                    raise
                dialect = simpler
        if dialect != known:
            self._remember(dialect)
        completion = read_completion(content, ask.max_tokens)
        seconds = time.monotonic() - started
        text = self._without_key(completion.text)
        return Reply(ask.key, text, seconds, completion.prompt_tokens, completion.completion_tokens, completion.finish)

    async def _post(self, session: _Session, request: dict[str, Any]) -> bytes:
        """The body of a successful response; raises AttemptFailed for everything else."""
        try:
            async with (
                asyncio.timeout(self._policy.attempt_timeout),
                session.client.stream("POST", f"{self._base_url}/chat/completions", json=request) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > LARGEST_RESPONSE:
                        raise AttemptFailed(
                            "too_large", f"its response is larger than {LARGEST_RESPONSE // 1_000_000} MB"
                        )
        except (TimeoutError, httpx2.TimeoutException) as error:
            limit = (
                self._policy.connect_timeout
                if isinstance(error, httpx2.ConnectTimeout)
                else self._policy.attempt_timeout
            )
            raise AttemptFailed("timeout", f"no response within {limit:g} s", retryable=True) from error
        except httpx2.ConnectError as error:
            raise AttemptFailed("unreachable", f"no connection ({error})", retryable=True) from error
        except httpx2.HTTPError as error:  # cut off, garbled, or closed by the other side
            raise AttemptFailed(
                "server", f"the connection broke ({type(error).__name__}: {error})", retryable=True
            ) from error
        if response.is_redirect:
            where = printable(response.headers["location"])
            raise AttemptFailed("redirected", f"it redirects to {where}, which is not followed")
        if not response.is_success:
            raise failed_response(
                response.status_code, bytes(content), retry_after_seconds(response.headers.get("retry-after"))
            )
        return bytes(content)

    def _remember(self, dialect: Dialect) -> None:
        if self._dialect.temperature and not dialect.temperature:
            self._notice(f"{self.name} takes no temperature: it answers with its own, and not the same each time")
        self._dialect = dialect

    def _image_advice(self, ask: Ask, refusal: AttemptFailed) -> str:
        about_images = len(ask.pictures) > 1 and "image" in refusal.message.lower()
        advice = self._service.several_images
        return f" ({advice})" if about_images and advice and refusal.code == "bad_request" else ""

    @contextmanager
    def _client(self, loop: asyncio.AbstractEventLoop) -> Iterator[httpx2.AsyncClient]:
        headers = {"user-agent": f"blindpairs/{__version__}", "accept-encoding": "identity"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(self._policy.attempt_timeout, connect=self._policy.connect_timeout),
            limits=httpx2.Limits(max_connections=self._policy.concurrency),
            follow_redirects=False,
            trust_env=not _is_loopback(self._base_url),  # a proxy is for the world outside
        )
        try:
            yield client
        finally:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()

    def _read_key(self) -> str:
        variable = self._service.key_variable
        key = os.environ.get(variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(f"{variable} holds characters that no key has: set it again")
        if key and self._base_url.startswith("http://") and not _is_loopback(self._base_url):
            self._notice(f"the key in {variable} goes to {urlsplit(self._base_url).netloc} unencrypted: use https")
        return key

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) >= SHORTEST_KEY else text

    def _advice(self, failure: Failure) -> str:
        """The last failure of an endpoint that is given up, and what to do."""
        variable = self._service.key_variable
        steps = {
            "unauthorised": f"put a valid key into {variable}" + ("" if self._key else " (it is not set)"),
            "not_found": "check the name of the model and the base address",
            "quota": "raise the quota of the account",
            "rate_limited": "wait, then run the same command again",
            "unreachable": "start the server or check its address",
            "redirected": "give the address that it redirects to, if you trust it",
        }
        step = steps.get(failure.code, "look into the server's log")
        return (
            f"{self.name} failed {self._policy.consecutive_failures} times in a row, last with {failure.code}: "
            f"{failure.message};\n{step}; what was answered is kept, and the same command goes on from there"
        )


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own, so that requests go on while the caller is busy with an outcome."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
