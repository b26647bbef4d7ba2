"""How an endpoint is tried: when to ask again, how many requests at once, and when to give up.

Promises: a request is tried a bounded number of times within a bounded time ("too many requests" counts towards the
time only); an endpoint that says how long to wait is left alone for that long, by all requests; no more attempts run at
once than `concurrency`, half as many after each "too many requests"; an endpoint that fails several requests in a row
is asked nothing more (a circuit breaker).
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from blindpairs.vlm.asking import Failure, Reply

# Failures of the endpoint itself, as opposed to a request that it cannot answer.
ENDPOINT_CODES = frozenset(
    "rate_limited quota unauthorised not_found redirected not_an_api server timeout unreachable too_large".split()
)


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often an endpoint is tried. All times in seconds."""

    concurrency: int = 8  # requests at once
    attempts: int = 6  # of one request; those that "too many requests" answers do not count
    connect_timeout: float = 10.0
    attempt_timeout: float = 300.0  # from connecting to the last byte: a large model on a CPU takes minutes
    total_timeout: float = 900.0  # all attempts of one request, with the waiting between them
    first_wait: float = 0.5  # doubled with each attempt
    longest_wait: float = 30.0
    consecutive_failures: int = 5  # requests that fail in a row, after all their attempts

    def wait(self, attempt: int) -> float:
        """The time before the next attempt: "full jitter", so that requests which failed together spread out.

        Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        return random.uniform(0, min(self.longest_wait, self.first_wait * 2 ** (attempt - 1)))


def retry_after_seconds(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, which has a number or a date; None without a readable one."""
    if value is None:
        return None
    with suppress(ValueError):
        seconds = float(value)
        return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


class Throttle:
    """Lets attempts run, a changing number at once. Belongs to one event loop.

    The number grows by one for about as many successes as it has, and is halved by "too many requests": the additive
    increase and multiplicative decrease of TCP.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._running = 0
        self._not_before = 0.0
        self._halved = 0.0
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[bool]:
        """Hold one place for the block; False where the waiting was ended by `stop`."""
        while not self._stopped.is_set():
            if (pause := self._not_before - time.monotonic()) > 0:
                await self.rest(pause)
            elif self._running < int(self._limit):
                break
            else:
                await self._changed.wait()
        self._running += 1
        try:
            yield not self._stopped.is_set()
        finally:
            self._running -= 1
            self._wake()

    async def rest(self, seconds: float) -> None:
        """Wait, unless `stop` ends it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def succeeded(self) -> None:
        """Allow a little more."""
        self._limit = min(self._most, self._limit + 1 / self._limit)
        self._wake()

    def rate_limited(self, began: float, wait: float | None) -> None:
        """Allow half as much, and nothing before `wait` seconds are over. `began`: when the attempt did."""
        if began >= self._halved:  # requests that were under way at the last halving say nothing new
            self._limit = max(1.0, self._limit / 2)
            self._halved = time.monotonic()
        if wait is not None:
            self._not_before = max(self._not_before, time.monotonic() + wait)

    def stop(self) -> None:
        """End all waiting."""
        self._stopped.set()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()  # everybody who waits now
        self._changed.clear()


class Breaker:
    """Counts the requests that failed in a row because of the endpoint."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._failed_in_a_row = 0
        self.last: Failure | None = None

    @property
    def open(self) -> bool:
        """Whether nothing more should be asked. It stays so."""
        return self._failed_in_a_row >= self._most

    def record(self, outcome: Reply | Failure) -> None:
        """Count one outcome."""
        if self.open:  # what was waiting ends unasked, and says nothing of the cause
            return
        if isinstance(outcome, Failure) and outcome.code in ENDPOINT_CODES:
            self._failed_in_a_row += 1
            self.last = outcome
        else:
            self._failed_in_a_row = 0
