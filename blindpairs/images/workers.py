"""Decoding in worker processes: a crash, a hang or a killed process costs one image, which is reported by name.

Native decoders can crash on damaged files (for some, one flipped byte in a PNG is enough), or never return. So every
image is read, decoded and preprocessed in a worker process, which shares one block of memory with this one: pixels go
through the memory, everything else through a socket. Promises: results come in the order of the items; an image that
kills its worker twice fails as `decoder_crash`, one that takes longer than the timeout as `timeout`; no other image is
affected; no worker outlives this process.

The block is an anonymous memory file, not /dev/shm (64 MB in many containers, and full means SIGBUS).
"""

import math
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice
from multiprocessing.connection import Connection, wait

import numpy as np

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import Item, read_item
from blindpairs.images.decode import Limits, decode, image_id
from blindpairs.images.header import HEAD_BYTES, sniff
from blindpairs.images.item import Failed, Image, Outcome
from blindpairs.images.preprocess import Preprocess
from blindpairs.system import child_environment

CHUNK = 16  # images a message: enough that messages cost nothing, few enough that a crash repeats little
# Not `-m`: classes pickled from a module that runs as __main__ would not be found in the main process.
START = "import sys; from blindpairs.images.workers import main; main(sys.argv[1:])"
STARTING = 120.0  # seconds a worker may take to import its libraries, from a cold network disk
# The block starts with the worker's position: chunk number, index in the chunk, steps through the archive of the image.
# It is written before an image is touched, so that after a crash or a timeout it names the image that caused it.
POSITION = struct.Struct("=qqq")


@dataclass(frozen=True)
class Decoding:
    """How every image is decoded. `preprocesses` are those that the encoders need, one a geometry."""

    preprocesses: tuple[Preprocess, ...]
    limits: Limits = Limits()
    timeout: float = 60.0  # seconds one image may take, once its archive has been read up to it

    @property
    def image_bytes(self) -> int:
        """Shared memory of one image: (3, S, S) uint8 for each preprocess."""
        return sum(3 * preprocess.size**2 for preprocess in self.preprocesses)


@dataclass(eq=False)
class _Chunk:
    """Some consecutive items on their way through a worker."""

    number: int
    items: list[Item]
    crashes: dict[int, int] = field(default_factory=dict)  # index -> how often it killed a worker
    verdicts: dict[int, Failed] = field(default_factory=dict)  # failures decided here, not by a worker
    outcomes: list[Outcome] | None = None
    worker: "_Worker | None" = None
    slot: int = 0


class _Worker:
    """One process, its socket, and its block of memory: the position, then `slots` slots for the pixels of a chunk."""

    def __init__(self, decoding: Decoding, slots: int) -> None:
        self.slot_bytes = CHUNK * decoding.image_bytes
        self.free = list(range(slots))
        self.chunks: deque[_Chunk] = deque()  # sent and not answered; answers come in this order
        self.last_step: tuple[tuple[int, ...], float] = ((), time.monotonic())  # the position, and since when
        self.stderr = tempfile.TemporaryFile()  # a pipe would fill up and block the worker
        memory = _memory_file(POSITION.size + slots * self.slot_bytes)
        here, there = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(there.fileno()), str(memory)],
            pass_fds=(there.fileno(), memory),
            stdin=subprocess.DEVNULL,
            stderr=self.stderr,  # native decoders print a line for each damaged file
            env=child_environment() | {"OMP_NUM_THREADS": "1"},  # every core has a worker
        )
        self.block = mmap.mmap(memory, 0)
        there.close()
        os.close(memory)
        self.connection = Connection(here.detach())
        self.connection.send(decoding)

    def submit(self, chunk: _Chunk) -> None:
        """Give the worker a chunk and a slot to put the pixels in."""
        chunk.worker, chunk.slot = self, self.free.pop()
        self.chunks.append(chunk)
        try:
            self.connection.send((chunk.number, chunk.slot, chunk.items, frozenset(chunk.verdicts)))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it is dead: the next read notices that, and the chunk goes to another worker

    def stuck(self, now: float, timeout: float) -> bool:
        """Whether the worker has made no step for longer than the timeout."""
        position = POSITION.unpack_from(self.block)
        if not self.chunks or position != self.last_step[0]:
            self.last_step = (position, now)
        return now - self.last_step[1] > timeout + (STARTING if position[0] < 0 else 0)

    def images(self, chunk: _Chunk, preprocesses: Iterable[Preprocess]) -> Iterator[tuple[Item, Outcome]]:
        """The items of a finished chunk with their outcomes; the pixels are views of the block, (3, S, S) each."""
        for index, (item, outcome) in enumerate(zip(chunk.items, chunk.outcomes or (), strict=True)):
            pixels, start = [], POSITION.size + chunk.slot * self.slot_bytes + index * (self.slot_bytes // CHUNK)
            for preprocess in preprocesses:
                shape = (3, preprocess.size, preprocess.size)
                pixels.append(np.frombuffer(self.block, np.uint8, math.prod(shape), start).reshape(shape))
                start += math.prod(shape)
            yield item, replace(outcome, pixels=tuple(pixels)) if isinstance(outcome, Image) else outcome

    def kill(self) -> int:
        """End the process; its exit status, negative for a signal."""
        self.process.kill()
        self.connection.close()
        return self.process.wait()


class DecodePool:
    """A few workers and the images in flight between them."""

    def __init__(self, decoding: Decoding, processes: int, ahead: int) -> None:
        """Decode up to `ahead` images before they are asked for (which bounds the memory)."""
        self._decoding = decoding
        self._slots = max(2, -(-ahead // (CHUNK * processes)))
        self._workers = [_Worker(decoding, self._slots) for _ in range(processes)]
        self._unfinished: deque[_Chunk] = deque()  # of workers that died

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()

    def outcomes(self, items: Iterable[Item]) -> Iterator[tuple[Item, Outcome]]:
        """Every item with its image or its failure, in order."""
        stream = iter(items)
        chunks = map(_Chunk, count(), iter(lambda: list(islice(stream, CHUNK)), []))
        pending: deque[_Chunk] = deque()  # in the order of the items, whichever worker answers first
        while self._fill(chunks, pending):
            while pending[0].outcomes is None:
                self._receive_any()
                self._fill(chunks, pending)
            chunk = pending.popleft()
            assert chunk.worker is not None
            yield from chunk.worker.images(chunk, self._decoding.preprocesses)
            chunk.worker.free.append(chunk.slot)  # only now: what was yielded are views of the slot

    def _fill(self, chunks: Iterator[_Chunk], pending: deque[_Chunk]) -> bool:
        """Give chunks to workers as long as there are free slots, which bound the memory; whether any is pending."""
        while free := [worker for worker in self._workers if worker.free]:
            if self._unfinished:
                chunk = self._unfinished.popleft()
            elif (fresh := next(chunks, None)) is not None:
                chunk = fresh
                pending.append(chunk)
            else:
                break
            max(free, key=lambda worker: len(worker.free)).submit(chunk)
        return bool(pending)

    def _receive_any(self) -> None:
        """Receive results from the workers, and replace those that died or hang."""
        busy = [worker for worker in self._workers if worker.chunks]
        ready = wait([worker.connection for worker in busy], timeout=min(1.0, self._decoding.timeout / 4))
        for worker in busy:
            if worker.connection in ready:
                self._receive(worker)
            elif worker.stuck(time.monotonic(), self._decoding.timeout):
                self._replace(worker, timed_out=True)

    def _receive(self, worker: _Worker) -> None:
        try:
            answer = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self._replace(worker, timed_out=False)
            return
        if isinstance(answer, str):
            raise RuntimeError(f"a decode worker failed on a bug in blindpairs:\n{answer}")
        chunk = worker.chunks.popleft()
        chunk.outcomes = [chunk.verdicts.get(index, outcome) for index, outcome in enumerate(answer)]

    def _replace(self, worker: _Worker, *, timed_out: bool) -> None:
        """Replace a dead or stuck worker; its unfinished chunks are done again, without the image that caused it."""
        number, index, _ = POSITION.unpack_from(worker.block)
        status = worker.kill()
        if number < 0:
            worker.stderr.seek(0)
            printed = worker.stderr.read().decode(errors="replace").strip()
            raise RuntimeError(f"a decode worker could not start (exit status {status})\n{printed}")
        for chunk in worker.chunks:
            if chunk.number == number:  # else the worker died between two chunks: no image caused it
                _blame(chunk, index, timed_out, status, self._decoding.timeout)
        # Slots whose pixels are still to be read stay with the dead worker's block, which lives as long as they do.
        self._workers[self._workers.index(worker)] = _Worker(self._decoding, self._slots)
        self._unfinished.extend(worker.chunks)


def _blame(chunk: _Chunk, index: int, timed_out: bool, status: int, timeout: float) -> None:
    """Record what a worker died on. A first crash may have another cause, such as too little memory: it is retried."""
    if timed_out:
        chunk.verdicts[index] = Failed("timeout", f"decoding took longer than {timeout:g} s")
        return
    chunk.crashes[index] = chunk.crashes.get(index, 0) + 1
    if chunk.crashes[index] > 1:
        cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        chunk.verdicts[index] = Failed("decoder_crash", f"the decoder died on it twice ({cause})")


def _memory_file(size: int) -> int:
    """A file descriptor of `size` bytes of memory that disappears with its last user."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("blindpairs")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.truncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise InputError(
            f"cannot get {size:,} bytes of memory for decoded images ({error.strerror}): "
            "raise the limit on file sizes (ulimit -f), which also applies to it"
        ) from error
    os.pwrite(descriptor, POSITION.pack(-1, -1, 0), 0)
    return descriptor


def work(connection: Connection, block: mmap.mmap) -> None:
    """The loop of a worker: receive chunks, send outcomes, until the connection closes."""
    decoding: Decoding = connection.recv()
    slot_bytes = CHUNK * decoding.image_bytes
    while True:
        try:
            number, slot, items, given_up = connection.recv()
        except EOFError:
            return
        outcomes: list[Outcome] = []
        for index, item in enumerate(items):
            POSITION.pack_into(block, 0, number, index, 0)
            start = POSITION.size + slot * slot_bytes + index * decoding.image_bytes
            # The main process puts its own verdict in the place of the empty one.
            outcomes.append(Failed("", "") if index in given_up else _outcome(item, decoding, block, start))
        connection.send(outcomes)


def _outcome(item: Item, decoding: Decoding, block: mmap.mmap, start: int) -> Outcome:
    """Read, decode and preprocess one image; its pixels go into the block at `start`."""
    identity = None
    try:
        data = read_item(item, lambda: _step(block))
        identity = image_id(data)
        decoded = decode(data, decoding.limits)
        for preprocess in decoding.preprocesses:
            pixels = preprocess.apply(decoded.pixels)  # (3, S, S)
            block[start : start + pixels.nbytes] = pixels.tobytes()
            start += pixels.nbytes
    except Undecodable as error:
        return Failed(error.code, error.message, identity)
    except MemoryError:
        return Failed("out_of_memory", "there was not enough memory to decode it", identity)
    kind = sniff(data[:HEAD_BYTES]) or ""
    return Image(identity, decoded.width, decoded.height, decoded.phash, tuple(decoded.flags), kind=kind)


def _step(block: mmap.mmap) -> None:
    """Count a step of reading on in an archive: the gigabytes before an image must not use up its timeout."""
    number, index, steps = POSITION.unpack_from(block)
    POSITION.pack_into(block, 0, number, index, steps + 1)


def main(arguments: list[str]) -> None:
    """The process that `_Worker` starts: a socket and a block of memory, by descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; a worker ends with its socket
    connection = Connection(int(arguments[0]))
    block = mmap.mmap(int(arguments[1]), 0)
    try:
        work(connection, block)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except Exception:  # a bug: its traceback is raised in the main process
        connection.send(traceback.format_exc())
