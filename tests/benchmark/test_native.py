"""The native file of a benchmark: nothing is lost, nothing changes unseen, and `datasets` reads its types."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictured_pairs import benchmark_of, pair_of, picture

from blindpairs.benchmark import Benchmark, HeldImages, Question
from blindpairs.benchmark.native import DATA, read_native, write_native
from blindpairs.errors import ConfigError, InputError


def images(benchmark: Benchmark) -> dict[str, object]:
    return dict(benchmark.images(benchmark.image_ids))


def test_everything_comes_back_pairs_images_and_record(tmp_path: Path) -> None:
    written = benchmark_of(230)  # three row groups
    key = written.pairs[7].pair_id
    written = replace(written, corrections={"corrected": {key: (1, 0)}}, provenance={"made": "by hand"})
    write_native(written, tmp_path / DATA)
    read = read_native(tmp_path)
    assert replace(read, images=written.images) == written
    assert images(read) == images(written)


def test_pair_without_question_or_statements_comes_back(tmp_path: Path) -> None:
    pair, data = pair_of(0, 1, question=None, second=None, clip_sim=None, dino_sim=None, annotators=(), patterns=())
    write_native(Benchmark("statements", (pair,), HeldImages(data)), tmp_path / "one.parquet")
    assert read_native(tmp_path / "one.parquet").pairs == (pair,)


def test_same_benchmark_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_native(benchmark_of(120), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_without_images_ids_and_uris_are_left(tmp_path: Path) -> None:
    written = benchmark_of(3)
    write_native(written, tmp_path / "thin.parquet", images=False)
    assert not {"image_a", "image_b"} & set(pq.read_schema(tmp_path / "thin.parquet").names)
    read = read_native(tmp_path / "thin.parquet")
    assert read.pairs == written.pairs
    assert {error.code for error in images(read).values()} == {"missing"}  # type: ignore[attr-defined]


def test_unreadable_image_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    write_native(benchmark_of(2), tmp_path / "kept.parquet")
    before = (tmp_path / "kept.parquet").read_bytes()
    broken = benchmark_of(3)
    gone = broken.pairs[2]
    held = broken.images
    assert isinstance(held, HeldImages)
    del held.images[gone.image_id_b]
    with pytest.raises(InputError, match=f"pair {gone.pair_id} at /corpus/5.jpg .no image with this id.: restore"):
        write_native(broken, tmp_path / "kept.parquet")
    assert (tmp_path / "kept.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept.parquet"]


def test_file_without_images_says_why_it_has_none(tmp_path: Path) -> None:
    write_native(benchmark_of(1), tmp_path / "bare.parquet", images=False)
    bare = read_native(tmp_path / "bare.parquet")
    assert {read.message for _, read in bare.images(bare.image_ids)} == {  # type: ignore[union-attr]
        "bare.parquet was exported without images"
    }


def test_changed_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "edited.parquet"
    write_native(benchmark_of(2), file)
    table = pq.read_table(file)
    column = table.schema.get_field_index("answer_a")
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array([1, 0], pa.int8())), file)
    with pytest.raises(InputError, match="was changed after it was exported"):
        read_native(file)


def test_changed_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    written = benchmark_of(1)
    file = tmp_path / "edited.parquet"
    write_native(written, file)
    table = pq.read_table(file)
    column = table.schema.get_field_index("image_b")
    other = pa.array([{"bytes": picture(99), "path": "x.jpg"}], table.schema.field(column).type)
    pq.write_table(table.set_column(column, table.schema.field(column), other), file)
    read = images(read_native(file))
    assert isinstance(read[written.pairs[0].image_id_a], bytes)
    assert read[written.pairs[0].image_id_b].code == "changed"  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing PAR1", b"question,options\n"])
def test_other_file_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"other\.parquet is damaged or not a Parquet file"):
        read_native(tmp_path / "other.parquet")


def test_parquet_of_another_tool_is_sent_to_import(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["?"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="not a benchmark that blindpairs wrote: `blindpairs import`"):
        read_native(tmp_path / "other.parquet")


def short_record(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({**table.schema.metadata, b"blindpairs": b'{"name": "doors"}'})


def listed_record(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({**table.schema.metadata, b"blindpairs": b"[1]"})


def with_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


@pytest.mark.parametrize(
    "change",
    [
        *(lambda table, name=name: table.drop([name]) for name in ("license", "question", "options", "patterns")),
        lambda table: with_column(table, "options", [["a", "b", "c"]] * 2),
        lambda table: with_column(table, "options", [None] * 2),
        lambda table: with_column(table, "patterns", [None] * 2),
        lambda table: with_column(table, "pair_id", ["x", "y"]),
        short_record,
        listed_record,
    ],
)
def test_file_that_another_tool_edited_is_an_error_that_says_so(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    write_native(benchmark_of(2), tmp_path / "edited.parquet")
    pq.write_table(change(pq.read_table(tmp_path / "edited.parquet")), tmp_path / "edited.parquet")
    with pytest.raises(InputError, match=r"edited\.parquet was changed after it was exported \(.*\): change it with"):
        read_native(tmp_path / "edited.parquet")


@pytest.mark.parametrize("field", ["statement_a", "uri_b", "source"])
def test_text_that_is_not_valid_unicode_is_named_with_its_pair_and_the_older_file_stays(
    tmp_path: Path, field: str
) -> None:
    made = benchmark_of(2)
    write_native(made, tmp_path / "data.parquet")
    broken = replace(made, pairs=(made.pairs[0], replace(made.pairs[1], **{field: "a door \udcff"})))  # type: ignore[arg-type]
    message = f"pair {made.pairs[1].pair_id}: its {field} is not valid Unicode: 'a door .udcff'"
    with pytest.raises(InputError, match=message):
        write_native(broken, tmp_path / "data.parquet")
    assert read_native(tmp_path / "data.parquet").pairs == made.pairs


def test_schema_tells_datasets_the_types(tmp_path: Path) -> None:
    write_native(benchmark_of(1), tmp_path / "typed.parquet")
    metadata = pq.read_schema(tmp_path / "typed.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    text = {"_type": "Value", "dtype": "string"}
    assert features["image_a"] == features["image_b"] == {"_type": "Image"}
    assert features["options"] == features["patterns"] == {"_type": "List", "feature": text}
    assert features["second"] == {
        "text": text,
        "options": {"_type": "List", "feature": text},
        "answers": {"_type": "List", "feature": {"_type": "Value", "dtype": "int8"}},
    }
    assert features["clip_sim"] == {"_type": "Value", "dtype": "float64"}


def test_revision_changes_with_what_decides_a_score_and_with_nothing_else() -> None:
    pair, _ = pair_of(0, 1)
    same = replace(pair, uri_a="/moved/0.jpg", annotators=("bob",), source="model", clip_sim=0.96, license="")
    assert same.revision == pair.revision
    question = Question("Is it?", ("Open", "Closed"), (0, 1))
    changes = [
        replace(pair, question=question),
        replace(pair, second=None),
        replace(pair, statement_a="a door"),
        replace(pair, patterns=()),
        replace(pair, control_of="0" * 16),
        replace(pair, image_id_a="0" * 16),
    ]
    assert len({pair.revision, *(one.revision for one in changes)}) == len(changes) + 1


def test_fingerprint_does_not_depend_on_the_order_of_the_pairs() -> None:
    benchmark = benchmark_of(4)
    assert replace(benchmark, pairs=benchmark.pairs[::-1]).fingerprint == benchmark.fingerprint
    assert replace(benchmark, pairs=benchmark.pairs[1:]).fingerprint != benchmark.fingerprint


def test_ground_truth_by_name_and_back() -> None:
    benchmark = benchmark_of(3)
    key = benchmark.pairs[1].pair_id
    benchmark = replace(benchmark, corrections={"corrected": {key: (1, 0)}})
    corrected = benchmark.with_ground_truth("corrected")
    assert [pair.question.answers for pair in corrected.pairs if pair.question] == [(0, 1), (1, 0), (0, 1)]
    assert corrected.fingerprint != benchmark.fingerprint
    assert corrected.with_ground_truth("original") == benchmark
    with pytest.raises(ConfigError, match="doors has no ground truth 'fixed': choose one of original, corrected"):
        benchmark.with_ground_truth("fixed")
