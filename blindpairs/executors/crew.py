"""A crew of Ray actors that share out tasks, and survive the loss of any of them.

Promises: an actor makes its worker once, for all its tasks; a task whose actor is lost (its process killed, its
machine gone) is done again by a fresh one, `RETRIES` times at most; an error that the worker raises is never tried
again and ends the run as it would have here; an actor has one task under way and one waiting, so that nothing piles up;
however the run ends, no actor of ours is left, and a Ray that was there before us stays.

Tasks have to bear being done twice: an actor that was only out of reach may still be at its last one.
"""

import heapq
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from blindpairs.errors import BlindpairsError, ConfigError
from blindpairs.executors import RayMissing

try:
    import ray
except ImportError as error:
    raise RayMissing from error

RETRIES = 3
UNDER_WAY = 2  # calls an actor holds: while one is done the next has already travelled
PATIENCE = 600.0  # seconds until the first actor has a place: time for an autoscaler to bring a machine
OBJECT_STORE = 128 << 20  # bytes, of a Ray of our own: only task numbers and small results pass through it
LOST = (
    ray.exceptions.RayActorError,  # also of a machine that is gone or out of reach
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,  # Ray's own watch ended the process
)


@dataclass(frozen=True)
class Actors:
    """Which actors to have, and where.

    `cpus` and `gpus` are what Ray reserves for each, and `cpus` its number of threads unless OMP_NUM_THREADS says
    otherwise. Half a GPU is shared with another actor.
    """

    count: int | None = None  # as many as the cluster has room for
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None  # RAY_ADDRESS where that is set, else a Ray of our own on this machine


class Worker(Protocol):
    """What an actor makes once and then gives its tasks to."""

    def describe(self) -> Mapping[str, Any]:
        """Whatever must be the same in all actors."""

    def do(self, task: Any) -> Any:
        """Do one task."""


class _Actor:
    """The process that Ray runs. Its worker is made in a method, because Ray drops what a constructor raises."""

    def start(self, make: Callable[[], Worker]) -> tuple[str, Mapping[str, Any]]:
        self._worker = make()
        return socket.gethostname(), self._worker.describe()

    def do(self, task: Any) -> Any:
        return self._worker.do(task)


@dataclass(eq=False)
class _Member:
    """One actor, and the places of the tasks it was given, oldest first: the order in which Ray does them."""

    handle: Any
    under_way: deque[int] = field(default_factory=deque)
    ready: bool = False


class Crew:
    """Actors that each hold the worker that `make` makes; a context, because they must not outlive it."""

    def __init__(self, actors: Actors, make: Callable[[], Worker]) -> None:
        self._actors, self._make = actors, make
        self._members: list[_Member] = []
        self._calls: dict[Any, tuple[_Member, int | None]] = {}  # reference -> who, and which task; None: its start
        self._losses: Counter[int | None] = Counter()
        self._alike: tuple[str, Mapping[str, Any]] | None = None  # the first actor's host and description
        self._tasks: Sequence[Any] = ()
        self._waiting: list[int] = []  # a heap of places: the first task goes first, a lost one before later ones

    def __enter__(self) -> "Crew":
        self._connected = connect(self._actors)
        self._since = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            ray.kill(member.handle)
        if self._connected:
            ray.shutdown()

    @property
    def count(self) -> int:
        """How many actors there are to be."""
        if self._actors.count:
            return self._actors.count
        has, cpus, gpus = ray.cluster_resources(), self._actors.cpus, self._actors.gpus
        room = [has.get("CPU", 0) // cpus] if cpus else []
        room += [has.get("GPU", 0) // gpus] if gpus else []
        return max(1, int(min(room, default=1)))

    def describe(self) -> Mapping[str, Any]:
        """What the first actor's worker says of itself; an actor that says otherwise later ends the run."""
        if not self._members:
            self._hire()
        while self._alike is None:
            self._answer()
        return self._alike[1]

    def run(self, tasks: Sequence[Any], ahead: int | None = None) -> Iterator[tuple[int, Any]]:
        """Each task's place in `tasks` and its result, as they come.

        No task is begun `ahead` or more places behind the first unfinished one, so that who wants them in order has
        to hold few. Raises what the worker raised; ConfigError for a task that was lost too often, for actors that
        differ, or where there is no place for any.
        """
        self._tasks, self._waiting = tasks, list(range(len(tasks)))
        while len(self._members) < min(self.count, len(tasks)):
            self._hire()
        unfinished = len(tasks)
        while unfinished:
            self._hand_out(ahead or len(tasks))
            answer = self._answer()
            if answer is not None:
                unfinished -= 1
                yield answer

    def _hire(self) -> None:
        handle = ray.remote(_Actor).options(num_cpus=self._actors.cpus, num_gpus=self._actors.gpus).remote()
        member = _Member(handle)
        self._members.append(member)
        self._calls[handle.start.remote(self._make)] = (member, None)

    def _hand_out(self, ahead: int) -> None:
        """Give every ready actor a task, and only then each a second one."""
        places = [*self._waiting[:1], *(place for member in self._members for place in member.under_way)]
        end = min(places, default=0) + ahead
        for held in range(1, UNDER_WAY + 1):
            for member in self._members:
                if member.ready and len(member.under_way) < held and self._waiting and self._waiting[0] < end:
                    place = heapq.heappop(self._waiting)
                    member.under_way.append(place)
                    self._calls[member.handle.do.remote(self._tasks[place])] = (member, place)

    def _answer(self) -> tuple[int, Any] | None:
        """Wait for one call to end: a task's place and result, or None where it was no task's good end."""
        ready, _ = ray.wait(list(self._calls), timeout=10.0)
        if not ready:
            self._check_patience()
            return None
        member, place = self._calls.pop(ready[0])
        try:
            value = ray.get(ready[0])
        except LOST as error:
            self._replace(member, error)
            return None
        except ray.exceptions.RayTaskError as error:
            # Ours speaks for itself; a bug keeps Ray's wrapping, which shows where it happened.
            raise (error.cause if isinstance(error.cause, BlindpairsError) else error) from None
        if place is None:
            member.ready = True
            self._check_alike(*value)
            return None
        member.under_way.remove(place)
        return place, value

    def _replace(self, member: _Member, error: Exception) -> None:
        """Put the tasks of a lost actor back, and another in its place."""
        self._members.remove(member)
        self._calls = {call: (whose, place) for call, (whose, place) in self._calls.items() if whose is not member}
        ray.kill(member.handle)  # out of reach is not dead
        culprit = member.under_way[0] if member.under_way else None  # the others had not begun: not their fault
        self._losses[culprit] += 1
        if self._losses[culprit] > RETRIES:
            what = "while starting" if culprit is None else f"at the same task ({self._tasks[culprit]})"
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"{RETRIES + 1} actors were lost {what}, the last one so: {reason} "
                "Give each more memory, then run the same command again to go on"
            )
        for place in member.under_way:
            heapq.heappush(self._waiting, place)
        self._hire()

    def _check_alike(self, host: str, described: Mapping[str, Any]) -> None:
        first, known = self._alike = self._alike or (host, described)
        names = [name for name in known if known[name] != described.get(name)]
        if names:
            raise ConfigError(
                f"the actors on {first} and {host} would not give the same results ({', '.join(names)} differs): all "
                "machines need the same versions, the same weights and the same kind of device"
            )

    def _check_patience(self) -> None:
        if self._alike is None and time.monotonic() - self._since > PATIENCE:
            raise ConfigError(_no_place(self._actors))


def connect(actors: Actors) -> bool:
    """Connect to the cluster that `actors` names, or start one here. Returns whether `ray.shutdown` is ours to call.

    Raises ConfigError where no cluster answers, or where one of our own would have no place for a single actor.
    """
    if ray.is_initialized():
        return False
    address = actors.address or os.environ.get("RAY_ADDRESS") or "local"
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address == "local":
            _start_here()
        else:
            _init(address)
    finally:
        if on_terminate and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own there
    has = ray.cluster_resources()
    if address == "local" and (has.get("CPU", 0) < actors.cpus or has.get("GPU", 0) < actors.gpus):
        message = _no_place(actors)
        ray.shutdown()
        raise ConfigError(message)
    return True


def _start_here() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        _init("local", **own)
    except ConfigError:  # its own deadline for starting, 30 s, is short for a busy machine that reads it from the disk
        ray.shutdown()
        _init("local", **own)


def _init(address: str, **options: Any) -> None:
    try:
        # Not the actors' output: stdout is for data, and what went wrong comes as an exception.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises nothing narrower where a process of its own is late
        where = "could not be started here" if address == "local" else f"does not answer at {address}"
        raise ConfigError(f"Ray {where}: {error}") from error


def _no_place(actors: Actors) -> str:
    has = ray.cluster_resources()
    return (
        f"no actor finds a place: each is to have {actors.cpus} CPUs and {actors.gpus:g} GPUs, and the cluster has "
        f"{has.get('CPU', 0):g} and {has.get('GPU', 0):g} in all; ask for less, or add machines"
    )
