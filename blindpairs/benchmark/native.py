"""The native file of a benchmark: Parquet in the convention of Hugging Face, one row a pair, with both images.

`datasets.load_dataset(FOLDER)` reads it offline, with images and lists of the right types. Everything that a score
depends on is in the Parquet file itself (its schema carries name, taxonomy, ground truths and provenance), so that a
copy of the one file is the whole benchmark; benchmark.json and the card beside it are for people.

Promises: the file is written aside, read back and renamed; what is read is what was written, or an error says what
differs; images are streamed, a row group at a time; the same benchmark gives the same bytes.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import present, reading
from blindpairs.benchmark.model import Benchmark, BenchmarkPair, ImageReader, Question, unreadable_images
from blindpairs.errors import InputError, Undecodable
from blindpairs.images import image_id
from blindpairs.images.header import HEAD_BYTES, sniff
from blindpairs.workspace import canonical_json, stamp, written_atomically

DATA = "data/test-00000-of-00001.parquet"  # below the folder of a benchmark: the name tells `datasets` the split
ROW_GROUP = 100  # pairs; more make the viewer of the Hugging Face hub slow, and need more memory here
RECORD_KEY = b"blindpairs"  # of the schema's metadata
WRITING: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True, "write_page_index": True}
WRITING["use_content_defined_chunking"] = True  # a changed pair does not change the pages after it
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # which `datasets` decodes

_TEXTS = ("pair_id", "image_id_a", "image_id_b", "uri_a", "uri_b")
_MORE_TEXTS = ("statement_a", "statement_b", "source", "control_of", "license", "source_id_a", "source_id_b")
_QUESTION = {"text": pa.string(), "options": pa.list_(pa.string()), "answers": pa.list_(pa.int8())}


def write_native(benchmark: Benchmark, path: Path, *, images: bool = True) -> None:
    """Write a benchmark to one Parquet file; without `images` it holds ids and uris only.

    Raises InputError that names the pair of an image that cannot be read, or of a text that is not valid Unicode,
    before anything is replaced.
    """
    schema = _schema(benchmark, images=images)
    with written_atomically(path) as aside:
        with pq.ParquetWriter(aside, schema, **WRITING) as writer:
            for start in range(0, len(benchmark.pairs), ROW_GROUP):
                pairs = benchmark.pairs[start : start + ROW_GROUP]
                pixels = _encoded(benchmark.images, pairs) if images else {}
                _refuse_surrogates(pairs)
                rows = [_row(pair, pixels) for pair in pairs]
                writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=ROW_GROUP)
        read_native(aside)  # a file that cannot be read, or reads otherwise, never takes the place of the older one


def read_native(path: Path) -> Benchmark:
    """The benchmark in a Parquet file, or in a folder that holds one as `blindpairs export` wrote it.

    Images are read when they are asked for. InputError for a file of another kind, and for one that was changed.
    """
    file = path / DATA if path.is_dir() else path
    if not present(file):
        raise InputError(f"there is no benchmark at {path}: run `blindpairs export`")
    with reading(file):
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            record = json.loads((parquet.schema_arrow.metadata or {}).get(RECORD_KEY, b"null"))
            columns = [name for name in parquet.schema_arrow.names if name not in ("image_a", "image_b")]
            rows = parquet.read(columns=columns).to_pylist() if record else []
        except (pa.ArrowException, OSError, ValueError) as error:  # OSError: how Arrow reports bad checksums
            raise InputError(
                f"{file} is damaged or not a Parquet file ({str(error)[:100]}): export it again"
            ) from error
    if not record:
        raise InputError(f"{file} is not a benchmark that blindpairs wrote: `blindpairs import` reads other formats")
    try:
        benchmark = _benchmark(record, rows, _Rows(file))
        why = f"its fingerprint is {benchmark.fingerprint}, not {record['fingerprint']}"
        if benchmark.fingerprint == record["fingerprint"]:
            return benchmark
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a column is gone, or has other values
        why = f"{type(error).__name__} {str(error)[:80]}"
    raise InputError(
        f"{file} was changed after it was exported ({why}): change it with `blindpairs import` and `blindpairs export`"
    )


def _benchmark(record: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], images: ImageReader) -> Benchmark:
    return Benchmark(
        name=record["name"],
        pairs=tuple(_pair(row) for row in rows),
        images=images,
        patterns=tuple(record["patterns"]),
        ground_truth=record["ground_truth"],
        corrections={
            name: {key: (a, b) for key, (a, b) in answers.items()} for name, answers in record["corrections"].items()
        },
        provenance=record["provenance"],
    )


def is_native(file: Path) -> bool:
    """Whether a file is a benchmark that `write_native` wrote, by its schema alone."""
    with reading(file):
        try:
            return RECORD_KEY in (pq.read_schema(file).metadata or {})
        except (pa.ArrowException, OSError):
            return False


class _Rows:
    """Reads the images of a native file by id; a class, so that a benchmark that was read can be pickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, image_ids: Collection[str]) -> Iterator[tuple[str, bytes | Undecodable]]:
        wanted, why = set(image_ids), "has no image with this id"
        with reading(self._file), pq.ParquetFile(self._file, page_checksum_verification=True) as parquet:
            if "image_a" not in parquet.schema_arrow.names:
                why = "was exported without images"
            for group in range(parquet.num_row_groups):
                for side in "ab":
                    yield from self._of_side(parquet, group, side, wanted)
        for missing in sorted(wanted):
            yield missing, Undecodable("missing", f"{self._file.name} {why}")

    def _of_side(
        self, parquet: pq.ParquetFile, group: int, side: str, wanted: set[str]
    ) -> Iterator[tuple[str, bytes | Undecodable]]:
        names = parquet.read_row_group(group, columns=[f"image_id_{side}"]).column(0).to_pylist()
        if not wanted.intersection(names) or f"image_{side}" not in parquet.schema_arrow.names:
            return
        images = parquet.read_row_group(group, columns=[f"image_{side}"]).column(f"image_{side}")
        for row, name in enumerate(names):
            data = images[row].as_py()["bytes"] if name in wanted else None
            if data is None:
                continue
            wanted.remove(name)  # an image may be in several pairs, and is given once
            changed = Undecodable("changed", "the bytes of the image do not have its id")
            yield name, data if image_id(data) == name else changed


def _encoded(images: ImageReader, pairs: Collection[BenchmarkPair]) -> Mapping[str, bytes]:
    read = dict(images({key for pair in pairs for key in pair.image_ids}))
    failed = {key: data for key, data in read.items() if isinstance(data, Undecodable)}
    if failed:
        raise unreadable_images(pairs, failed, "restore them, or export with --no-images")
    return {key: data for key, data in read.items() if isinstance(data, bytes)}


def _refuse_surrogates(pairs: Iterable[BenchmarkPair]) -> None:
    # Arrow would raise, too, but without the name of the pair.
    for pair in pairs:
        for name, value in asdict(pair).items():
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"pair {pair.pair_id}: its {name} is not valid Unicode: {str(value)[:60]!a}"
                ) from error


def file_name(key: str, data: bytes) -> str:
    """The name of an image with this id in any format that stores files: its id, and the ending of its format."""
    kind = sniff(data[:HEAD_BYTES]) or "jpeg"
    return f"{key}.{'jpg' if kind == 'jpeg' else kind}"


def _row(pair: BenchmarkPair, pixels: Mapping[str, bytes]) -> dict[str, Any]:
    row = {name: getattr(pair, name) for name in (*_TEXTS, *_MORE_TEXTS, "clip_sim", "dino_sim")}
    for side, key in zip("ab", pair.image_ids, strict=True):
        if key in pixels:
            row[f"image_{side}"] = {"bytes": pixels[key], "path": file_name(key, pixels[key])}
    first = pair.question
    row |= {
        "question": first.text if first else None,
        "options": list(first.options) if first else None,
        "answer_a": first.answers[0] if first else None,
        "answer_b": first.answers[1] if first else None,
    }
    second = pair.second
    row["second"] = (
        {"text": second.text, "options": list(second.options), "answers": list(second.answers)} if second else None
    )
    return row | {"patterns": list(pair.patterns), "annotators": list(pair.annotators), "revision": pair.revision}


def _pair(row: Mapping[str, Any]) -> BenchmarkPair:
    question, second = None, row["second"]
    if row["question"] is not None:
        question = Question(row["question"], _two(row["options"]), (row["answer_a"], row["answer_b"]))
    return BenchmarkPair(
        **{name: row[name] for name in (*_TEXTS, *_MORE_TEXTS, "clip_sim", "dino_sim")},
        question=question,
        second=Question(second["text"], _two(second["options"]), _two(second["answers"])) if second else None,
        patterns=tuple(row["patterns"]),
        annotators=tuple(row["annotators"]),
    )


def _two(values: list[Any]) -> tuple[Any, Any]:
    first, other = values
    return first, other


def _schema(benchmark: Benchmark, *, images: bool) -> pa.Schema:
    fields = {
        **dict.fromkeys(_TEXTS, pa.string()),
        **({"image_a": IMAGE, "image_b": IMAGE} if images else {}),
        "question": pa.string(),
        "options": pa.list_(pa.string()),
        "answer_a": pa.int8(),
        "answer_b": pa.int8(),
        "second": pa.struct(_QUESTION),
        "patterns": pa.list_(pa.string()),
        **dict.fromkeys(_MORE_TEXTS, pa.string()),
        "clip_sim": pa.float64(),
        "dino_sim": pa.float64(),
        "annotators": pa.list_(pa.string()),
        "revision": pa.string(),
    }
    record = {
        **stamp(),
        "name": benchmark.name,
        "fingerprint": benchmark.fingerprint,
        "patterns": list(benchmark.patterns),
        "ground_truth": benchmark.ground_truth,
        "corrections": benchmark.corrections,
        "provenance": benchmark.provenance,
    }
    schema = typed_schema(fields)
    return schema.with_metadata({**schema.metadata, RECORD_KEY: canonical_json(record)})


def typed_schema(fields: Mapping[str, pa.DataType]) -> pa.Schema:
    """A schema that tells `datasets` the type of each column; without it, images would be plain structs."""
    features = {name: _feature(kind) for name, kind in fields.items()}
    return pa.schema(list(fields.items()), metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Mapping[str, Any]:
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {one.name: _feature(one.type) for one in kind}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    return {"_type": "Value", "dtype": {"double": "float64"}.get(str(kind), str(kind))}
