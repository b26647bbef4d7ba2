"""The rows of NaturalBench (Baiqi-Li/NaturalBench, naturalbench_vqa.py; arXiv 2410.14669): import and export.

    metadata.jsonl   {"Index": 0, "Image_0_file_name": "images/....jpg", "Image_1_file_name": ..., "Question_0": ...,
                      "Question_1": ..., "Image_0_Question_0": "Yes", "Image_1_Question_0": "No",
                      "Image_0_Question_1": "No", "Image_1_Question_1": "Yes", "Question_Type": "yes_no", "Source": ...}
    controls.jsonl   the same for control pairs

`load_dataset("imagefolder", data_dir=FOLDER)` of Hugging Face gives the rows their images, as Image_0 and Image_1. An
import also takes a JSON list, a path under the name Image_0, and questions that end with the benchmark's instruction.

The scorer never reads the answers of a row: it counts on Yes (or A) for question 0 with image 0 and for question 1 with
image 1, and on No (or B) else. So an export writes that question first whose first option is right for image a.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from blindpairs.access import reading
from blindpairs.benchmark.assembly import Assembly
from blindpairs.benchmark.folders import (
    each_image,
    new_folder,
    read_record,
    select,
    text_refusal,
    write_record,
)
from blindpairs.benchmark.foreign import Exported, ImportedBenchmark
from blindpairs.benchmark.model import ORIGINAL, Benchmark, BenchmarkPair, Question
from blindpairs.benchmark.native import file_name
from blindpairs.benchmark.questions import answer_of, question_or_refusal
from blindpairs.benchmark.sidecar import SidecarEntry, not_carried
from blindpairs.benchmark.tables import entry_named, plain_name
from blindpairs.errors import InputError

FORMAT = "naturalbench"
ROWS = "metadata.jsonl"
CONTROLS = "controls.jsonl"
NAMES = (ROWS, "naturalbench.jsonl", "naturalbench.json", "test.jsonl", "test.json", "train.jsonl", "train.json")
YES_NO = ("Yes", "No")
# What the official script adds to each question, by type; some published files hold it already.
INSTRUCTIONS = {
    "yes_no": "Please answer Yes or No.",
    "multiple_choice": "Please output the letter corresponding to the correct option.",
}
CHOICES = re.compile(r"(.*?)\s*\bOptions?:\s*A\s*[:.)](.*?);\s*B\s*[:.)](.*)", re.DOTALL)
THIRD = re.compile(r";\s*C\s*[:.)]")
FIELDS = (
    *("Question_0", "Question_1", "Question_Type"),
    *("Image_0_Question_0", "Image_1_Question_0", "Image_0_Question_1", "Image_1_Question_1"),
)
OURS = ("patterns", "clip_sim", "dino_sim", "control_of")


def export_naturalbench(benchmark: Benchmark, folder: Path) -> Exported:
    """Write rows for `load_dataset` and the official script; images keep their bytes.

    Refused are pairs without two questions whose answers are exchanged, and options that a reader could not tell apart.
    InputError where no blind pair is left.
    """
    selected = select("NaturalBench", benchmark, _refusal)
    controls = selected.controls
    notes = not_carried(benchmark, selected.pairs, ("statement_a", "annotators", "source", "license"))
    if controls:
        notes.append(f"Control pairs in {CONTROLS}, which `load_dataset` does not read: {len(controls):,}.")
    with new_folder(folder, FORMAT) as aside:
        (aside / "images").mkdir()
        names = {}
        for key, data in each_image(benchmark, selected.pairs, bytes):
            names[key] = f"images/{file_name(key, data)}"
            (aside / names[key]).write_bytes(data)
        _write_rows(aside / ROWS, benchmark, selected.blind, names)
        if controls:
            _write_rows(aside / CONTROLS, benchmark, controls, names)
        exported = Exported(folder, len(selected.pairs), selected.refused, tuple(notes))
        write_record(aside, FORMAT, benchmark, exported)
    return exported


def import_naturalbench(path: Path) -> ImportedBenchmark:
    """The benchmark in a JSON or JSONL file with the fields of NaturalBench, or in a folder with such a file.

    Left out, with a note, are rows whose first question has one answer for both images, and second questions whose
    answers are not exchanged. InputError for a row that is damaged or lacks a field or an image.
    """
    assembly = Assembly()
    file = _rows_file(path)
    for one in (file, file.parent / CONTROLS):
        if one == file or (file.name == ROWS and one.is_file()):
            for number, row in enumerate(_rows(one)):
                _add(assembly, one, number, row)
    record = read_record(file.parent)
    used = dict.fromkeys(name for pair in assembly.pairs for name in pair.patterns)
    return assembly.imported(
        file,
        record.get("name", "NaturalBench"),
        patterns=tuple(record.get("patterns", used)),
        ground_truth=record.get("ground_truth", ORIGINAL),
        provenance={"imported": FORMAT},
    )


def _refusal(pair: BenchmarkPair) -> str:
    if pair.question is None or pair.second is None:
        return "it has no two questions"
    if pair.second.answers != pair.question.answers[::-1]:
        return "the answers of its two questions are not exchanged"
    kind = _kind(pair.question, pair.second)
    for question in (pair.question, pair.second):
        sides = dict(zip("ab", question.answers, strict=True))
        again = question_or_refusal(*_parsed(_text(question, kind), kind), sides)
        if isinstance(again, str):
            return again
        if again != question:
            return "a question or an option would be read differently (it holds ; or Option: or outer spaces)"
    texts = (pair.question.text, *pair.question.options, pair.second.text, *pair.second.options)
    return text_refusal((*texts, *pair.patterns))


def _kind(question: Question, second: Question) -> str:
    return "yes_no" if question.options == second.options == YES_NO else "multiple_choice"


def _text(question: Question, kind: str) -> str:
    a, b = question.options
    return question.text if kind == "yes_no" else f"{question.text}\nOption: A:{a}; B:{b};"


def _write_rows(path: Path, benchmark: Benchmark, pairs: Sequence[BenchmarkPair], names: Mapping[str, str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, pair in enumerate(pairs):
            file.write(json.dumps(_row(number, pair, benchmark.name, names)) + "\n")


def _row(number: int, pair: BenchmarkPair, source: str, names: Mapping[str, str]) -> dict[str, Any]:
    assert pair.question  # pairs without two questions are refused
    assert pair.second
    # The scorer counts on Yes for question 0 with image 0, so a question whose answers are (1, 0) comes second.
    first_is_0 = pair.question.answers == (0, 1)
    asked = (pair.question, pair.second) if first_is_0 else (pair.second, pair.question)
    kind = _kind(*asked)
    answers = YES_NO if kind == "yes_no" else ("A", "B")
    row: dict[str, Any] = {"Index": number}
    row |= {f"Image_{place}_file_name": names[key] for place, key in enumerate(pair.image_ids)}
    for place, question in enumerate(asked):
        row[f"Question_{place}"] = _text(question, kind)
        row |= {f"Image_{image}_Question_{place}": answers[question.answers[image]] for image in (0, 1)}
    row |= {"Question_Type": kind, "Source": source}
    ours = {"pair_id": pair.pair_id, "image_ids": list(pair.image_ids), "first": 0 if first_is_0 else 1}
    return row | ours | {name: getattr(pair, name) for name in OURS}


def _rows_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = entry_named(path, *NAMES)
    if not found:
        raise InputError(f"{path} has none of {', '.join(NAMES)}: name the file with the rows of NaturalBench")
    return found


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    """The rows of a JSON list or of JSON lines, with field names in lower case and with spaces."""
    with reading(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        values = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(x) for x in text.split("\n") if x.strip()]
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({str(error)[:80]}): was the download cut short?") from error
    for number, value in enumerate(values):
        row = {plain_name(name): each for name, each in value.items()} if isinstance(value, dict) else {}
        missing = [name for name in FIELDS if not isinstance(row.get(plain_name(name)), str)]
        if missing:
            raise InputError(f"{path}, row {number + 1}: it has no text {missing[0]}")
        yield row


def _add(assembly: Assembly, file: Path, number: int, row: Mapping[str, Any]) -> None:
    index = str(row.get("index", number))
    what = f"The row {index} of {file.name}"
    asked = [_asked(row, place) for place in (0, 1)]
    entries = _sidecar_entries(file, index, row)
    first, second = asked[::-1] if entries[0] and row.get("first") == 1 else asked
    if isinstance(first, str):
        assembly.leave_out(what, first)
        return
    if isinstance(second, Question) and second.answers != first.answers[::-1]:
        second = "its answers are not exchanged"
    if isinstance(second, str):
        assembly.leave_out(f"The second question of row {index} of {file.name}", second)
    ids = {f"source_id_{side}": f"{index}/{place}" for side, place in (("a", 0), ("b", 1))}
    paths = (_image(file, row, 0), _image(file, row, 1))
    exchanged = second if isinstance(second, Question) else None
    assembly.add(paths, {"question": first, "second": exchanged, **ids}, entries)


def _sidecar_entries(
    file: Path, index: str, row: Mapping[str, Any]
) -> tuple[SidecarEntry, SidecarEntry] | tuple[None, None]:
    """What an export of blindpairs says in a row about each image; nothing in a row of another tool."""
    if not {"pair id", "image ids"} <= row.keys():
        return None, None
    name, image_ids = row["pair id"], row["image ids"]
    patterns, *sims, control_of = (row.get(plain_name(field)) for field in OURS)
    if not isinstance(image_ids, list) or len(image_ids) != 2 or not isinstance(patterns, list):
        raise _changed(file, index)
    texts = [name, *image_ids, *patterns, *([] if control_of is None else [control_of])]
    if not all(isinstance(text, str) and not text_refusal([text]) for text in texts):
        raise _changed(file, index)
    if not all(sim is None or type(sim) in (int, float) for sim in sims):
        raise _changed(file, index)
    fields = dict(zip(OURS, (tuple(patterns), *sims, control_of), strict=True))
    a, b = (SidecarEntry(name, side, key, fields) for side, key in zip("ab", image_ids, strict=True))
    return a, b


def _changed(file: Path, index: str) -> InputError:
    return InputError(f"{file}: pair_id, image_ids, {', '.join(OURS)} of row {index} were changed: export again")


def _asked(row: Mapping[str, Any], place: int) -> Question | str:
    """Question 0 or 1 of a row, or why it is none."""
    kind = plain_name(row["question type"]).replace(" ", "_")
    if kind not in INSTRUCTIONS:
        return f"its type {row['question type']!r} is neither yes_no nor multiple_choice"
    text, options = _parsed(row[f"question {place}"], kind)
    answers = {side: answer_of(row[f"image {image} question {place}"], options) for side, image in (("a", 0), ("b", 1))}
    return question_or_refusal(text, options, answers)


def _parsed(text: str, kind: str) -> tuple[str, tuple[str, str] | None]:
    """The question and its options; None where a question of multiple choice does not hold two."""
    text = text.removesuffix(INSTRUCTIONS[kind])
    if kind == "yes_no":
        return text, YES_NO
    match = CHOICES.fullmatch(text)
    if not match or THIRD.search(match[3]):
        return text, None
    return match[1], (match[2].strip(), match[3].strip().removesuffix(";").rstrip())


def _image(file: Path, row: Mapping[str, Any], place: int) -> Path:
    """The file of an image of a row: a path, or `{"path": ...}`, relative to the rows or to images/ beside them."""
    value = row.get(f"image {place} file name", row.get(f"image {place}"))
    value = value.get("path") if isinstance(value, dict) else value
    if not isinstance(value, str) or not value:
        raise InputError(f"{file}: Image_{place} of row {row.get('index')} is not the path of a file")
    places = (file.parent / value, file.parent / "images" / value)
    for each in places:
        with suppress(OSError):  # the name is too long, as that of an image in base64 is
            if each.is_file():
                return each
    raise InputError(f"{file}: there is no {str(places[0])[:200]}, which Image_{place} of row {row.get('index')} names")
