"""Which column of a Parquet file holds the images, decided from the schema of the file alone.

Promises: a column is used only if it clearly holds the images, or was named by the user; any other file is refused with
a message that says what it holds and what to do.
"""

from collections.abc import Iterator
from typing import Any

from blindpairs.errors import InputError
from blindpairs.images.item import CorpusOptions


class NoImageColumn(InputError):
    """A readable Parquet file in which no column is clearly the images."""


class NoImages(NoImageColumn):
    """A Parquet file that holds no images. In a folder it may be the metadata of a tar; as a source it is a mistake."""


def image_column(path: str, schema: Any, options: CorpusOptions) -> str:
    """The column to read: the one asked for, else `image`, else the only one that can hold images.

    `a.b` is a column of that name, or the field b of the struct a.
    """
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
    # A work folder may lie below the corpus, and `uri_bytes` of its tables looks like a column of images.
    of_a_store = {"uri", "uri_bytes"} <= set(schema.names)
    holding = [found for field in schema for found in _holding(field.name, field.type, options.allow_paths)]
    if not options.column and (of_a_store or not holding):
        reason = "has no column that holds image bytes (paths and addresses are not followed)"
        raise NoImages(f"{path} {reason}; columns: {columns}")
    column = options.column or obvious_column(schema, options.allow_paths)
    objection = _objection(schema, column, options.allow_paths) if column else _undecided(schema, holding)
    if column is None or objection:
        raise NoImageColumn(f"{path} {objection}; columns: {columns}")
    return column


def obvious_column(schema: Any, allow_paths: bool) -> str | None:
    """`image`, or else the only column that can hold images; None if neither exists."""
    fitting = {field.name for field in schema if _can_hold_images(field.type, allow_paths)}
    if "image" in schema.names:  # the hub's name: if it holds no images, no other column is taken for them
        return "image" if "image" in fitting else None
    return fitting.pop() if len(fitting) == 1 else None


def steps(schema: Any, column: str) -> list[str]:
    """`a.b.c` -> the name of a column of the file, then the names of fields inside of it."""
    # The longest name wins: a column may itself be called `a.b`.
    parts = column.split(".")
    starts = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    first = next((start for start in starts if start in schema.names), column)
    return [first, *(column[len(first) + 1 :].split(".") if len(first) < len(column) else [])]


def kind_of_column(schema: Any, column: str) -> Any:
    """The Arrow type of a column or of a field inside of one; None if it does not exist."""
    from pyarrow import types

    first, *inside = steps(schema, column)
    indices = schema.get_all_field_indices(first)  # several if names are repeated; `get_field_index` gives -1 then
    kind: Any = schema.field(indices[0]).type if indices else None
    for name in inside:
        index = kind.get_field_index(name) if kind is not None and types.is_struct(kind) else -1
        if index < 0:
            return None
        kind = kind.field(index).type
    return kind


def _objection(schema: Any, column: str, allow_paths: bool) -> str:
    """Why a column cannot be read, and what to do; "" if it can."""
    first = steps(schema, column)[0]
    kind = kind_of_column(schema, column)
    if kind is None:
        return f"has no column {column}"
    if schema.names.count(first) > 1:
        return f"has {schema.names.count(first)} columns named {first}: rename all but one"
    if _can_hold_images(kind, allow_paths):
        return ""
    return _undecided(schema, list(_holding(column, kind, allow_paths))) or f"cannot hold image bytes in {column}"


def _undecided(schema: Any, holding: list[tuple[str, bool]]) -> str:
    """What to do if images are in several columns, or nested in a column; "" if there are none.

    `holding` has what `_holding` yields for all columns.
    """
    single = [name for name, several in holding if not several]
    lists = [name for name, several in holding if several]
    if len(single) == 1 and single[0] not in schema.names:  # a field of a struct
        return f"holds its images inside a column: read them with --column {single[0]}"
    if single:
        return f"has no column that is plainly the images: name one with --column ({', '.join(single[:5])})"
    if lists:
        return f"holds several images a row in {lists[0]}: write one image a row (pandas: explode), then read that"
    return ""


def _holding(name: str, kind: Any, allow_paths: bool) -> Iterator[tuple[str, bool]]:
    """(name, whether it has several images a row) of a column that can hold images, or of such fields inside of it."""
    from pyarrow import types

    if _can_hold_images(kind, allow_paths):
        yield name, False
    elif types.is_struct(kind):
        for field in kind:
            yield from _holding(f"{name}.{field.name}", field.type, allow_paths)
    elif types.is_map(kind) or (types.is_nested(kind) and hasattr(kind, "value_type")):
        for inner in (kind.item_type, kind.key_type) if types.is_map(kind) else (kind.value_type,):
            if next(_holding(name, inner, allow_paths), None):
                yield name, True
                return


def _can_hold_images(kind: Any, allow_paths: bool) -> bool:
    """Whether an Arrow type holds bytes, directly or as the hub's struct of bytes and path."""
    from pyarrow import types

    if types.is_dictionary(kind):  # repeated values stored once: reading gives the values
        kind = kind.value_type
    if types.is_struct(kind):
        # The hub writes {bytes, path}. A file with paths alone has a `bytes` of type null: its rows fail by name.
        at = kind.get_field_index("bytes")
        return at >= 0 and (types.is_null(kind.field(at).type) or _can_hold_images(kind.field(at).type, False))
    return allow_paths if is_text(kind) else is_bytes(kind)


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text, in any of its forms."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: Any) -> bool:
    """Whether an Arrow type is bytes, in any of its forms."""
    from pyarrow import types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )
