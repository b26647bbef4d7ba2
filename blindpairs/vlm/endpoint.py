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
from blindpairs.vlm.retries import Breaker, Patience, Throttle, retry_after
from blindpairs.vlm.specs import ELSEWHERE, ModelSpec
from blindpairs.vlm.wire import Dialect, Trouble, body, printable, read_completion, trouble

LARGEST = 20_000_000  # bytes of a response
SHORTEST_KEY = 16  # shorter ones, such as "EMPTY" for a server without keys, may be words of an answer


@dataclass
class _Session:
    """What the requests of one `ask` share."""

    client: httpx2.AsyncClient
    throttle: Throttle
    keep: Keep


class Endpoint:
    """Asks a model behind an endpoint."""

    def __init__(self, spec: ModelSpec, patience: Patience = Patience(), notice: Notice = drop_notice) -> None:
        """Nothing is asked yet. ConfigError for a key that cannot be one."""
        self._service = spec.service or ELSEWHERE
        self._model = spec.target
        self._base_url = spec.base_url
        self._patience = patience
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
        breaker = Breaker(self._patience.straight_failures)
        pending: set[Future[Reply | Failure]] = set()
        with _event_loop() as loop, self._client(loop) as client:
            session = _Session(client, Throttle(self._patience.concurrency), keep)
            while True:
                while not breaker.open and len(pending) < self._patience.concurrency:
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
        patience, began = self._patience, time.monotonic()
        last = Trouble("unreachable", "the endpoint failed before this was asked")
        attempts = failed = 0
        while failed < patience.attempts:
            async with session.throttle.slot() as may_ask:
                if not may_ask:
                    break
                started = time.monotonic()
                try:
                    reply = await self._attempt(session, ask)
                    session.throttle.went_well()
                    session.keep(reply)
                    return reply
                except Trouble as trouble_:
                    last = trouble_
                if last.code == "rate_limited":
                    session.throttle.too_many(started, last.wait)
            attempts += 1
            failed += last.code != "rate_limited"  # it works, and asks for time: only the time is limited
            pause = patience.wait(attempts) if last.wait is None else last.wait
            if not last.again or time.monotonic() - began + pause > patience.total:
                break
            if failed < patience.attempts:
                await session.throttle.rest(pause)
        return Failure(ask.key, last.code, self._without_key(last.message))

    async def _attempt(self, session: _Session, ask: Ask) -> Reply:
        """One attempt, repeated only to find what the endpoint understands; raises Trouble."""
        dialect = known = self._dialect
        started = time.monotonic()
        while True:
            try:
                content = await self._post(session, body(self._model, ask, dialect))
                break
            except Trouble as refusal:
                simpler = dialect.simpler(ask, refusal.message) if refusal.code == "bad_request" else None
                if simpler is None:
                    refusal.message += self._image_advice(ask, refusal)
                    raise
                dialect = simpler
        if dialect != known:
            self._remember(dialect)
        said = read_completion(content, ask.max_tokens)
        seconds = time.monotonic() - started
        text = self._without_key(said.text)
        return Reply(ask.key, text, seconds, said.prompt_tokens, said.completion_tokens, said.finish)

    async def _post(self, session: _Session, request: dict[str, Any]) -> bytes:
        """The body of a successful response; raises Trouble for everything else."""
        try:
            async with (
                asyncio.timeout(self._patience.attempt),
                session.client.stream("POST", f"{self._base_url}/chat/completions", json=request) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > LARGEST:
                        raise Trouble("too_large", f"its response is larger than {LARGEST // 1_000_000} MB")
        except (TimeoutError, httpx2.TimeoutException) as error:
            limit = self._patience.connect if isinstance(error, httpx2.ConnectTimeout) else self._patience.attempt
            raise Trouble("timeout", f"no response within {limit:g} s", again=True) from error
        except httpx2.ConnectError as error:
            raise Trouble("unreachable", f"no connection ({error})", again=True) from error
        except httpx2.HTTPError as error:  # cut off, garbled, or closed by the other side
            raise Trouble("server", f"the connection broke ({type(error).__name__}: {error})", again=True) from error
        if response.is_redirect:
            where = printable(response.headers["location"])
            raise Trouble("redirected", f"it redirects to {where}, which is not followed")
        if not response.is_success:
            raise trouble(response.status_code, bytes(content), retry_after(response.headers.get("retry-after")))
        return bytes(content)

    def _remember(self, dialect: Dialect) -> None:
        if self._dialect.temperature and not dialect.temperature:
            self._notice(f"{self.name} takes no temperature: it answers with its own, and not the same each time")
        self._dialect = dialect

    def _image_advice(self, ask: Ask, refusal: Trouble) -> str:
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
            timeout=httpx2.Timeout(self._patience.attempt, connect=self._patience.connect),
            limits=httpx2.Limits(max_connections=self._patience.concurrency),
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
            f"{self.name} failed {self._patience.straight_failures} times in a row, last with {failure.code}: "
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
