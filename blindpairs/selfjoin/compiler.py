"""Builds compiled.c for this CPU when it is first needed, and loads it.

It is built on the machine that runs it, because a wheel would need a variant for every CPU. That takes less than a
second, once. The library is kept in the user's cache folder. Its name has a digest of the source, the compiler and its
macros for this CPU, so that different machines which share a home folder do not share code. When a library is loaded,
its constants and structs are compared with those of this file, and one that differs is not used. Without a library,
plain.py does the same work in two to four times the time.
"""

import atexit
import contextlib
import ctypes
import hashlib
import itertools
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
from typing import Any

import torch

from blindpairs.selfjoin.bound import MAX_AXES
from blindpairs.selfjoin.cosine import ACCUMULATORS
from blindpairs.selfjoin.points import NORM_COLUMNS, Layout

SOURCE = Path(__file__).with_name("compiled.c")
X86 = platform.machine() in ("x86_64", "AMD64")
TARGET = "-march=native" if X86 else "-mcpu=native"  # this CPU
# GCC, tuning for AMD's Zen, multiplies and adds in two steps, since a chain of fused ones would wait for each other.
# Here eight chains run beside each other: 93 GFLOP/s a core on a Zen 3 instead of 52.
FLAGS = ("-O3", "-shared", "-fPIC", *(("-mtune=haswell",) if X86 else ()))
VARIANTS: tuple[tuple[str, ...], ...] = ((), ("-DFLOAT32",))  # the second for an operating system without AMX's tiles
DTYPES = {2: torch.bfloat16, 4: torch.float32}  # of a stored coordinate, by its bytes
PANEL = 16  # right sides that are stored together, column by column: see compiled.c
CELLS_PER_TASK = 32  # a block of scores has all their centres
TIMEOUT = 120.0  # seconds


@dataclass(frozen=True)
class CompiledCode:
    """The loaded library. `layout` is that of its points; `kind` names its product: amx, avx512-bf16 or float32."""

    library: ctypes.CDLL
    layout: Layout
    kind: str


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
            return _load(file)
    aside = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        _run([*compiler, *FLAGS, *flags, "-o", str(aside), str(SOURCE), "-lm"])
        code = _load(aside)  # by a new name: for a name that is loaded, dlopen returns the old library
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


def _load(file: Path) -> CompiledCode | None:
    """None if the operating system does not let this process use AMX's tiles."""
    library = ctypes.CDLL(str(file))
    if not all(hasattr(library, name) for name in FUNCTIONS):
        raise OSError(f"{file} is another library")
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    layout = _agreed_layout(library)
    return CompiledCode(library, layout, library.kind().decode()) if library.ready() else None


class RowsStruct(ctypes.Structure):
    """`rows_t` of compiled.c."""

    _fields_ = (
        ("vectors", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("squares", ctypes.c_void_p),
        ("chosen", ctypes.c_void_p),
        ("dimension", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("is_float16", ctypes.c_int64),
    )


class PointsStruct(ctypes.Structure):
    """`points_t` of compiled.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("left", "panels", "centres", "centre_panels", "centre_half_squares")),
        *((name, ctypes.c_void_p) for name in ("own_products", "starts", "first_panel", "order")),
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


RESULTS = ("slack", "lists", "list_sizes", "i", "j", "similarity", "other", "found")


class ResultStruct(ctypes.Structure):
    """`result_t` of compiled.c."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in RESULTS)


class LayoutEntry(ctypes.Structure):
    """`entry_t` of compiled.c."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("value", ctypes.c_int64),
        ("bytes", ctypes.c_int64),
        ("type", ctypes.c_char),
    )


_POINTS, _ROWS, _TASK, _RESULT = map(ctypes.POINTER, (PointsStruct, RowsStruct, TaskStruct, ResultStruct))
_INTEGER, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
# The type of the result and of the arguments of every function that compiled.c exports. ctypes cannot see the C
# declarations, and a call with other types corrupts memory: tests/selfjoin/test_signatures.py compares the two.
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "run": (_INTEGER, (_POINTS, _ROWS, _ROWS, _TASK, _ADDRESS, _RESULT)),
    "measure": (None, (_ROWS, _INTEGER, _INTEGER, _ADDRESS)),
    "cosines": (None, (_ROWS, _ADDRESS, _ADDRESS, _INTEGER, _ADDRESS)),
    "scratch_bytes": (_INTEGER, ()),
    "ready": (ctypes.c_int, ()),
    "kind": (ctypes.c_char_p, ()),
    "layout": (ctypes.POINTER(LayoutEntry), ()),
}

LayoutTable = dict[str, tuple[int, int, str]]  # by name: value, bytes and type as entry_t has them

STRUCTS: dict[str, type[ctypes.Structure]] = {
    "points_t": PointsStruct,
    "rows_t": RowsStruct,
    "task_t": TaskStruct,
    "result_t": ResultStruct,
}
CONSTANTS = {
    "PANEL": PANEL,
    "CELLS_PER_TASK": CELLS_PER_TASK,
    "ACCUMULATORS": ACCUMULATORS,
    "MAX_COLUMNS": MAX_AXES + NORM_COLUMNS,
}
_TYPES = {ctypes.c_double: "d", ctypes.c_float: "f", ctypes.c_int64: "q", ctypes.c_void_p: "P"}


def _expected_layout() -> LayoutTable:
    """The constants, struct sizes and struct fields of this file."""
    table: LayoutTable = {name: (value, 0, "") for name, value in CONSTANTS.items()}
    for name, struct in STRUCTS.items():
        table[name] = (ctypes.sizeof(struct), 0, "")
        for field, kind, *_ in struct._fields_:
            place = getattr(struct, field)
            table[f"{name}.{field}"] = (place.offset, place.size, _TYPES[kind])
    return table


def _layout_of(library: ctypes.CDLL) -> LayoutTable:
    """The same from a library, and its `element_bytes` and `column_multiple`, which depend on the CPU."""
    entries, table = library.layout(), LayoutTable()  # an entry without a name ends the array
    for entry in itertools.takewhile(lambda entry: entry.name, map(entries.__getitem__, itertools.count())):
        table[entry.name.decode()] = (entry.value, entry.bytes, entry.type.rstrip(b"\0").decode())
    return table


def _agreed_layout(library: ctypes.CDLL) -> Layout:
    """The layout of the points that the library reads. Raises OSError if it differs from this file.

    A call of such a library would corrupt memory.
    """
    found, expected = _layout_of(library), _expected_layout()
    element, multiple = (found.pop(name, (0, 0, ""))[0] for name in ("element_bytes", "column_multiple"))
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if differing or element not in DTYPES:
        raise OSError(f"{SOURCE.name} has another memory layout than compiler.py ({', '.join(differing[:3])})")
    return Layout(DTYPES[element], multiple)
