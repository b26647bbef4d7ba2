"""A benchmark as tasks of lmms-eval: data in Parquet, a task that scores pairs, and one that is scored as MMVP is.

`blindpairs` reads answers and scores pairs by `utils.py`, which is a copy of `lmms_eval_task.py` in this folder.
`blindpairs_mmvp_compat` uses the functions of lmms-eval's own task `mmvp` on the same data, so its figures are measured
as published ones are, with what those functions read wrong. Both have a twin for controls.

Promises: what lmms-eval's `mmvp` finds by position (EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/mmvp/utils.py: rows
2k-1 and 2k are a pair, counted from 1) is complete and in that order; options are lists, of which it takes every
character, where it would end an option in a text at its first bracket; images are upright RGB and streamed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.benchmark import lmms_eval_task
from blindpairs.benchmark.card import yaml_text
from blindpairs.benchmark.folders import each_image, new_folder, select, write_record
from blindpairs.benchmark.foreign import Exported
from blindpairs.benchmark.model import Benchmark, BenchmarkPair
from blindpairs.benchmark.native import IMAGE, ROW_GROUP, WRITING, file_name, typed_schema
from blindpairs.benchmark.rgb import as_rgb
from blindpairs.benchmark.sidecar import not_carried

FORMAT = "lmms-eval"
TASK = "blindpairs"
COMPATIBLE = "blindpairs_mmvp_compat"
CONTROLS = "_controls"  # after the name of a task
PAIRS_AT_ONCE = ROW_GROUP  # whose images are in memory: as they lie in the native file, so that each is read once
FIELDS = {
    "Index": pa.int32(),
    "Question": pa.string(),
    "Options": pa.list_(pa.string()),
    "Correct Answer": pa.string(),
    "image": IMAGE,
    **dict.fromkeys(("pair_id", "side", "image_id"), pa.string()),
    "patterns": pa.list_(pa.string()),
    "pattern_keys": pa.list_(pa.string()),  # of the metrics of its patterns
    **dict.fromkeys(("clip_sim", "dino_sim"), pa.float64()),
    "control_of": pa.string(),
}
PROMPT = "\nAnswer with the option's letter from the given choices directly."  # of lmms-eval's mmvp
_THEIRS = "lmms_eval.tasks.mmvp.utils.mmvp"
_METRICS = {"accuracy": True, "pair_accuracy": True, "pair_accuracy_low95": True, "pair_accuracy_high95": True}
_METRICS |= {"confusion_rate": False, "invalid_rate": False}  # whether higher is better


def export_lmms_eval(benchmark: Benchmark, folder: Path) -> Exported:
    """Write the tasks and their data into a folder for `--include_path`.

    Raises InputError if no blind pair can be written, an image cannot be read, or the folder is not such an export.
    """
    selected = select("lmms-eval", benchmark, _refusal)
    tables = {"": selected.blind, CONTROLS: selected.controls}  # by what ends the names of their tasks
    keys = pattern_keys(benchmark)
    exported = Exported(folder, len(selected.pairs), selected.refused, _notes(benchmark, selected.pairs))
    with new_folder(folder, FORMAT) as aside:
        (aside / "data").mkdir()
        (aside / TASK).mkdir()
        (aside / TASK / "utils.py").write_bytes(Path(lmms_eval_task.__file__).read_bytes())
        for ending, pairs in tables.items():
            if pairs:
                data = f"data/{'controls' if ending else 'test'}-00000-of-00001.parquet"
                _write(aside / data, benchmark, pairs, keys)
                used = {keys[name] for pair in pairs for name in pair.patterns}
                _write_tasks(aside, benchmark, ending, data, [key for key in keys.values() if key in used])
        write_record(aside, FORMAT, benchmark, exported)
    return replace(exported, notes=(_command(tables, folder), *exported.notes))


def pattern_keys(benchmark: Benchmark) -> dict[str, str]:
    """Patterns -> names that a metric can have: a-z, 0-9 and _, each pattern another one."""
    keys: dict[str, str] = {}
    taken = {name.removeprefix("pair_accuracy_") for name in _METRICS}
    for name in dict.fromkeys([*benchmark.patterns, *(one for pair in benchmark.pairs for one in pair.patterns)]):
        plain = re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_") or "pattern"
        number = 1
        while (key := plain if number == 1 else f"{plain}_{number}") in taken:
            number += 1
        taken.add(key)
        keys[name] = key
    return keys


def _refusal(pair: BenchmarkPair) -> str:
    if pair.question is None:
        return "it has no question"
    try:
        "".join([pair.question.text, *pair.question.options, *pair.patterns]).encode()
    except UnicodeEncodeError:
        return "a text is not valid Unicode"
    return "an option is empty" if not all(option.strip() for option in pair.question.options) else ""


def _write(path: Path, benchmark: Benchmark, pairs: Sequence[BenchmarkPair], keys: Mapping[str, str]) -> None:
    schema = typed_schema(FIELDS)
    with pq.ParquetWriter(path, schema, **WRITING) as writer:
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            batch = pairs[start : start + PAIRS_AT_ONCE]
            images = dict(each_image(benchmark, batch, as_rgb))
            rows = [row for place, pair in enumerate(batch, start) for row in _rows(place, pair, images, keys)]
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _rows(
    place: int, pair: BenchmarkPair, images: Mapping[str, bytes], keys: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    assert pair.question is not None
    for at, (side, key) in enumerate(zip("ab", pair.image_ids, strict=True)):
        yield {
            "Index": 2 * place + at + 1,  # its mmvp pairs rows by (Index - 1) // 2
            "Question": pair.question.text,
            "Options": list(pair.question.options),
            "Correct Answer": ("(a)", "(b)")[pair.question.answers[at]],
            "image": {"bytes": images[key], "path": file_name(key, images[key])},
            "pair_id": pair.pair_id,
            "side": side,
            "image_id": key,
            "patterns": list(pair.patterns),
            "pattern_keys": [keys[name] for name in pair.patterns],
            "clip_sim": pair.clip_sim,
            "dino_sim": pair.dino_sim,
            "control_of": pair.control_of,
        }


def _write_tasks(aside: Path, benchmark: Benchmark, ending: str, data: str, keys: Sequence[str]) -> None:
    # Name of the metric -> (the function of utils.py that aggregates it, whether higher is better).
    metrics = {name: (name, better) for name, better in _METRICS.items()}
    metrics |= {f"pair_accuracy_{key}": ("pair_accuracy", True) for key in keys}
    ours = [(f"{TASK}_{name}", f"utils.{TASK}_{function}", better) for name, (function, better) in metrics.items()]
    theirs = [
        ("mmvp_accuracy", f"{_THEIRS}_aggregate_results", True),
        ("mmvp_pair_accuracy", f"{_THEIRS}_aggregate_pair_results", True),
    ]
    own = _task(benchmark, f"{TASK}{ending}", f"../{data}", f"utils.{TASK}", ours)
    own += "cluster_key: pair_id\nscore_key: score\n"
    (aside / TASK / f"{TASK}{ending}.yaml").write_text(own, encoding="utf-8")
    compatible = _task(benchmark, f"{COMPATIBLE}{ending}", data, _THEIRS, theirs)
    (aside / f"{COMPATIBLE}{ending}.yaml").write_text(compatible, encoding="utf-8")


def _task(benchmark: Benchmark, name: str, data: str, functions: str, metrics: Sequence[tuple[str, str, bool]]) -> str:
    """The YAML of a task whose functions are FUNCTIONS_doc_to_text and so on; paths are relative to its file."""
    lines = [f"task: {name}", "dataset_path: parquet", f"dataset_kwargs: {{data_files: {{test: {data}}}}}"]
    lines += ["test_split: test", "output_type: generate_until"]
    steps = ("doc_to_visual", "doc_to_text", "doc_to_target", "process_results")
    lines += [f"{step}: !function {functions}_{step}" for step in steps]
    lines.append("metric_list:")
    for metric, function, better in metrics:
        lines += [f"  - metric: {metric}", f"    aggregation: !function {function}"]
        lines.append(f"    higher_is_better: {str(better).lower()}")
    lines += ["lmms_eval_specific_kwargs:", "  default:", '    pre_prompt: ""', f"    post_prompt: {yaml_text(PROMPT)}"]
    tokens = 16 if functions == _THEIRS else 64  # 16 is mmvp's own; a sentence that ends with the letter needs more
    lines.append(f"generation_kwargs: {{max_new_tokens: {tokens}, temperature: 0, do_sample: false}}")
    lines += ["metadata:", "  version: 1.0", f"  benchmark: {yaml_text(benchmark.name)}"]
    lines += [
        f"  fingerprint: {yaml_text(benchmark.fingerprint)}",
        f"  ground_truth: {yaml_text(benchmark.ground_truth)}",
    ]
    return "\n".join(lines) + "\n"


def _command(tables: Mapping[str, Sequence[BenchmarkPair]], folder: Path) -> str:
    tasks = ",".join(f"{task}{ending}" for ending, pairs in tables.items() if pairs for task in (TASK, COMPATIBLE))
    return (
        f"Run: python -m lmms_eval --model llava_hf --include_path {folder.resolve()} --tasks {tasks} --log_samples "
        "--output_path results"
    )


def _notes(benchmark: Benchmark, pairs: Sequence[BenchmarkPair]) -> tuple[str, ...]:
    return (
        f"{TASK} reads answers as blindpairs does; {COMPATIBLE} as lmms-eval's mmvp does, which takes some for others.",
        *not_carried(benchmark, pairs, ("second", "statement_a", "annotators", "source", "license")),
    )
