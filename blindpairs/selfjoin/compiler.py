"""Builds compiled.c for this CPU when it is first needed, and loads it.

It is built on the machine that runs it, because a wheel would need a variant for every CPU. That takes less than a
second, once. The library is kept in the user's cache folder. Its name has a digest of the source, the compiler and its
macros for this CPU, so that different machines which share a home folder do not share code. A library whose memory
layout is not that of c_interface.py is not used. Without a library, plain.py does the same work in two to four times
the time.
"""

import atexit
import contextlib
import hashlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from blindpairs.selfjoin.c_interface import SOURCE, CompiledCode, load

X86 = platform.machine() in ("x86_64", "AMD64")
TARGET = "-march=native" if X86 else "-mcpu=native"  # this CPU
# GCC, tuning for AMD's Zen, multiplies and adds in two steps, since a chain of fused ones would wait for each other.
# Here eight chains run beside each other: 93 GFLOP/s a core on a Zen 3 instead of 52.
FLAGS = ("-O3", "-shared", "-fPIC", *(("-mtune=haswell",) if X86 else ()))
VARIANTS: tuple[tuple[str, ...], ...] = ((), ("-DFLOAT32",))  # the second for an operating system without AMX's tiles
TIMEOUT = 120.0  # seconds


class NotCompiled(Exception):
    """There is no compiled code; the message says why."""


def compiled_code() -> CompiledCode | None:
    """The library for this machine. None if there is none; `why_not_compiled` says why."""
    found = _built_or_why_not()
    return found if isinstance(found, CompiledCode) else None


def why_not_compiled() -> str:
    """Why `compiled_code` is None; empty if it is not."""
    found = _built_or_why_not()
    return "" if isinstance(found, CompiledCode) else str(found)


def _built_or_why_not() -> CompiledCode | NotCompiled:
    with _BUILDING:  # the threads of a join may all call at once
        return _built_once()


@cache
def _built_once() -> CompiledCode | NotCompiled:
    try:
        return build()
    except NotCompiled as error:
        return error


_BUILDING = threading.Lock()


def build(target: str = TARGET, variants: Sequence[tuple[str, ...]] = VARIANTS) -> CompiledCode:
    """Load the first variant that works, from the cache or compiled. Raises NotCompiled if none does."""
    if sys.platform not in ("linux", "darwin"):
        raise NotCompiled(f"{SOURCE.name} is built on Linux and macOS only, not on {sys.platform}")
    name = os.environ.get("CC", "").strip() or "cc"
    command = name.split()  # "ccache gcc", "gcc -m64"
    if shutil.which(command[0]) is None:
        raise NotCompiled(f"no C compiler ({name}): install gcc or clang")
    for variant in variants:
        try:
            code = _code(command, (target, *variant))
        except (OSError, subprocess.SubprocessError) as error:
            raise NotCompiled(f"{name} cannot build {SOURCE.name}: {_error_line(error)}") from error
        if code is not None:
            return code
    raise NotCompiled(f"this CPU lacks the instructions that {SOURCE.name} was built for")


def _code(compiler: list[str], flags: tuple[str, ...]) -> CompiledCode | None:
    """The library for these flags, from the cache or compiled. None if this system cannot run it."""
    macros = _run([*compiler, *flags, "-dM", "-E", "-x", "c", os.devnull])  # of the compiler's version and the CPU
    digest = hashlib.sha256("\0".join([macros, *FLAGS, *flags]).encode() + SOURCE.read_bytes()).hexdigest()[:24]
    file = _cache_folder() / f"selfjoin-{digest}.so"
    if file.exists() and file.stat().st_uid == os.geteuid():
        with contextlib.suppress(OSError):  # cut short by a power failure, or another library: it is built again
            return load(file)
    aside = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        _run([*compiler, *FLAGS, *flags, "-o", str(aside), str(SOURCE), "-lm"])
        code = load(aside)  # by a new name: for a name that is loaded, dlopen returns the old library
        aside.replace(file)  # not overwritten in place: another process may have it loaded
    finally:
        aside.unlink(missing_ok=True)
    return code


def _error_line(error: Exception) -> str:
    """The line of the compiler's message that says "error", else its first line; without a message, the exception."""
    message = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = message.split("\n") if message.strip() else [str(error)]
    return next((line for line in lines if "error" in line), lines[0]).strip()


def _cache_folder() -> Path:
    """A folder that only this user can write to, because code is loaded from it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (base if base.is_absolute() else Path.home() / ".cache") / "blindpairs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: a user without a home, as in some containers
        pass
    return _own_folder()


@cache
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="blindpairs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=TIMEOUT)
    return done.stdout
