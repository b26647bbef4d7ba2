"""The rows of answer files that other harnesses write, whatever their names for things.

    official    question_id from 1, prompt, answer (the ground truth!), response (what the model said), model_id
    cambrian    question_id from 0, prompt, answer (what the model said!), gt_answer, text_options, model_id
    lmms-eval   *_samples_*.jsonl: input (the prompt), target, filtered_resps (what the model said, as it was scored),
                and a value per metric with the row's number from 0 (mmvp) or our pair_id and side (our own task)
    vlmevalkit  index from 0, question, A, B, answer (the ground truth), prediction; our tables also pair_id, side

They are those of tsb0601/MMVP, scripts/evaluate_mllm.py; cambrian-mllm/cambrian, eval/eval/mmvp/mmvp_eval.py;
EvolvingLMMs-Lab/lmms-eval, lmms_eval/loggers/evaluation_tracker.py; open-compass/VLMEvalKit, vlmeval/inference.py.
A row's position in its file (lmms-eval's doc_id too) is never an id.
"""

import csv
import importlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindpairs.access import reading
from blindpairs.errors import InputError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ForeignRow:
    """One answer as a harness recorded it; "" and None where it says nothing."""

    line: int
    source: str  # the id of the question, counted from 1 as in the benchmark's own table
    image_side: tuple[str, str] | None  # our pair id and side
    text: str
    truth: int | None  # the right option
    prompt: str
    options: tuple[str, ...]
    model: str


def foreign_rows(path: Path) -> tuple[str, list[ForeignRow]]:
    """(the name of the harness, its rows); InputError for a file of none, or one that is damaged."""
    kind = path.suffix.lower()
    if kind == ".xlsx":
        records = list(_excel(path))
    elif kind in (".tsv", ".csv"):
        records = list(_table(path, "\t" if kind == ".tsv" else ","))
    else:
        records = list(_json(path))
    if not records:
        raise InputError(f"{path} has no answer")
    name = _harness(records[0][1])
    if not name:
        raise InputError(
            f"{path} is not a file of answers of MMVP's script, Cambrian, lmms-eval or VLMEvalKit: its first row has "
            f"{', '.join(map(str, records[0][1]))[:120]}"
        )
    return name, [_row(path, name, line, record) for line, record in records]


def _harness(record: Record) -> str:
    if "filtered_resps" in record:
        return "lmms-eval"
    if "gt_answer" in record:
        return "cambrian"
    if "response" in record:
        return "official"
    return "vlmevalkit" if "prediction" in record else ""


def _row(path: Path, name: str, line: int, record: Record) -> ForeignRow:
    try:
        return {"official": _official, "cambrian": _cambrian, "lmms-eval": _lmms_eval, "vlmevalkit": _vlmevalkit}[name](
            line, record
        )
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}, line {line:,} is not an answer of {name} ({type(error).__name__}: {error})"
        ) from error


def _official(line: int, record: Record) -> ForeignRow:
    number, response, truth = record["question_id"], record["response"], record["answer"]
    prompt, model = _text(record.get("prompt")), _text(record.get("model_id"))
    return ForeignRow(line, _number(number, 0), _image_side(record), _text(response), _option(truth), prompt, (), model)


def _cambrian(line: int, record: Record) -> ForeignRow:
    options = tuple(map(_text, record.get("text_options") or ()))
    prompt, model = _text(record.get("prompt")), _text(record.get("model_id"))
    number, response, truth = record["question_id"], record["answer"], record["gt_answer"]
    return ForeignRow(
        line, _number(number, 1), _image_side(record), _text(response), _option(truth), prompt, options, model
    )


def _lmms_eval(line: int, record: Record) -> ForeignRow:
    response = record["filtered_resps"]
    while isinstance(response, list) and len(response) == 1:  # older versions leave a list around each answer
        response = response[0]
    values = [value for value in record.values() if isinstance(value, dict)]
    image_side = next((found for value in values if (found := _image_side(value))), None)
    numbers = {value["index"] for value in values if "pair_index" in value}
    if image_side is None and len(numbers) != 1:
        raise ValueError("it has no value of the task mmvp or of a blindpairs export, so its question has no id")
    source = "" if image_side else _number(numbers.pop(), 1)
    return ForeignRow(
        line, source, image_side, _text(response), _option(record.get("target")), _text(record.get("input")), (), ""
    )


def _vlmevalkit(line: int, record: Record) -> ForeignRow:
    options = tuple(_text(record[letter]) for letter in "AB" if _text(record.get(letter)))
    prompt, response = _text(record.get("question")), record["prediction"]
    source, image_side, truth = _number(record["index"], 1), _image_side(record), _option(record.get("answer"))
    return ForeignRow(
        line, source, image_side, _text(response), truth, prompt, options if len(options) == 2 else (), ""
    )


def _text(value: object) -> str:
    """A cell as text; a number as Excel would show it."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"a JSON {type(value).__name__} where a text should be")


def _number(value: object, add: int) -> str:
    match = re.fullmatch(r"\s*(\d{1,9})(?:\.0*)?\s*", _text(value), re.ASCII)
    if not match:
        raise ValueError(f"{value!r} is not the number of a question")
    return str(int(match[1]) + add)


def _option(value: object) -> int | None:
    letter = _text(value).strip("(). \t").casefold()
    return "ab".index(letter) if letter in ("a", "b") else None


def _image_side(record: Record) -> tuple[str, str] | None:
    pair_id, side = record.get("pair_id"), record.get("side")
    return (pair_id, side) if isinstance(pair_id, str) and isinstance(side, str) and pair_id and side else None


def _json(path: Path) -> Iterator[tuple[int, Record]]:
    """The objects of JSON lines, or of one JSON list."""
    with reading(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        lines = list(enumerate(text.split("\n"), 1))
        if text.lstrip().startswith("["):
            records = list(enumerate(json.loads(text), 1))
        else:
            records = [(number, _object(path, number, line)) for number, line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({str(error)[:80]}): was the download cut short?") from error
    for number, record in records:
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number:,} holds a JSON {type(record).__name__}, not an object")
        yield number, record


def _object(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {number:,} is damaged ({str(error)[:80]}): repair it") from error


def _table(path: Path, separator: str) -> Iterator[tuple[int, Record]]:
    with reading(path):
        content = path.read_bytes()
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator)
        for row in rows:
            if None in row or None in row.values():
                raise InputError(f"{path}, line {rows.line_num:,}: its cells are not those of the header")
            yield rows.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a table ({error}): save it as text in UTF-8") from error


def _excel(path: Path) -> Iterator[tuple[int, Record]]:
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError as error:
        raise InputError(
            f"{path} is an Excel file, and openpyxl is not installed: install it, or let VLMEvalKit write text "
            "(PRED_FORMAT=tsv), or save the file as .tsv"
        ) from error
    with reading(path), path.open("rb") as file:
        try:
            rows = (
                openpyxl.load_workbook(file, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
            )
            header = [_text(cell) for cell in next(rows, ())]
            found = [dict(zip(header, row, strict=False)) for row in rows if any(cell is not None for cell in row)]
        except Exception as error:  # what is under openpyxl (zip, XML, dates) has no common error for a damaged file
            raise InputError(f"{path} is not an Excel file ({str(error)[:80]}): open and save it again") from error
    yield from enumerate(found, 2)
