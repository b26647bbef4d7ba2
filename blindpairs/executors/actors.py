"""A pool of Ray actors that runs tasks and survives the loss of any actor.

Promises:
* an actor makes its worker once, for all its tasks;
* a task whose actor is lost (process killed, machine gone) is run again by a new actor, `RETRIES` times at most;
* an error that the worker raises is not retried: it ends the run, as it would without Ray;
* an actor holds one running and one queued task, so that results do not pile up;
* however the run ends, the actors of this pool are killed, and a Ray that was running before stays up.

Tasks must be idempotent: an actor that was only unreachable may still finish the task that was given to another.
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
from pathlib import Path
from typing import Any, Protocol

from blindpairs.errors import BlindpairsError, ConfigError, InputError
from blindpairs.executors import RayMissing

try:
    import ray
except ImportError as error:
    raise RayMissing from error

RETRIES = 3
CALLS_PER_ACTOR = 2  # one runs while the next is already queued at the actor
START_TIMEOUT_SECONDS = 600.0  # for the first actor: an autoscaler may have to add a machine
OBJECT_STORE = 128 << 20  # bytes, of a Ray started here: it holds only task numbers and small results
LOST = (
    ray.exceptions.RayActorError,  # also for a machine that is gone or unreachable
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,  # Ray's memory monitor killed the process
)


@dataclass(frozen=True)
class Actors:
    """How many actors to start, their resources, and the cluster.

    Ray reserves `cpus` and `gpus` for each actor. An actor runs `cpus` threads unless OMP_NUM_THREADS is set. Two
    actors with gpus=0.5 share one GPU.
    """

    count: int | None = None  # as many as the cluster has room for
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None  # default: RAY_ADDRESS, or else a Ray started on this machine


def not_shared(folder: Path) -> InputError:
    """The error for a folder of the driver that an actor on another machine does not see."""
    return InputError(
        f"{folder} cannot be read on {socket.gethostname()}: use a --work folder on a disk that all machines of the "
        "cluster share"
    )


class Worker(Protocol):
    """What an actor makes once and runs all its tasks with."""

    def describe(self) -> Mapping[str, Any]:
        """What must be equal in all actors."""

    def run_task(self, task: Any) -> Any:
        """Run one task and return its result."""


class _Actor:
    """The Ray actor. Its worker is made in a method, because Ray does not pass on the exception of a constructor."""

    def start(self, make: Callable[[], Worker]) -> tuple[str, Mapping[str, Any]]:
        """Make the worker; returns the name of this machine and the worker's description."""
        self._worker = make()
        return socket.gethostname(), self._worker.describe()

    def run_task(self, task: Any) -> Any:
        """What the worker makes of the task."""
        return self._worker.run_task(task)


@dataclass(eq=False)
class _ActorState:
    """One actor and the indices of its submitted tasks, oldest first: the order in which Ray runs them."""

    handle: Any
    running: deque[int] = field(default_factory=deque)
    ready: bool = False


class ActorPool:
    """Actors that each hold a worker made by `make`. A context manager: its exit kills the actors."""

    def __init__(self, actors: Actors, make: Callable[[], Worker]) -> None:
        self._actors, self._make = actors, make
        self._states: list[_ActorState] = []
        # Calls that have not ended: Ray's reference -> (actor, index of the task, or None for the call of start()).
        self._calls: dict[Any, tuple[_ActorState, int | None]] = {}
        self._losses: Counter[int | None] = Counter()  # of actors, by the task that ran; None: while starting
        self._first_description: tuple[str, Mapping[str, Any]] | None = None  # the first actor's host and description
        self._tasks: Sequence[Any] = ()
        self._waiting: list[int] = []  # a heap of indices: the lowest is submitted first

    def __enter__(self) -> "ActorPool":
        self._connected = connect(self._actors)
        self._since = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        for state in self._states:
            ray.kill(state.handle)
        if self._connected:  # by this pool, and not by the program around it
            ray.shutdown()

    @property
    def count(self) -> int:
        """How many actors the pool starts."""
        if self._actors.count:
            return self._actors.count
        has, cpus, gpus = ray.cluster_resources(), self._actors.cpus, self._actors.gpus
        room = [has.get("CPU", 0) // cpus] if cpus else []
        room += [has.get("GPU", 0) // gpus] if gpus else []
        return max(1, int(min(room, default=1)))

    def describe(self) -> Mapping[str, Any]:
        """The description of the first actor's worker; an actor with another description ends the run later."""
        if not self._states:
            self._start_actor()
        while self._first_description is None:
            self._next_result()
        return self._first_description[1]

    def run(self, tasks: Sequence[Any], ahead: int | None = None) -> Iterator[tuple[int, Any]]:
        """(index in `tasks`, result) of every task, in the order in which they finish.

        A task is submitted only within `ahead` indices of the first unfinished one. This bounds how many results a
        caller holds that needs them in order. Raises what the worker raised, and ConfigError for a task that was lost
        too often, for actors whose descriptions differ, and where the cluster has no room for an actor.
        """
        self._tasks, self._waiting = tasks, list(range(len(tasks)))
        while len(self._states) < min(self.count, len(tasks)):
            self._start_actor()
        unfinished = len(tasks)
        while unfinished:
            self._submit(ahead or len(tasks))
            result = self._next_result()
            if result is not None:
                unfinished -= 1
                yield result

    def _start_actor(self) -> None:
        handle = ray.remote(_Actor).options(num_cpus=self._actors.cpus, num_gpus=self._actors.gpus).remote()
        state = _ActorState(handle)
        self._states.append(state)
        self._calls[handle.start.remote(self._make)] = (state, None)

    def _submit(self, ahead: int) -> None:
        """Submit one task to every ready actor, then a second one to each."""
        # The first unfinished task is waiting (the heap's first) or running at some actor.
        indices = [*self._waiting[:1], *(index for state in self._states for index in state.running)]
        end = min(indices, default=0) + ahead
        # One round a call, so that no actor gets its second task before every other actor has its first.
        for calls in range(1, CALLS_PER_ACTOR + 1):
            for state in self._states:
                if state.ready and len(state.running) < calls and self._waiting and self._waiting[0] < end:
                    index = heapq.heappop(self._waiting)
                    state.running.append(index)
                    self._calls[state.handle.run_task.remote(self._tasks[index])] = (state, index)

    def _next_result(self) -> tuple[int, Any] | None:
        """Wait for one call to end. Returns (task index, result), or None if it was not a task or failed."""
        # With a timeout, because a cluster without room for the first actor never answers.
        ready, _ = ray.wait(list(self._calls), timeout=10.0)
        if not ready:
            self._check_start_timeout()
            return None
        state, index = self._calls.pop(ready[0])
        try:
            value = ray.get(ready[0])
        except LOST as error:
            self._replace(state, error)
            return None
        except ray.exceptions.RayTaskError as error:
            # Our own error is raised as it is; a bug keeps Ray's wrapper, which has the remote traceback.
            raise (error.cause if isinstance(error.cause, BlindpairsError) else error) from None
        if index is None:
            state.ready = True
            self._check_same_description(*value)
            return None
        state.running.remove(index)
        return index, value

    def _replace(self, state: _ActorState, error: Exception) -> None:
        """Requeue the tasks of a lost actor and start another."""
        self._states.remove(state)
        self._calls = {call: (owner, index) for call, (owner, index) in self._calls.items() if owner is not state}
        ray.kill(state.handle)  # it may be alive and only unreachable
        # Of its tasks only the first had started, so only that one can have caused the loss.
        suspect = state.running[0] if state.running else None
        self._losses[suspect] += 1
        if self._losses[suspect] > RETRIES:
            what = "while starting" if suspect is None else f"at the same task ({self._tasks[suspect]})"
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"{RETRIES + 1} actors were lost {what}, the last one because: {reason} "
                "Give each more memory, then run the same command again to go on"
            )
        for index in state.running:
            heapq.heappush(self._waiting, index)
        self._start_actor()

    def _check_same_description(self, host: str, described: Mapping[str, Any]) -> None:
        first, known = self._first_description = self._first_description or (host, described)
        names = [name for name in known if known[name] != described.get(name)]
        if names:
            raise ConfigError(
                f"the actors on {first} and {host} would not give the same results ({', '.join(names)} differs): all "
                "machines need the same versions, the same weights and the same kind of device"
            )

    def _check_start_timeout(self) -> None:
        if self._first_description is None and time.monotonic() - self._since > START_TIMEOUT_SECONDS:
            raise ConfigError(_no_room(self._actors))


def connect(actors: Actors) -> bool:
    """Connect to the cluster that `actors` names, or start one here. Returns whether the caller has to shut Ray down.

    Raises ConfigError if the cluster does not answer, or if this machine has no room for one actor.
    """
    if ray.is_initialized():
        return False
    address = actors.address or os.environ.get("RAY_ADDRESS") or "local"
    terminate_handler = signal.getsignal(signal.SIGTERM)
    try:
        if address == "local":
            _start_here()
        else:
            _init(address)
    finally:
        # ray.init() replaces the handler, and with it the message and the exit code of an interrupted command.
        if terminate_handler and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate_handler)
    has = ray.cluster_resources()
    # Nothing adds machines to a Ray on one machine; a cluster may have an autoscaler, so there the pool waits.
    if address == "local" and (has.get("CPU", 0) < actors.cpus or has.get("GPU", 0) < actors.gpus):
        message = _no_room(actors)
        ray.shutdown()
        raise ConfigError(message)
    return True


def _start_here() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        _init("local", **options)
    except ConfigError:  # Ray's limit of 30 s for its start is too short for a busy machine with a cold disk cache
        ray.shutdown()
        _init("local", **options)


def _init(address: str, **options: Any) -> None:
    try:
        # stdout is for data, so the actors' output is not logged here; their failures arrive as exceptions.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises no narrower class when one of its processes is late
        where = "could not be started here" if address == "local" else f"does not answer at {address}"
        raise ConfigError(f"Ray {where}: {error}") from error


def _no_room(actors: Actors) -> str:
    has = ray.cluster_resources()
    return (
        f"the cluster has no room for an actor: each needs {actors.cpus} CPUs and {actors.gpus:g} GPUs, "
        f"and the cluster has {has.get('CPU', 0):g} and {has.get('GPU', 0):g} in total; ask for fewer, or add machines"
    )
