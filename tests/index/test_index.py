"""The approximate path: what an index finds is the exact join's, and what it misses is measured."""

import json
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from exact_cosines import exact_cosines
from numpy.typing import NDArray

from blindpairs.errors import ConfigError, InputError
from blindpairs.index import (
    ApproximateJoin,
    BuildOptions,
    Gpus,
    build_index,
    load_index,
)
from blindpairs.index.build import Source, build, factory_string, training_rows
from blindpairs.index.recall import Recall, choose_effort, exact_sample, measure_recall
from blindpairs.index.search import Searcher, by_growing_k, neighbour_pairs
from blindpairs.selfjoin import PairBlock, UnitRows
from blindpairs.store import METADATA, Part, Store, write_part
from blindpairs.workspace import stamp, write_json

MINIMUM = 0.9
Vectors = NDArray[np.float16]


def clustered(rows: int = 1500, dimension: int = 24, *, seed: int = 0, spread: float = 0.06) -> Vectors:
    """Unit-length float16 vectors around rows // 8 random directions: thousands of pairs above MINIMUM."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((rows // 8, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    points = centres[generator.integers(len(centres), size=rows)]
    points = points + spread * generator.standard_normal(points.shape)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points, np.float16)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Searches of a few rows wait longer for a second thread than it saves them."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered()


@pytest.fixture(scope="module")
def rows(vectors: Vectors) -> UnitRows:
    return UnitRows(torch.from_numpy(vectors))


def exact(rows: UnitRows, minimum: float = MINIMUM) -> dict[tuple[int, int], float]:
    """Every pair at or above the minimum, with its cosine."""
    scores = exact_cosines(rows.vectors)
    i, j = np.triu(scores >= minimum, 1).nonzero()
    return {(int(a), int(b)): float(scores[a, b]) for a, b in zip(i, j, strict=True)}


def collected(blocks: Iterator[PairBlock]) -> dict[tuple[int, int], float]:
    """The pairs of all blocks; fails where one comes twice."""
    found: dict[tuple[int, int], float] = {}
    for block in blocks:
        for i, j, similarity in zip(block.i.tolist(), block.j.tolist(), block.similarity.tolist(), strict=True):
            assert i < j
            assert (i, j) not in found
            found[i, j] = similarity
    return found


def searcher(rows: UnitRows, kind: str, seed: int = 0) -> Searcher:
    """An index over all rows."""
    source = Source(rows.count, rows.dimension, lambda: iter([rows.block(0, rows.count).numpy()]))
    return Searcher(build(source, kind, seed).index, kind)


def store_at(folder: Path, vectors: Vectors, parts: int = 3) -> Store:
    """A store with one column, `clip`."""
    for number, block in enumerate(np.array_split(vectors, parts)):
        ids = [f"{number}-{row}" for row in range(len(block))]
        columns: dict[str, list[Any]] = {name: [0] * len(block) for name in METADATA.names}
        columns |= {"image_id": ids, "uri": ids, "uri_bytes": [None] * len(block), "flags": [[] for _ in block]}
        write_part(Part(folder, number), columns, {"clip": block}, [], {"clip": "described"})
    clip = {"clip": {"dimension": vectors.shape[1]}}
    manifest = {"settings": {}, "fingerprint": "", "plan": {"parts": parts}, "encoders": clip}
    write_json(folder / "manifest.json", stamp() | manifest)
    return Store.open(folder)


# Pairs


@pytest.mark.parametrize("kind", ["flat", "IVF1,SQfp16"])
def test_a_flat_index_finds_exactly_the_pairs_of_brute_force(rows: UnitRows, kind: str) -> None:
    truth = exact(rows)
    found = collected(neighbour_pairs(searcher(rows, kind), rows, MINIMUM, effort=1))
    assert len(truth) > 1000
    assert found.keys() == truth.keys()
    assert [found[pair] for pair in truth] == list(truth.values())


def test_ivf_that_searches_all_lists_finds_what_flat_finds(rows: UnitRows) -> None:
    ivf = searcher(rows, "ivf")
    flat = collected(neighbour_pairs(searcher(rows, "flat"), rows, MINIMUM, effort=1))
    assert ivf.most_effort == 1500 // 39
    assert collected(neighbour_pairs(ivf, rows, MINIMUM, effort=ivf.most_effort)) == flat
    assert collected(neighbour_pairs(ivf, rows, MINIMUM, effort=1)).items() < flat.items()


def test_pairs_do_not_depend_on_the_size_of_the_blocks(rows: UnitRows) -> None:
    ivf = searcher(rows, "ivf")
    small = list(neighbour_pairs(ivf, rows, MINIMUM, effort=2, block=50))
    large = collected(neighbour_pairs(ivf, rows, MINIMUM, effort=2))
    assert max(map(len, small)) < 400  # the first search knows nothing yet, and takes 16 rows
    assert collected(iter(small)) == large


def test_growing_k_gives_what_a_range_search_gives(rows: UnitRows) -> None:
    same = UnitRows(
        torch.cat([torch.from_numpy(clustered(200)), torch.ones(2500, 24).half()])
    )  # 2500 neighbours > 2048
    index = searcher(same, "flat").index
    unit = same.block(0, same.count).numpy()[190:210]
    limits, _, found = index.range_search(unit, 0.8)
    wanted = {(q, int(row)) for q in range(20) for row in found[int(limits[q]) : int(limits[q + 1])]}
    query, neighbour = by_growing_k(index, index, unit, 0.8)
    assert len(query) == len(wanted)
    assert set(zip(query.tolist(), neighbour.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("kind", ["ivf", "IVF16,SQfp16"])
def test_the_same_seed_gives_the_same_pairs_and_recall(vectors: Vectors, kind: str) -> None:
    rows = UnitRows(torch.from_numpy(vectors))
    indexes = [searcher(rows, kind, seed=5) for _ in range(2)]
    one, other = (choose_effort(index, rows, MINIMUM, target=0.9, seed=5) for index in indexes)
    assert one == other
    first, second = (collected(neighbour_pairs(index, rows, MINIMUM, effort=one.effort)) for index in indexes)
    assert first == second


def test_search_that_faiss_would_interrupt_within_comes_to_its_end() -> None:
    # From some effort times dimension on FAISS asked for a Ctrl-C between the queries, and ended the process for it.
    many = UnitRows(torch.from_numpy(clustered(1500, 256)))
    found = collected(neighbour_pairs(searcher(many, "hnsw"), many, MINIMUM, effort=1500))
    assert found == exact(many)


# Recall


@pytest.mark.parametrize(("kind", "effort"), [("ivf", 1), ("ivf", 2), ("hnsw", 4)])
def test_recall_measured_on_all_rows_is_the_recall_of_the_pairs_found(rows: UnitRows, kind: str, effort: int) -> None:
    index = searcher(rows, kind)
    sample = exact_sample(rows, MINIMUM, size=rows.count)
    recall = measure_recall(index, rows, sample, effort=effort)
    found, truth = collected(neighbour_pairs(index, rows, MINIMUM, effort=effort)), exact(rows)
    assert found.keys() <= truth.keys()
    assert (recall.found, recall.pairs, recall.queries) == (len(found), len(truth), rows.count)
    assert recall.interval[0] < recall.share < recall.interval[1]


def test_a_sample_counts_the_later_neighbours_of_its_rows(rows: UnitRows) -> None:
    sample = exact_sample(rows, MINIMUM, size=100)
    truth = exact(rows)
    assert sample.counts.tolist() == [sum(i == row for i, _ in truth) for row in sample.queries.tolist()]
    assert len(set(sample.queries.tolist())) == len(sample.queries)


def test_a_sample_without_pairs_grows_eightfold_and_stops() -> None:
    lonely = UnitRows(torch.eye(1000))
    assert len(exact_sample(lonely, 0.5, size=50).queries) == 400


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "IVF16,SQfp16"])
def test_the_chosen_effort_reaches_the_target(rows: UnitRows, kind: str) -> None:
    index = searcher(rows, kind)
    recall = choose_effort(index, rows, MINIMUM, target=0.99)
    assert recall.reached
    assert recall.share >= 0.99
    assert recall.effort < index.most_effort
    found = collected(neighbour_pairs(index, rows, MINIMUM, effort=recall.effort))
    assert len(found) / len(exact(rows)) >= 0.98


def test_an_index_that_cannot_reach_the_target_says_so(rows: UnitRows) -> None:
    recall = choose_effort(searcher(rows, "PCA2,IVF4,Flat"), rows, MINIMUM, target=1.0)
    assert recall.effort == recall.most_effort == 4
    assert not recall.reached
    short = Recall(90, 100, 10, 20.0, 4, 4, 0.99)
    assert short.interval == pytest.approx((0.6990, 0.9721), abs=5e-5)
    assert (short.share, short.reached) == (0.9, False)


def test_without_a_pair_to_measure_with_everything_is_searched_and_the_recall_is_called_unknown() -> None:
    join = ApproximateJoin("ivf")
    assert collected(join(UnitRows(torch.eye(100)), 0.5)) == {}
    assert join.recall is not None
    assert (join.recall.interval, join.recall.reached) == ((0.0, 1.0), False)
    assert join.recall.effort == join.recall.most_effort
    described = join.describe()
    assert (described["recall"], described["recall_interval"], described["pairs"], described["queries"]) == (
        None,
        None,
        0,
        100,
    )


# Kinds


def test_lists_follow_the_square_root_of_the_rows_within_what_can_be_trained() -> None:
    assert factory_string("ivf", 1_000_000, training_rows(1_000_000, 768)) == "IVF4000,Flat"
    assert training_rows(1_000_000, 768) == (1 << 30) // (4 * 768)
    assert factory_string("ivf", 100_000_000, training_rows(100_000_000, 768)) == "IVF8962,Flat"
    assert factory_string("ivf", 5, training_rows(5, 768)) == "IVF1,Flat"
    assert factory_string("IVF4096,SQfp16", 10_000, 10_000) == "IVF256,SQfp16"
    assert factory_string("OPQ8,IVF16,PQ8", 10_000, 10_000) == "OPQ8,IVF16,PQ8"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("ivff", "could not parse index string ivff"), ("LSH", "metric == METRIC_L2"), ("PQ5", "d % M == 0")],
)
def test_an_unusable_kind_is_refused_with_examples(vectors: Vectors, kind: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        list(ApproximateJoin(kind)(UnitRows(torch.from_numpy(vectors)), MINIMUM))
    assert str(refused.value).startswith(f"no index of kind {kind!r}: FAISS says ")
    assert reason in str(refused.value)
    advice = (
        "use flat, ivf, hnsw, or a FAISS factory string such as IVF4096,SQfp16; `mine --method exact` needs no index"
    )
    assert str(refused.value).endswith(advice)


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_a_handful_of_rows_is_no_special_case(rows: int) -> None:
    join = ApproximateJoin("ivf")
    pairs = rows * (rows - 1) // 2
    assert len(collected(join(UnitRows(torch.ones(rows, 4)), MINIMUM))) == pairs
    assert (join.recall.pairs if join.recall else 0) == pairs


def test_no_rows_and_impossible_thresholds_are_refused() -> None:
    with pytest.raises(InputError, match="no vectors to index"):
        searcher(UnitRows(torch.empty(0, 4)), "ivf")
    two = UnitRows(torch.ones(2, 4))
    with pytest.raises(ConfigError, match=r"a cosine lies between -1 and 1; 1\.5 does not"):
        list(ApproximateJoin("ivf")(two, 1.5))
    with pytest.raises(ConfigError, match="a target recall lies between 0 and 1; 99 does not"):
        choose_effort(searcher(two, "ivf"), two, 0.5, target=99)


# Files


def test_an_index_is_built_once_and_says_what_it_is(tmp_path: Path, vectors: Vectors) -> None:
    store = store_at(tmp_path / "embeddings", vectors)
    calls: list[tuple[int, int]] = []
    first = build_index(store, "clip", tmp_path / "index", progress=lambda *call: calls.append(call[:2]))
    again = build_index(store, "clip", tmp_path / "index")
    assert (first.path.name, first.reason, again.reused) == ("clip-ivf.faiss", "there was no clip-ivf.faiss yet", True)
    assert calls == [(500, 1500), (1000, 1500), (1500, 1500)]
    assert again.record == first.record == json.loads((tmp_path / "index" / "clip-ivf.json").read_text())
    assert {name: first.record[name] for name in ("store", "column", "kind", "factory", "rows", "training_rows")} == {
        "store": store.fingerprint(),
        "column": "clip",
        "kind": "ivf",
        "factory": "IVF38,Flat",
        "rows": 1500,
        "training_rows": 1500,
    }
    index = load_index(first.path, store)
    assert (index.ntotal, index.metric_type) == (1500, faiss.METRIC_INNER_PRODUCT)


def test_pairs_of_a_store_are_those_of_its_vectors(tmp_path: Path, vectors: Vectors) -> None:
    store = store_at(tmp_path / "embeddings", vectors)
    file = build_index(store, "clip", tmp_path / "index", kind="IVF16,SQfp16")
    stored = ApproximateJoin("IVF16,SQfp16", stored=lambda: load_index(file.path, store))
    direct = ApproximateJoin("IVF16,SQfp16")
    rows = UnitRows(torch.from_numpy(vectors))
    assert file.path.name == "clip-IVF16-SQfp16.faiss"
    assert collected(stored(rows, MINIMUM)) == collected(direct(rows, MINIMUM))
    assert stored.recall == direct.recall


def test_a_tampered_file_is_not_opened_and_is_built_again(tmp_path: Path, vectors: Vectors) -> None:
    store = store_at(tmp_path / "embeddings", vectors)
    path = build_index(store, "clip", tmp_path / "index").path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"is not the file that clip-ivf\.json describes, and was not opened"):
        load_index(path, store)
    rebuilt = build_index(store, "clip", tmp_path / "index")
    assert rebuilt.reason == "clip-ivf.faiss was not what its record says, and was not opened"
    assert path.read_bytes() == whole


def test_the_index_of_another_store_is_refused_and_built_again(tmp_path: Path, vectors: Vectors) -> None:
    old = store_at(tmp_path / "old", vectors)
    new = store_at(tmp_path / "new", clustered(seed=1))
    path = build_index(old, "clip", tmp_path / "index").path
    with pytest.raises(ConfigError, match="indexes another store than"):
        load_index(path, new)
    rebuilt = build_index(new, "clip", tmp_path / "index")
    assert rebuilt.reason == "clip-ivf.faiss indexed another store, or an older state of this one"
    assert load_index(path, new).ntotal == 1500


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("{", "the record of clip-flat.faiss was damaged"), ("{}", "indexed another store"), (None, "there was no")],
)
def test_an_index_without_a_sound_record_is_built_again(
    tmp_path: Path, vectors: Vectors, damage: Any, reason: str
) -> None:
    store = store_at(tmp_path / "embeddings", vectors[:50])
    build_index(store, "clip", tmp_path / "index", kind="flat")
    record = tmp_path / "index" / "clip-flat.json"
    record.unlink() if damage is None else record.write_text(damage)
    assert reason in build_index(store, "clip", tmp_path / "index", kind="flat").reason


def test_index_over_a_part_that_changed_behind_its_marker_is_not_reused(tmp_path: Path, vectors: Vectors) -> None:
    store = store_at(tmp_path / "embeddings", vectors[:100], parts=2)
    build_index(store, "clip", tmp_path / "index", kind="flat")
    one, other = sorted(store.folder.glob("part-*.parquet"))
    first, second = one.read_bytes(), other.read_bytes()
    assert len(first) == len(second)  # so that nothing but their content tells them apart
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(InputError, match=r"part-00000\.parquet is damaged .*: run the same `blindpairs embed` again"):
        build_index(Store.open(tmp_path / "embeddings"), "clip", tmp_path / "index", kind="flat")


@pytest.mark.parametrize("name", ["factory", "rows", "dimension", "bytes", "sha256"])
def test_a_record_that_lacks_what_it_tells_is_damaged(tmp_path: Path, vectors: Vectors, name: str) -> None:
    store = store_at(tmp_path / "embeddings", vectors[:50])
    file = build_index(store, "clip", tmp_path / "index", kind="flat")
    write_json(file.path.with_suffix(".json"), {key: value for key, value in file.record.items() if key != name})
    again = build_index(store, "clip", tmp_path / "index", kind="flat")
    assert again.reason
    assert again.record == file.record


def test_another_seed_builds_a_new_index(tmp_path: Path, vectors: Vectors) -> None:
    store = store_at(tmp_path / "embeddings", vectors[:200])
    build_index(store, "clip", tmp_path / "index", options=BuildOptions(0))
    assert (
        build_index(store, "clip", tmp_path / "index", options=BuildOptions(1)).reason
        == "clip-ivf.faiss was built with other options"
    )


def test_a_column_that_the_store_lacks_is_named(tmp_path: Path, vectors: Vectors) -> None:
    store = store_at(tmp_path / "embeddings", vectors[:50])
    with pytest.raises(ConfigError, match="has no encoder 'dino'; it has clip"):
        build_index(store, "dino", tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("rows", [1, 5, 20, 38, 39, 40, 300])
@pytest.mark.parametrize(
    "kind", ["flat", "ivf", "hnsw", "IVF4,PQ4x4", "OPQ4,PQ4x4", "PCA8,IVF4,SQ8", "HNSW8_PQ4x4", "IVF4,RQ2x4"]
)
def test_faiss_does_not_write_past_us_however_few_the_rows(
    rows: int, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    vectors = np.random.default_rng(0).standard_normal((rows, 16)).astype(np.float32)
    with suppress(ConfigError):  # too few rows to train such an index: an error of ours, without output
        list(ApproximateJoin(kind)(UnitRows(torch.from_numpy(vectors)), 0.5))
    assert capfd.readouterr() == ("", "")


# GPUs


class Card:
    """FAISS with two GPUs that are pretended: a copy is another index on the CPU, which fails from some call on."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, calls: float = float("inf"), copies: float = float("inf")
    ) -> None:
        self.calls, self.copies = calls, copies
        self.kept: list[Any] = []
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
        monkeypatch.setattr(faiss, "index_cpu_to_gpus_list", self.copy)
        monkeypatch.setattr(faiss, "GpuParameterSpace", faiss.ParameterSpace)
        for kind in (faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexIVFFlat):
            monkeypatch.setattr(kind, "search", self.failing(kind.search))

    def copy(self, index: Any, *, gpus: list[int]) -> Any:
        if len(self.kept) >= self.copies:
            raise RuntimeError(
                "Error in virtual void f() at StandardGpuResources.cpp:530: Error: 'err' failed: out of memory"
            )
        copied = faiss.clone_index(index)
        self.kept.append(weakref.ref(copied))
        return copied

    def failing(self, method: Any) -> Any:
        def run(index: Any, *arguments: Any, **options: Any) -> Any:
            if any(one() is index for one in self.kept):
                self.calls -= 1
                if self.calls < 0:
                    raise RuntimeError(
                        "Error in virtual void f() at StandardGpuResources.cpp:530: Error: 'err' failed: out of memory"
                    )
            return method(index, *arguments, **options)

        return run


@pytest.mark.parametrize("kind", ["flat", "IVF4,Flat"])
@pytest.mark.parametrize(("calls", "copies"), [(0, 9), (1, 9), (3, 9), (9e9, 0), (9e9, 9)])
def test_gpu_that_fails_at_any_time_leaves_the_search_to_the_cpu_with_the_same_pairs(
    monkeypatch: pytest.MonkeyPatch, rows: UnitRows, kind: str, calls: float, copies: float
) -> None:
    index = searcher(rows, kind).index
    plain = Searcher(index, kind)
    expected = collected(neighbour_pairs(plain, rows, MINIMUM, effort=plain.most_effort))
    notices: list[str] = []
    Card(monkeypatch, calls, copies)
    asked = Searcher(index, kind, Gpus.chosen("auto", notices.append))
    found = collected(neighbour_pairs(asked, rows, MINIMUM, effort=asked.most_effort))
    assert found == expected
    works = calls > 100 and copies
    assert asked.device == ("cuda:0 and cuda:1" if works else "cuda:0 and cuda:1 and cpu" if copies else "cpu")
    assert notices == ([] if works else [notices[0]])
    assert all("out of memory" in line and "StandardGpu" not in line for line in notices)


@pytest.mark.parametrize("fails", [False, True])
def test_gpu_that_fails_while_training_leaves_the_index_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, rows: UnitRows, fails: bool
) -> None:
    expected = searcher(rows, "ivf").index
    notices: list[str] = []
    card = Card(monkeypatch)
    real = faiss.IndexIVFFlat.train

    def train(index: Any, points: Any) -> None:
        helped = index.clustering_index is not None
        if helped:
            assert card.kept[0]() is not None  # FAISS holds a bare pointer to the copy
        if helped and fails:
            real(index, points[:100])  # in the middle of it
            raise RuntimeError("Error in void f() at Gpu.cpp:1: Error: 'err' failed: out of memory")
        real(index, points)

    monkeypatch.setattr(faiss.IndexIVFFlat, "train", train)
    source = Source(rows.count, rows.dimension, lambda: iter([rows.block(0, rows.count).numpy()]))
    built = build(source, "ivf", gpus=Gpus.chosen("cuda", notices.append)).index
    assert len(card.kept) == 1
    assert built.clustering_index is None
    assert card.kept[0]() is None  # its memory is given back
    assert notices == (
        ["the index is trained on the CPU: FAISS on the GPU says \"'err' failed: out of memory\""] if fails else []
    )
    assert np.array_equal(faiss.serialize_index(built), faiss.serialize_index(expected))


def test_faiss_without_a_gpu_says_so_where_one_might_have_been_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    notices: list[str] = []
    assert Gpus.chosen("auto", notices.append).describe() == Gpus.chosen("cpu", notices.append).describe() == "cpu"
    assert notices == ["FAISS sees no GPU: the CPU searches the index"]
    for asked in ("cuda", "cuda:0", "mps", "gpu"):
        with pytest.raises(ConfigError, match=f"device '{asked}' cannot search an index: FAISS has cpu here"):
            Gpus.chosen(asked)


def test_one_gpu_of_two_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    assert Gpus.chosen("cuda:1").describe() == "cuda:1"
    with pytest.raises(ConfigError, match="FAISS has cuda:0, cuda:1, cpu here"):
        Gpus.chosen("cuda:2")
