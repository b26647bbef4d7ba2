"""Tasks of lmms-eval: what it loads by its documented rules, and by its own code where that is installed."""

import importlib
import io
import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from nasty_texts import NASTY
from pictured_pairs import benchmark_of
from PIL import Image
from task_modules import module_at

from blindpairs.benchmark import Benchmark, HeldImages, Question, lmms_eval_task
from blindpairs.benchmark.lmms_eval import export_lmms_eval, pattern_keys
from blindpairs.errors import InputError

DATA = "data/test-00000-of-00001.parquet"


def rows_of(folder: Path, data: str = DATA) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / data).to_pylist()
    return rows


def task_of(path: Path) -> dict[str, Any]:
    """A task by the documented rules: `!function utils.name` is a name in the file beside its YAML, if it exists."""
    loader_type: Any = type("Loader", (yaml.SafeLoader,), {})

    def function(loader: Any, node: Any) -> Any:
        module, _, name = loader.construct_scalar(node).rpartition(".")
        beside = path.parent / f"{module}.py"
        return getattr(module_at(beside), name) if beside.exists() else f"{module}.{name}"

    loader_type.add_constructor("!function", function)
    loaded = yaml.load(path.read_text(encoding="utf-8"), loader_type)
    assert isinstance(loaded, dict)
    return loaded


def scores(task: dict[str, Any], folder: Path, seed: int) -> tuple[dict[str, float], dict[str, list[bool]]]:
    """Every metric of a task over random answers, as the harness computes it, and what was right of each pair."""
    chance, collected, right = random.Random(seed), dict[str, list[Any]](), dict[str, list[bool]]()
    for doc in pq.read_table(folder).to_pylist():
        target = task["doc_to_target"](doc)
        response = chance.choice([f"({target.lower()})", f"{target}.", "BA"["AB".index(target)], "neither"])
        right.setdefault(doc["pair_id"], []).append(response not in ("A", "B", "neither"))
        seen = {name: value for name, value in doc.items() if name != "image"}
        for metric, value in task["process_results"](seen, [response]).items():
            collected.setdefault(metric, []).append(value)
    functions = {one["metric"]: one["aggregation"] for one in task["metric_list"]}
    assert set(collected) == set(functions)
    return {name: functions[name](values) for name, values in collected.items()}, right


def patterned(count: int) -> Benchmark:
    benchmark = benchmark_of(count)
    names = itertools.cycle([("Color and Appearance",), ("State and Condition", "Color and Appearance"), ()])
    return replace(benchmark, pairs=tuple(replace(pair, patterns=next(names)) for pair in benchmark.pairs))


def test_rows_are_counted_from_1_with_pairs_adjacent_and_options_as_lists(tmp_path: Path) -> None:
    benchmark = patterned(120)  # more than are in memory at once
    exported = export_lmms_eval(benchmark, tmp_path / "out")
    assert (exported.pairs, exported.refused) == (120, {})
    expected = [
        (2 * place + at + 1, pair.pair_id, side, ["Open", "Closed"], f"({'ab'[at]})", list(pair.patterns))
        for place, pair in enumerate(benchmark.pairs)
        for at, side in enumerate("ab")
    ]
    names = ("Index", "pair_id", "side", "Options", "Correct Answer", "patterns")
    assert [tuple(row[name] for name in names) for row in rows_of(tmp_path / "out")] == expected
    images = dict(benchmark.images(benchmark.image_ids))
    assert all(row["image"]["bytes"] == images[row["image_id"]] for row in rows_of(tmp_path / "out"))


def test_schema_tells_datasets_that_images_are_images_and_options_lists(tmp_path: Path) -> None:
    export_lmms_eval(benchmark_of(1), tmp_path / "out")
    metadata = pq.read_schema(tmp_path / "out" / DATA).metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["Options"] == {"_type": "List", "feature": {"_type": "Value", "dtype": "string"}}
    assert features["Index"] == {"_type": "Value", "dtype": "int32"}


def test_own_task_gives_the_direct_counts_of_pairs_and_of_each_pattern(tmp_path: Path) -> None:
    benchmark = patterned(41)
    export_lmms_eval(benchmark, tmp_path / "out")
    path = tmp_path / "out" / "blindpairs" / "blindpairs.yaml"
    task = task_of(path)
    data = (path.parent / task["dataset_kwargs"]["data_files"]["test"]).resolve()
    for seed in range(3):
        found, right = scores(task, data, seed)
        assert found["blindpairs_pair_accuracy"] == sum(map(all, right.values())) / 41
        assert found["blindpairs_accuracy"] == sum(itertools.chain(*right.values())) / 82
        for name, key in pattern_keys(benchmark).items():
            solved = [all(right[pair.pair_id]) for pair in benchmark.pairs if name in pair.patterns]
            assert found[f"blindpairs_pair_accuracy_{key}"] == sum(solved) / len(solved)
    assert (task["cluster_key"], task["score_key"]) == ("pair_id", "score")


def test_exported_functions_are_those_of_the_package(tmp_path: Path) -> None:
    export_lmms_eval(benchmark_of(1), tmp_path / "out")
    exported = tmp_path / "out" / "blindpairs" / "utils.py"
    assert exported.read_bytes() == Path(lmms_eval_task.__file__).read_bytes()


def test_compatible_task_names_the_functions_of_mmvp_and_its_settings(tmp_path: Path) -> None:
    export_lmms_eval(benchmark_of(1), tmp_path / "out")
    task = task_of(tmp_path / "out" / "blindpairs_mmvp_compat.yaml")
    functions = "lmms_eval.tasks.mmvp.utils.mmvp_"
    assert (tmp_path / "out" / task["dataset_kwargs"]["data_files"]["test"]).is_file()
    assert task["process_results"] == f"{functions}process_results"
    assert [(one["metric"], one["aggregation"]) for one in task["metric_list"]] == [
        ("mmvp_accuracy", f"{functions}aggregate_results"),
        ("mmvp_pair_accuracy", f"{functions}aggregate_pair_results"),
    ]
    assert task["generation_kwargs"] == {"max_new_tokens": 16, "temperature": 0, "do_sample": False}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_text_survives_or_its_pair_is_refused_by_name(tmp_path: Path, name: str) -> None:
    benchmark = replace(benchmark_of(2), name=NASTY[name])
    question = Question(NASTY[name], (NASTY[name], "Other"), (0, 1))
    nasty = replace(benchmark.pairs[0], question=question, patterns=(NASTY[name] or "x",))
    benchmark = replace(benchmark, pairs=(nasty, benchmark.pairs[1]))
    if name == "surrogate":  # no fingerprint, no file name and no Parquet file can hold it
        benchmark = replace(benchmark, name="doors")
    exported = export_lmms_eval(benchmark, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    if name in {"surrogate", "empty"}:
        assert list(exported.refused) == [nasty.pair_id]
        assert [row["Question"] for row in rows] == ["Is the door open or closed?"] * 2
    else:
        assert exported.refused == {}
        assert [(row["Question"], row["Options"][0]) for row in rows[:2]] == [(NASTY[name], NASTY[name])] * 2
    assert task_of(tmp_path / "out" / "blindpairs" / "blindpairs.yaml")["metadata"]["benchmark"] == benchmark.name


def test_every_pattern_has_a_metric_name_of_its_own() -> None:
    benchmark = replace(benchmark_of(1), patterns=("A b", "a-B", "\u05d3", "\u05dc", "Low95", "Texts", "pattern 2"))
    keys = pattern_keys(benchmark)
    assert list(keys.values()) == [
        *("a_b", "a_b_2", "pattern", "pattern_2", "low95_2", "texts", "pattern_2_2", "state_and_condition")
    ]


def test_controls_are_tasks_of_their_own(tmp_path: Path) -> None:
    benchmark = benchmark_of(3)
    control = replace(benchmark.pairs[2], control_of=benchmark.pairs[0].pair_id)
    benchmark = replace(benchmark, pairs=(*benchmark.pairs[:2], control))
    exported = export_lmms_eval(benchmark, tmp_path / "out")
    assert [row["pair_id"] for row in rows_of(tmp_path / "out")[::2]] == [pair.pair_id for pair in benchmark.pairs[:2]]
    controls = rows_of(tmp_path / "out", "data/controls-00000-of-00001.parquet")
    assert [(row["Index"], row["control_of"]) for row in controls] == [(1, control.control_of), (2, control.control_of)]
    for name in ("blindpairs/blindpairs_controls", "blindpairs_mmvp_compat_controls"):
        path = tmp_path / "out" / f"{name}.yaml"
        task = task_of(path)
        assert task["task"] == path.stem
        assert (path.parent / task["dataset_kwargs"]["data_files"]["test"]).resolve().name.startswith("controls-")
    assert "blindpairs,blindpairs_mmvp_compat,blindpairs_controls,blindpairs_mmvp_compat_controls" in exported.notes[0]


def test_images_of_every_kind_are_upright_rgb_and_lossless_ones_stay_so(tmp_path: Path) -> None:
    benchmark = benchmark_of(2)
    assert isinstance(benchmark.images, HeldImages)
    upright = Image.open(io.BytesIO(next(iter(benchmark.images.images.values())))).convert("RGB")
    keys = benchmark.image_ids
    for key, mode in zip(keys, ("P", "RGBA", "L", "RGB"), strict=True):
        out = io.BytesIO()
        upright.convert(mode).save(out, "PNG")
        benchmark.images.images[key] = out.getvalue()
    export_lmms_eval(benchmark, tmp_path / "out")
    written = {row["image_id"]: Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows_of(tmp_path / "out")}
    assert {image.mode for image in written.values()} == {"RGB"}
    assert written[keys[1]].tobytes() == written[keys[3]].tobytes() == upright.tobytes()
    assert rows_of(tmp_path / "out")[3]["image"]["bytes"] == benchmark.images.images[keys[3]]


def test_same_benchmark_gives_the_same_bytes_and_replaces_its_older_export(tmp_path: Path) -> None:
    for _ in range(2):
        export_lmms_eval(patterned(5), tmp_path / "one")
    export_lmms_eval(patterned(5), tmp_path / "other")
    one, other = (
        {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "other")
    )
    assert one == other


def test_benchmark_without_blind_pairs_with_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lmms-eval can hold no blind pair of doors: it has no question"):
        export_lmms_eval(benchmark_of(2, question=None, second=None), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lmms_evals_own_code_runs_both_tasks_and_counts_the_same_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    tasks: Any = importlib.import_module("lmms_eval.tasks")
    outputs: Any = importlib.import_module("lmms_eval.evaluator_utils")
    export_lmms_eval(patterned(21), tmp_path / "out")
    manager = tasks.TaskManager(include_path=str(tmp_path / "out"), include_defaults=False)
    loaded = tasks.get_task_dict(["blindpairs", "blindpairs_mmvp_compat"], manager)
    for name, prefix in (("blindpairs", "blindpairs"), ("blindpairs_mmvp_compat", "mmvp")):
        task, chance, right = loaded[name], random.Random(7), dict[str, list[bool]]()
        output = outputs.TaskOutput.from_taskdict(name, task)
        for doc in task.test_docs():
            target = task.doc_to_target(doc)
            response = target if chance.random() < 0.7 else "BA"["AB".index(target)]
            right.setdefault(doc["pair_id"], []).append(response == target)
            assert [image.mode for image in task.doc_to_visual(doc)] == ["RGB"]
            assert task.doc_to_text(doc) == (
                "Is the door open or closed?\nA. Open\nB. Closed\n"
                "Answer with the option's letter from the given choices directly."
            )
            seen = {key: value for key, value in doc.items() if key != "image"}
            for metric, value in task.process_results(seen, [response]).items():
                output.sample_metrics[(metric, "none")].append(value)
        output.calculate_aggregate_metric(bootstrap_iters=0)
        output.calculate_clt_aggregate_metric()
        assert output.agg_metrics[f"{prefix}_pair_accuracy,none"] == sum(map(all, right.values())) / 21
        assert output.agg_metrics[f"{prefix}_accuracy,none"] == sum(itertools.chain(*right.values())) / 42
        clustered = output.agg_metrics[f"{prefix}_accuracy_stderr_clustered,none"]
        assert isinstance(clustered, float) if prefix == "blindpairs" else clustered == "N/A"
