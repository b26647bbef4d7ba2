"""Asks a model through the cache, within a budget, with replies checked against their schema.

Promises: equal asks are asked once; a reply is stored before it is yielded, and what is stored is not asked again, nor
counted against the budget; every ask ends in one Reply or Failure, unless the budget or the endpoint ends the run, and
then everything that was answered has been yielded and stored before the error.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field, replace

from blindpairs.errors import BudgetSpent
from blindpairs.progress import Progress, silent
from blindpairs.vlm.asking import Answerer, Ask, Failure, Reply
from blindpairs.vlm.budget import Budget, Meter
from blindpairs.vlm.cache import Cache, content_key
from blindpairs.vlm.structured import instructed, read_object, repaired
from blindpairs.workspace import canonical_json

Outcome = Reply | Failure


def ask_all(
    answerer: Answerer,
    asks: Iterable[Ask],
    *,
    cache: Cache,
    budget: Budget | Meter = Budget(),
    progress: Progress = silent,
    total: int | None = None,
) -> Iterator[Outcome]:
    """One outcome per ask, in any order. The keys of the asks must differ.

    The asks are drawn as they are needed, so that their images need not fit into memory; `total` is their number where
    they have no length. A meter is a budget that several calls share.
    Raises BudgetSpent and EndpointFailed after everything that was answered.
    """
    meter = budget if isinstance(budget, Meter) else Meter(budget)
    if total is None and isinstance(asks, Sized):
        total = len(asks)
    yield from _AskRun(answerer, cache, meter, progress, total).run(asks)


@dataclass
class _Job:
    """One request to the model, for everybody who asked the same."""

    ask: Ask  # instructed; its key is its content key
    callers: list[str]
    earlier: Reply | None = None  # the broken reply that this one repairs


@dataclass
class _AskRun:
    """The state of one `ask_all`."""

    answerer: Answerer
    cache: Cache
    meter: Meter
    progress: Progress
    total: int | None
    jobs: dict[str, _Job] = field(default_factory=dict)  # content key -> what waits for its outcome
    failures: dict[str, Failure] = field(default_factory=dict)  # content key -> its failure in this run
    stored: set[str] = field(default_factory=set)  # content keys of replies that are stored and not settled yet
    waiting: deque[_Job] = field(default_factory=deque)  # before anything new: repairs, and what had no room yet
    ready: deque[Outcome] = field(default_factory=deque)  # outcomes that the caller has not taken yet
    exhausted: bool = False  # the caller has no more asks
    drawn: int = 0  # asks that were taken from the caller
    answered: int = 0
    failed: int = 0
    unanswered: int = 0  # asks that the budget had no room for

    def run(self, asks: Iterable[Ask]) -> Iterator[Outcome]:
        """Ask in rounds: one ends where a request must wait for another's outcome, or repairs came late."""
        remaining = iter(asks)
        while self.waiting or not self.exhausted:
            for outcome in self.answerer.ask(self._requests(remaining), keep=self._keep):
                self.meter.end(outcome)
                self._settle(outcome)
                yield from self._drained()
            yield from self._drained()
        if self.unanswered:
            raise BudgetSpent(self.meter.spent(self.unanswered))

    def _requests(self, asks: Iterator[Ask]) -> Iterator[Ask]:
        """What the model must be asked. Outcomes from the cache go to `ready` on the way."""
        while (job := self._next_job(asks)) is not None:
            if self.unanswered == 0 and self.meter.begin(job.ask):
                yield job.ask
            elif self.unanswered == 0 and self.meter.under_way:
                self.waiting.appendleft(job)  # what is under way may turn out to be cheaper than its reservation
                return
            else:  # the budget is spent: the rest is only looked up in the cache, and counted
                self.unanswered += len(self.jobs.pop(job.ask.key).callers)

    def _next_job(self, asks: Iterator[Ask]) -> _Job | None:
        """The next request that neither the cache nor an equal request answers; None where there is none now."""
        while not self.waiting:
            ask = next(asks, None)
            if ask is None:
                self.exhausted = True
                return None
            self.drawn += 1
            self._route(instructed(ask), [ask.key], None)
        return self.waiting.popleft()

    def _route(self, ask: Ask, callers: list[str], earlier: Reply | None) -> None:
        """Answer an ask from what is known, or have it join an equal one, or wait to be asked."""
        key = content_key(self.answerer.settings, ask)
        job = _Job(replace(ask, key=key), callers, earlier)
        if key in self.jobs:
            self.jobs[key].callers += callers
        elif (failure := self.failures.get(key)) is not None:
            self._finish(job, failure)
        elif (reply := self.cache.get(key)) is not None:
            self._read(job, reply)
        else:
            self.jobs[key] = job
            self.waiting.append(job)

    def _keep(self, reply: Reply) -> None:
        self.cache.put(self.answerer, reply)
        self.stored.add(reply.key)

    def _settle(self, outcome: Outcome) -> None:
        """Take the model's outcome of a request."""
        job = self.jobs.pop(outcome.key)
        if isinstance(outcome, Failure):
            self.failures[outcome.key] = outcome
            self._finish(job, outcome)
            return
        if outcome.key not in self.stored:
            self._keep(outcome)
        self.stored.discard(outcome.key)
        self._read(job, outcome)

    def _read(self, job: _Job, reply: Reply) -> None:
        """Check a reply against the schema; a broken one is repaired once."""
        value, reason = ({}, "") if job.ask.schema is None else read_object(reply.text, job.ask.schema)
        if value is None and reply.finish == "length":
            reason += f" (it was cut at max_tokens={job.ask.max_tokens})"
        if value is None and job.earlier is None:
            self._route(repaired(job.ask, reply, reason), job.callers, reply)
        elif value is None:
            self._finish(job, Failure(reply.key, "broken_json", f"its reply cannot be used: {reason}"))
        else:
            text = reply.text if job.ask.schema is None else canonical_json(value)
            self._finish(job, replace(_combined(job.earlier, reply), text=text))

    def _finish(self, job: _Job, outcome: Outcome) -> None:
        """The same outcome for every caller; only the first one's was asked now."""
        for number, caller in enumerate(job.callers):
            if isinstance(outcome, Reply):
                self.ready.append(replace(outcome, key=caller, cached=outcome.cached or number > 0))
                self.answered += 1
            else:
                self.ready.append(replace(outcome, key=caller))
                self.failed += 1
        self.progress(self.answered, self.drawn if self.total is None else self.total, self.failed)

    def _drained(self) -> Iterator[Outcome]:
        """The outcomes that are ready, and none twice."""
        while self.ready:
            yield self.ready.popleft()


def _combined(earlier: Reply | None, reply: Reply) -> Reply:
    """The reply to a repair, with the time and the tokens of both requests."""
    if earlier is None:
        return reply
    return replace(
        reply,
        seconds=earlier.seconds + reply.seconds,
        prompt_tokens=_sum(earlier.prompt_tokens, reply.prompt_tokens),
        completion_tokens=_sum(earlier.completion_tokens, reply.completion_tokens),
        cached=earlier.cached and reply.cached,
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
