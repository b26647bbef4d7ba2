"""The commands around mining: which encoders, which method, what is printed and what the files then say."""

import dataclasses
import json
import math
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from store_files import Vectors, write_store
from typer.testing import CliRunner, Result

from blindpairs.cli import app
from blindpairs.cli.groups import grouped
from blindpairs.cli.mine import PairOptions, RunOptions
from blindpairs.mine import MiningOptions, planning, read_pairs
from blindpairs.mine.search import Search
from blindpairs.selfjoin import Hardware, JoinPlan, PairBlock, UnitRows, similar_pairs
from blindpairs.selfjoin.compiler import compiled_code
from blindpairs.workspace import Workspace

THRESHOLDS = ("--clip-min", "0.8", "--dino-max", "0.5", "--no-gallery")


def call(command: str, work: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [command, "--work", str(work), *map(str, arguments)])


def called(command: str, work: Path, *arguments: object) -> dict[str, Any]:
    """The JSON object that a command prints."""
    result = call(command, work, *arguments, "--json")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def around(count: int, dimension: int, centres: int, noise: float, seed: int) -> Vectors:
    """Unit vectors around some centres."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, dimension))[random.integers(centres, size=count)]
    vectors = middle + noise * random.normal(size=(count, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder with 400 images, one of them blank and two of them twins."""
    columns = {
        "clip": around(400, 24, 6, 0.12, 0),
        "dino": around(400, 16, 40, 0.06, 1),
        "siglip": around(400, 20, 5, 0.1, 2),
        "rough": around(400, 16, 40, 0.35, 3),  # views of one thing are alike, not the same
    }
    for vectors in columns.values():
        vectors[7] = vectors[3]
    write_store(tmp_path / "embeddings", columns, blank=5)
    return tmp_path


def kept(work: Path) -> list[str]:
    found: list[str] = read_pairs(work / "pairs")["pair_id"].to_pylist()
    return found


def record(work: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((work / "pairs" / "pairs.json").read_text())
    return found


def test_any_two_columns_can_be_held_against_each_other(work: Path) -> None:
    called("mine", work, *THRESHOLDS)
    first = kept(work)
    report = called("mine", work, *THRESHOLDS, "--encoder-a", "siglip", "--encoder-b", "clip")
    assert report["counts"]["kept"] == len(kept(work)) > 0
    assert kept(work) != first
    assert {role: one["name"] for role, one in record(work)["store"]["encoders"].items()} == {
        "a": "siglip",
        "b": "clip",
    }


@pytest.mark.parametrize("method", ["flat", "ivf", "hnsw"])
def test_a_search_through_an_index_says_what_it_misses_and_is_stored_with_it(work: Path, method: str) -> None:
    exact = called("mine", work, *THRESHOLDS)
    exact_pairs = kept(work)
    assert record(work)["complete"] is True
    report = called("mine", work, *THRESHOLDS, "--method", method)
    assert record(work)["join"] == report["join"]
    assert report["join"].items() >= {"method": method, "exact": False, "queries": 398}.items()
    # All 398 rows that take part are sampled: the measured recall is that of the pairs found.
    assert report["join"]["pairs"] == exact["counts"]["above_clip_min"]
    assert report["join"]["found"] == report["counts"]["above_clip_min"]
    assert report["join"]["recall"] == report["join"]["found"] / report["join"]["pairs"] >= 0.99
    assert record(work)["complete"] is False
    if method == "flat":
        assert kept(work) == exact_pairs


@pytest.mark.slow
def test_pairs_that_ray_finds_are_those_of_this_process(work: Path) -> None:
    pytest.importorskip("ray")
    called("mine", work, *THRESHOLDS)
    expected = read_pairs(work / "pairs")
    report = called("mine", work, *THRESHOLDS, "--executor", "ray")
    assert read_pairs(work / "pairs") == expected
    assert (
        report["join"]
        == record(work)["join"]
        == {
            "method": "exact",
            "exact": True,
            "executor": "ray",
            "device": "cpu",
        }
    )


def test_mining_uses_the_index_that_was_built(work: Path) -> None:
    built = called("index", work, "--kind", "IVF8,Flat")
    assert (built["reused"], built["factory"], built["rows"]) == (False, "IVF8,Flat", 400)
    assert called("index", work, "--kind", "IVF8,Flat")["reused"] is True
    assert "  reused: it was built from these embeddings" in call("index", work, "--kind", "IVF8,Flat").stdout
    result = call("mine", work, *THRESHOLDS, "--method", "IVF8,Flat")
    assert result.exit_code == 0, result.output
    assert f"{built['path']}: reused" in result.stderr
    recall = record(work)["join"]["recall"]
    assert f"  not every pair: IVF8,Flat has a measured recall of {recall:.4f} (95 % interval " in result.stdout


def test_index_of_another_encoder_has_its_own_file(work: Path) -> None:
    first, second = called("index", work), called("index", work, "--encoder", "dino", "--kind", "flat")
    assert Path(first["path"]).name == "clip-ivf.faiss"
    assert Path(second["path"]).name == "dino-flat.faiss"
    assert second["dimension"] == 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine", "--encoder-a", "vgg"], "no encoder 'vgg'; it has clip, dino, siglip, rough"),
        (["mine", "--method", "magic"], "`mine --method exact` needs no index"),
        (["mine", "--method", "ivf", "--executor", "ray"], "--executor ray has the exact method only"),
        (["mine", "--center", "--executor", "ray"], "--executor ray reads the vectors as they are stored"),
        (["mine", "--device", "cuda:99"], "device 'cuda:99' cannot compare vectors here"),
        (["mine", "--device", "mps"], "device 'mps' cannot compare vectors (the join has no code for it); there is"),
        (["mine", "--device", "abacus", "--plan"], "device 'abacus' cannot compare vectors (no such device); there is"),
        (["mine", "--device", "cuda:99", "--method", "ivf"], "device 'cuda:99' cannot search an index: FAISS has"),
        (
            ["mine", "--device", "cuda", "--executor", "ray"],
            "--executor ray joins on processors: leave out --device cuda",
        ),
        (["mine", "--memory", "lots"], "'lots' is not an amount of memory: write 500M or 4G"),
        (["mine", "--rank", "best"], "rank is one of subtle, gap, clip, rarity; 'best' is not"),
        (["mine", "--distinct", "--top", "0"], "say how many are wanted with top"),
        (["index", "--encoder", "vgg"], "has no encoder 'vgg'"),
        (["index", "--kind", "PQ7"], "no index of kind 'PQ7'"),
        (["import", "nowhere"], "nowhere does not exist"),
        (["import", "nowhere", "--second", "dino"], "--second 'dino' is not NAME=FOLDER"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(work: Path, arguments: list[str], said: str) -> None:
    result = call(arguments[0], work, *arguments[1:])
    assert result.exit_code == 3, result.output
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_imported_embeddings_are_mined(tmp_path: Path) -> None:
    for name, vectors in (("one", around(200, 24, 6, 0.12, 0)), ("two", around(200, 16, 40, 0.06, 1))):
        for kind in ("img_emb", "metadata"):
            (tmp_path / name / kind).mkdir(parents=True)
        np.save(tmp_path / name / "img_emb" / "img_emb_0.npy", vectors)
        paths = pa.table({"image_path": [f"{row}.jpg" for row in range(200)]})
        pq.write_table(paths, tmp_path / name / "metadata" / "metadata_0.parquet")
    result = call("import", tmp_path / "work", tmp_path / "one", "--second", f"dino={tmp_path / 'two'}")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{tmp_path / 'work' / 'embeddings'}: 200 images with vectors of clip and dino",
        "  flagged: 200 not_decoded",
    ]
    assert called("mine", tmp_path / "work", *THRESHOLDS)["counts"]["kept"] > 0
    alone = call("import", tmp_path / "other", tmp_path / "one", "--column", "siglip")
    assert "  to mine, import a second encoder with it: --second NAME=FOLDER" in alone.stdout


def test_centred_vectors_are_searched_through_an_index_of_their_own(work: Path) -> None:
    called("mine", work, *THRESHOLDS, "--center")
    exact = kept(work)
    report = called("mine", work, *THRESHOLDS, "--center", "--method", "flat")
    assert kept(work) == exact
    assert report["join"]["recall"] == 1.0
    assert not (work / "index").exists()
    assert record(work)["options"]["center"] is True


def test_quantiles_are_printed_and_stored_as_the_cosines_they_came_to(work: Path) -> None:
    options = ("--no-gallery", "--clip-quantile", "0.97", "--dino-quantile", "0.3")
    report = called("mine", work, *options)
    stored = record(work)["options"]
    assert (stored["clip_quantile"], stored["dino_quantile"]) == (0.97, 0.3)
    assert (stored["clip_min"], stored["dino_max"]) == (report["clip_min"], report["dino_max"]) != (0.95, 0.6)
    said = f"(clip_sim >= {report['clip_min']:g}, dino_sim <= {report['dino_max']:g})"
    assert said in call("mine", work, *options).stdout


def test_rank_and_distinct_findings_reach_the_file(work: Path) -> None:
    options = (*THRESHOLDS, "--encoder-b", "rough", "--top", "50", "--rank", "rarity", "--distinct")
    counts = called("mine", work, *options)["counts"]
    assert counts["similar_findings"] > 0
    assert record(work)["options"].items() >= {"rank": "rarity", "distinct": True, "top": 50}.items()
    assert f"{counts['similar_findings']:,} like a better pair" in call("mine", work, *options).stdout


# Devices


@pytest.mark.parametrize("method", ["exact", "ivf"])
def test_device_that_did_it_is_recorded_and_a_gpu_that_is_absent_is_told_in_one_line(
    work: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    quiet = call("mine", work, *THRESHOLDS, "--method", method, "--device", "cpu")
    pairs = kept(work)
    assert "GPU" not in quiet.stderr
    told = call("mine", work, *THRESHOLDS, "--method", method)
    line = "FAISS sees no GPU: the CPU searches the index" if method == "ivf" else "torch sees no GPU: the CPU compares"
    assert [line in one for one in told.stderr.splitlines()].count(True) == 1
    assert kept(work) == pairs
    assert record(work)["join"]["device"] == "cpu"
    assert called("mine", work, *THRESHOLDS, "--method", method, "--plan")["device"] == "cpu"


# What it would take


def everything(folder: Path) -> dict[str, int]:
    """Every file below a folder, with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_plan_counts_the_pairs_of_the_images_that_take_part_and_writes_nothing(work: Path) -> None:
    before = everything(work)
    plan = called("mine", work, *THRESHOLDS, "--plan", "--memory", "200K")
    assert everything(work) == before
    taking_part = 400 - 1 - 1  # a blank one, and of two twins one
    assert (plan["images"], plan["taking_part"], plan["pairs"]) == (
        400,
        taking_part,
        taking_part * (taking_part - 1) // 2,
    )
    columns = plan["flops"] / (2 * plan["pairs"])
    assert columns == int(columns) >= plan["dimensions"] + 4  # the norms take four, and some products pad them
    code = compiled_code()
    assert plan["engine"] == (code.kind if code else "torch")
    assert plan["whole_flops"] == 2 * 24 * plan["pairs"]
    assert plan["memory_bytes"] == sum(plan[f"{what}_bytes"] for what in ("vector", "coordinate", "buffer", "library"))
    assert plan["library_bytes"] > 100 << 20  # Python with torch
    assert (plan["vector_bytes"], plan["mapped_bytes"]) == (0, 400 * (24 + 16) * 2)
    assert 0 < plan["seconds"] < 60
    assert (plan["method"], plan["clip_min"], plan["dino_max"]) == ("exact", 0.8, 0.5)


@pytest.mark.parametrize("enough", [0.0, 2.0, math.inf])
def test_time_of_a_plan_grows_with_the_pairs_from_whichever_samples_it_has_time_for(
    work: Path, monkeypatch: pytest.MonkeyPatch, enough: float
) -> None:
    def pairs(count: int) -> int:
        return count * (count - 1) // 2

    sizes: list[int] = []

    def timed(
        search: Search, options: MiningOptions, plan: JoinPlan, hardware: Hardware, size: int
    ) -> tuple[float, int]:
        sizes.append(size)
        return pairs(size) / 1000, size

    monkeypatch.setattr(planning, "SAMPLES", (50, 100, 200))
    monkeypatch.setattr(planning, "ENOUGH_SECONDS", enough)
    monkeypatch.setattr(planning, "_timed", timed)
    assert called("mine", work, *THRESHOLDS, "--plan")["seconds"] == pytest.approx(pairs(398) / 1000)
    assert sizes == {0.0: [50, 50], 2.0: [50, 50, 100], math.inf: [50, 50, 100, 200]}[enough]


@pytest.mark.parametrize("method", ["exact", "ivf"])
def test_plan_times_the_engine_that_mining_will_use(work: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    asked: list[tuple[str, ...]] = []
    real = similar_pairs

    def noted(rows: UnitRows, minimum: float, *, hardware: Hardware, **options: Any) -> Iterator[PairBlock]:
        asked.append(hardware.gpus)
        return real(rows, minimum, hardware=hardware, **options)

    def on_gpus(*arguments: Any) -> Iterator[PairBlock]:
        arguments[-1].uses("triton", "cuda:7")
        yield from ()

    def one_gpu(hardware: Hardware, device: str = "auto", *_: Any, **__: Any) -> None:
        real_init(hardware, "cpu")
        hardware.gpus = () if device == "cpu" else ("cuda:7",)

    real_init = Hardware.__init__
    monkeypatch.setattr(Hardware, "__init__", one_gpu)
    monkeypatch.setattr(planning, "similar_pairs", noted)
    monkeypatch.setattr("blindpairs.selfjoin.join._on_gpus", on_gpus)
    monkeypatch.setattr(planning, "_bound", lambda *_: (60, 64))
    plan = called("mine", work, *THRESHOLDS, "--method", method, "--plan")
    wanted = ("cuda:7", "triton") if method == "exact" else ("cpu", plan["engine"])
    assert (plan["timed_on"], plan["engine"]) == wanted
    assert set(asked) == {("cuda:7",) if method == "exact" else ()}
    assert called("mine", work, *THRESHOLDS, "--device", "cpu", "--plan")["timed_on"] == "cpu"


def test_plan_is_told_in_sentences(work: Path) -> None:
    result = call("mine", work, *THRESHOLDS, "--plan")
    assert result.exit_code == 0, result.output
    first, *others = result.stdout.splitlines()
    assert first == "398 of 400 images take part: 79,003 pairs (clip_sim >= 0.8, dino_sim <= 0.5)"
    assert [line.split(":")[0] for line in others] == ["  method", "  arithmetic", "  memory", "  time"]


# Memory

PEAK = """
import re, sys, threading, time
from pathlib import Path
from blindpairs.cli import app

peak, over = 0, False

def watch():
    global peak
    while not over:
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
try:
    app(sys.argv[1:])
finally:
    over = True
    watcher.join()
    sys.stderr.write(f"\\npeak {peak}")
"""


def peak_memory(*arguments: str) -> int:
    """The most MiB of memory of its own that a command held: pages of mapped files are the system's."""
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
    return int(done.stderr.rsplit("peak ", 1)[1]) >> 10


def test_vectors_beyond_the_limit_are_mapped_and_give_the_same_pairs(work: Path) -> None:
    called("mine", work, *THRESHOLDS)
    expected = read_pairs(work / "pairs")
    result = call("mine", work, *THRESHOLDS, "--memory", "100K")
    assert result.exit_code == 0, result.output
    assert "clip: 0 MiB of vectors stay on disk, more than memory may hold" in result.stderr
    assert read_pairs(work / "pairs") == expected
    assert not list(work.rglob(".vectors*"))


@pytest.mark.slow
def test_mining_with_little_memory_does_not_hold_the_vectors(tmp_path: Path) -> None:
    count, dimension = 60_000, 768  # of 20,000 the allocator's whims were a third of the difference
    columns = {"clip": around(count, dimension, 27_000, 0.1, 0), "dino": around(count, dimension, 27_000, 0.1, 1)}
    write_store(tmp_path / "embeddings", columns, parts=12)
    arguments = ("mine", "--work", str(tmp_path), "--no-gallery", "--clip-min", "0.95")
    held, mapped = peak_memory(*arguments), peak_memory(*arguments, "--memory", "1M")
    assert mapped < held - 0.6 * 2 * 2 * count * dimension / 2**20  # the buffers vary by some MiB


LIMITED = """
import resource, sys
from blindpairs.cli import app
resource.setrlimit(resource.RLIMIT_DATA, (5 << 30, 5 << 30))
app(sys.argv[1:])
"""


def test_twenty_thousand_identical_images_are_one_and_the_command_says_how_many(tmp_path: Path) -> None:
    columns = {"clip": np.ones((20_000, 32), np.float16), "dino": np.ones((20_000, 32), np.float16)}
    columns["clip"] /= np.float16(32**0.5)
    columns["dino"] /= np.float16(32**0.5)
    columns["dino"][0, ::2] *= -1  # one that CLIP takes for the others and DINOv2 does not
    write_store(tmp_path / "embeddings", columns)
    arguments = ("mine", "--work", str(tmp_path), "--no-gallery", "--top", "1000")
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first.endswith("1 blind pairs among 20,000 images (clip_sim >= 0.95, dino_sim <= 0.6)")
    assert others[-1] == "  images left out: 19,998 identical to another"


# The page


def test_page_of_older_pairs_does_not_outlive_them(work: Path) -> None:
    page = Workspace(work).gallery
    called("mine", work, *THRESHOLDS, "--gallery")
    assert page.exists()
    called("mine", work, *THRESHOLDS)
    assert not page.exists()


def test_page_sorts_by_the_rarity_that_ranks_pairs(work: Path) -> None:
    called("mine", work, *THRESHOLDS, "--gallery", "--rank", "rarity")
    shown = [float(value) for value in re.findall(r'data-rarity="([^"]*)"', Workspace(work).gallery.read_text())]
    assert len(shown) == len(kept(work)) > 10
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > shown[-1]


# Options


def test_flags_have_the_defaults_of_the_library() -> None:
    library = {one.name: one.default for one in dataclasses.fields(MiningOptions)}
    flags = {one.name: one.default for one in dataclasses.fields(PairOptions)}
    assert flags == {name: library[name] for name in flags}
    assert library.keys() - flags.keys() == {"seed", "most_candidates"}


def test_options_of_one_name_in_two_groups_are_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class One:
        top: int = 3
        rank: str = ""

    @dataclasses.dataclass(frozen=True)
    class Other:
        rank: str = ""

    def groups(one: One, other: Other) -> None: ...

    def group_and_command(one: One, top: int = 4) -> None: ...

    # As where a command is at the top of its file: names in its signature can be looked up.
    groups.__annotations__ = {"one": One, "other": Other, "return": None}
    group_and_command.__annotations__ = {"one": One, "top": int, "return": None}
    for command, name in ((groups, "rank"), (group_and_command, "top")):
        with pytest.raises(TypeError, match=f"{command.__name__} has two options called {name}"):
            grouped(command)


def test_every_option_is_in_a_panel_of_the_help_page() -> None:
    parameters = [*dataclasses.fields(PairOptions), *dataclasses.fields(RunOptions)]
    panels = {
        one.name: typing.get_type_hints(group, include_extras=True)[one.name].__metadata__[0].rich_help_panel
        for group in (PairOptions, RunOptions)
        for one in dataclasses.fields(group)
    }
    assert len(panels) == len(parameters)
    assert set(panels.values()) - {None} <= {"Thresholds", "Selection", "Encoders", "Machine", "Output"}
    assert [name for name, panel in panels.items() if panel is None] in ([], ["ray_address"])
