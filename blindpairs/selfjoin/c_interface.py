"""What Python and compiled.c share: constants, structs, and the types of the functions.

Both files state them, and a difference would corrupt memory. So a library whose structs or constants differ from this
file is refused when it is loaded (`load`), and a test compares the types of the functions.
"""

import ctypes
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blindpairs.selfjoin.bound import MAX_AXES, NORM_COLUMNS, Layout
from blindpairs.selfjoin.cosine import ACCUMULATORS

SOURCE = Path(__file__).with_name("compiled.c")
DTYPES = {2: torch.bfloat16, 4: torch.float32}  # of a stored coordinate, by its bytes
PANEL = 16  # right sides that are stored together, column by column: see compiled.c
CELLS_PER_TASK = 32  # a block of scores has all their centres


@dataclass(frozen=True)
class CompiledCode:
    """The loaded library. `layout` is that of its points; `kind` names its product: amx, avx512-bf16 or float32."""

    library: ctypes.CDLL
    layout: Layout
    kind: str


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


def load(file: Path) -> CompiledCode | None:
    """The library in `file`; None if the operating system does not let this process use AMX's tiles.

    Raises OSError if it is another library, or its structs or constants are not those of this file.
    """
    library = ctypes.CDLL(str(file))
    if not all(hasattr(library, name) for name in FUNCTIONS):
        raise OSError(f"{file} is another library")
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    layout = _agreed_layout(library)
    return CompiledCode(library, layout, library.kind().decode()) if library.ready() else None


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
    """The layout of the points that the library reads. Raises OSError if its structs or constants are others."""
    found, expected = _layout_of(library), _expected_layout()
    element, multiple = (found.pop(name, (0, 0, ""))[0] for name in ("element_bytes", "column_multiple"))
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if differing or element not in DTYPES:
        raise OSError(f"{SOURCE.name} has another memory layout than c_interface.py ({', '.join(differing[:3])})")
    return Layout(DTYPES[element], multiple)
