"""Every function that compiled.c exports has the arguments and the result that c_interface.py declares for ctypes."""

import ctypes
import re
from typing import Any

import pytest

from blindpairs.selfjoin.c_interface import FUNCTIONS, SOURCE, STRUCTS, LayoutEntry

# A definition that is not static begins a line with its type, and its arguments end with a brace or a semicolon.
DEFINITION = re.compile(r"^(?!static\b)((?:const )?\w+ \*?)(\w+)\(([^)]*)\)\s*[{;]", re.MULTILINE)
POINTED: dict[str, type[ctypes.Structure]] = {**STRUCTS, "entry_t": LayoutEntry}
VALUES = {"int": ctypes.c_int, "int64_t": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}

Signature = tuple[Any, tuple[Any, ...]]


def declared_type(declaration: str) -> Any:
    """The ctypes type of a C type, with or without the name of a parameter."""
    words = declaration.replace("*", " * ").split()
    base = next(word for word in words if word != "const")
    if "*" not in words:
        return None if base == "void" else VALUES[base]
    if base == "char":
        return ctypes.c_char_p
    return ctypes.POINTER(POINTED[base]) if base in POINTED else ctypes.c_void_p


def exported(source: str) -> dict[str, set[Signature]]:
    """By name, the signatures of the functions in `source` that are not static: several where a #if chooses."""
    found: dict[str, set[Signature]] = {}
    for result, name, arguments in DEFINITION.findall(source):
        listed = [] if arguments.strip() == "void" else arguments.split(",")
        signature = (declared_type(result), tuple(declared_type(argument) for argument in listed))
        found.setdefault(name, set()).add(signature)
    return found


def test_ctypes_declares_every_exported_function_as_compiled_c_defines_it() -> None:
    assert exported(SOURCE.read_text()) == {name: {signature} for name, signature in FUNCTIONS.items()}


@pytest.mark.parametrize(
    ("definition", "changed", "name"),
    [
        ("measure(const rows_t *rows, int64_t first, ", "measure(const rows_t *rows, ", "measure"),
        ("int64_t last, double *out)", "double last, double *out)", "measure"),
        ("run(const points_t *p, const rows_t *rows, ", "run(const rows_t *rows, const points_t *p, ", "run"),
        ("int64_t scratch_bytes(void)", "int scratch_bytes(void)", "scratch_bytes"),
        ("static int64_t span_of(const points_t *p", "int64_t span_of(const points_t *p", "span_of"),
    ],
)
def test_function_that_changes_in_compiled_c_alone_differs(definition: str, changed: str, name: str) -> None:
    source = SOURCE.read_text()
    assert source.count(definition) == 1
    found = exported(source.replace(definition, changed))
    assert found.get(name) != {FUNCTIONS.get(name)}
