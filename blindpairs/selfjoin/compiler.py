"""compiled.c, built for the processor at hand when it is first needed, and loaded.

Built where it runs, since only there is known what the processor can do: a wheel would have to carry every variant.
That takes less than a second, once; the result is kept in the user's cache folder under a digest of the source, the
compiler and what that compiler knows of the processor, so that machines which share a home folder do not share code.
Without a C compiler there is `None`, and plain.py does the same work in two to four times the time.
"""

import atexit
import contextlib
import ctypes
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
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from blindpairs.selfjoin.points import Layout

SOURCE = Path(__file__).with_name("compiled.c")
X86 = platform.machine() in ("x86_64", "AMD64")
TARGET = "-march=native" if X86 else "-mcpu=native"  # the processor at hand
# GCC, tuning for AMD's Zen, multiplies and adds in two steps, since a chain of fused ones would wait for each other.
# Here eight chains run beside each other: 93 GFLOP/s a core on a Zen 3 instead of 52.
FLAGS = ("-O3", "-shared", "-fPIC", *(("-mtune=haswell",) if X86 else ()))
VARIANTS: tuple[tuple[str, ...], ...] = ((), ("-DFLOAT32",))  # the second where the system does not lend AMX's tiles
LAYOUTS = {2: Layout(torch.bfloat16, 32), 4: Layout(torch.float32, 8)}  # by the size of an element
TIMEOUT = 120.0  # seconds


@dataclass(frozen=True)
class CompiledCode:
    """The loaded code. `layout` is how it wants its points; `kind` names its product: amx, dot or float32."""

    library: ctypes.CDLL
    layout: Layout
    kind: str


class NotCompiled(Exception):
    """Why there is no compiled code, for people."""


def compiled_code() -> CompiledCode | None:
    """The code for this machine, or None."""
    with _BUILDING:  # the first to ask are the threads of one join, all at once
        return _built_once()


@cache
def _built_once() -> CompiledCode | None:
    try:
        return build()
    except NotCompiled:
        return None


_BUILDING = threading.Lock()


def build(target: str = TARGET, variants: Sequence[tuple[str, ...]] = VARIANTS) -> CompiledCode:
    """Compile, or take from the cache, and load the first that works. Raises NotCompiled where there is no way to."""
    if sys.platform not in ("linux", "darwin"):
        raise NotCompiled(f"compiled code is made on Linux and macOS, not on {sys.platform}")
    name = os.environ.get("CC", "").strip() or "cc"
    command = name.split()  # "ccache gcc", "gcc -m64"
    if shutil.which(command[0]) is None:
        raise NotCompiled(f"no C compiler ({name}): install gcc or clang")
    for variant in variants:
        try:
            code = _code(command, (target, *variant))
        except (OSError, subprocess.SubprocessError) as error:
            raise NotCompiled(f"{name} cannot build {SOURCE.name}: {_said(error)}") from error
        if code is not None:
            return code
    raise NotCompiled(f"the system lends {SOURCE.name} nothing that it is built for")


def _code(compiler: list[str], flags: tuple[str, ...]) -> CompiledCode | None:
    """The code for these flags, compiled unless it lies in the cache."""
    known = _run([*compiler, *flags, "-dM", "-E", "-x", "c", os.devnull])  # version and processor, as macros
    digest = hashlib.sha256("\0".join([known, *FLAGS, *flags]).encode() + SOURCE.read_bytes()).hexdigest()[:24]
    file = _cache_folder() / f"selfjoin-{digest}.so"
    if file.exists() and file.stat().st_uid == os.geteuid():
        with contextlib.suppress(OSError):  # cut short by a power failure, or not ours: made again
            return _load(file)
    aside = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        _run([*compiler, *FLAGS, *flags, "-o", str(aside), str(SOURCE), "-lm"])
        code = _load(aside)  # by a name that was never loaded: the system would give what it has under an old one
        aside.replace(file)  # never written in place: another process may have it loaded
    finally:
        aside.unlink(missing_ok=True)
    return code


def _said(error: Exception) -> str:
    """The line of a compiler's message that says what is wrong, or what the error says where there is none."""
    message = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = message.split("\n") if message.strip() else [str(error)]
    return next((line for line in lines if "error" in line), lines[0]).strip()


def _cache_folder() -> Path:
    """A folder that nobody else writes to: code is loaded from it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (base if base.is_absolute() else Path.home() / ".cache") / "blindpairs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: a user without a home, as some containers give
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


def _load(file: Path) -> CompiledCode | None:
    """None where the system does not let this process use the processor's tiles."""
    library = ctypes.CDLL(str(file))
    if not hasattr(library, "ready"):
        raise OSError(f"{file} is something else")
    if not library.ready():
        return None
    library.kind.restype = ctypes.c_char_p
    for name, results, arguments in FUNCTIONS:
        function = getattr(library, name)
        function.restype, function.argtypes = results, arguments
    return CompiledCode(library, LAYOUTS[library.element_bytes()], library.kind().decode())


class RowsStruct(ctypes.Structure):
    """`rows_t` of compiled.c."""

    _fields_ = (
        ("vectors", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("squares", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("dimension", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("half", ctypes.c_int64),
    )


class PointsStruct(ctypes.Structure):
    """`points_t` of compiled.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("left", "panels", "centres", "centre_panels", "centre_halves", "own")),
        *((name, ctypes.c_void_p) for name in ("starts", "first_panel", "order")),
        ("columns", ctypes.c_int64),
        ("reach", ctypes.c_float),
        ("skip_error", ctypes.c_float),
        ("square_error", ctypes.c_float),
    )


class TaskStruct(ctypes.Structure):
    """`task_t` of compiled.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("group", "first_cell", "first_other", "last_other", "capacity")),
        ("rough", ctypes.c_float),
        ("minimum", ctypes.c_double),
        ("dense_share", ctypes.c_float),
    )


RESULTS = ("most", "lists", "met", "i", "j", "similarity", "other", "found")


class ResultStruct(ctypes.Structure):
    """`result_t` of compiled.c."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in RESULTS)


_ROWS = ctypes.POINTER(RowsStruct)
FUNCTIONS = (
    (
        "run",
        ctypes.c_int64,
        (
            ctypes.POINTER(PointsStruct),
            _ROWS,
            _ROWS,
            ctypes.POINTER(TaskStruct),
            ctypes.c_void_p,
            ctypes.POINTER(ResultStruct),
        ),
    ),
    ("measure", None, (_ROWS, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)),
    ("cosines", None, (_ROWS, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)),
    ("scratch_bytes", ctypes.c_int64, ()),
)
