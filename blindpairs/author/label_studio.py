"""Drafts and decisions as tasks of Label Studio, and its JSON export back.

A task holds both images as `data:` addresses, which Label Studio shows without a server for files (HumanSignal/
label-studio, issue 6086); the draft is its prediction. The labeling configuration is written beside the tasks. What
comes back is one row an annotation, checked like the row of any file (`rows.py`).

Formats: labelstud.io/guide/task_format and /guide/predictions; results of TextArea are `value.text`, of Choices
`value.choices`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from blindpairs.access import reading
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import MinedPair
from blindpairs.author.revisions import Revision
from blindpairs.author.rows import (
    BETWEEN_PATTERNS,
    TEXTS,
    WORDS,
    ImportedDecisions,
    Row,
    draft_cells,
    import_rows,
    rows_of,
)
from blindpairs.benchmark import ImageReader
from blindpairs.errors import InputError, Undecodable
from blindpairs.images import image_id
from blindpairs.images.decode import decode
from blindpairs.pages.thumbnails import make_thumbnail
from blindpairs.workspace import write_text, written_atomically

CONFIG = "labeling-config.xml"  # beside the tasks
SIDE = 896  # pixels: large enough to see what a vision encoder does not
LARGEST = 150_000  # bytes of one image: 250 MB, the largest upload, then hold 600 pairs
_BEGINNING = b'[\n{"data": {"pair_id": '  # of a file of tasks; Label Studio exports begin with an id of its own
_LOT = 20  # pairs whose images are in memory
_ANSWERS = ("answer_a", "answer_b", "second_answer_a", "second_answer_b")
_OPTIONS = ("Option 1", "Option 2")  # a configuration has the same choices for all tasks; the texts stand above them
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what no XML may hold, escaped or not
_KEPT = ("pair_id", "revision", "clip_sim", "dino_sim", "cluster", "control_of", "source")


def write_tasks(
    database: AuthoringDatabase, path: Path, images: ImageReader, patterns: Sequence[str] = (), annotator: str = ""
) -> dict[str, str]:
    """Write a task for every pair, and the labeling configuration beside them with `patterns` as its first choices.

    Returns the pairs that were left out because an image cannot be read: pair id -> why. Raises InputError where the
    file is there and is not one of tasks that nobody has worked on.
    """
    if path.is_file() and path.stat().st_size and not _tasks_alone(path):
        raise InputError(f"{path} is there and holds something else than tasks: name another file with --output")
    left_out: dict[str, str] = {}
    found: dict[str, None] = dict.fromkeys(patterns)
    rows = rows_of(database, annotator)
    with written_atomically(path) as aside, aside.open("w", encoding="utf-8") as file:
        between = "[\n"
        while lot := list(islice(rows, _LOT)):
            sources = _sources(images, [pair for pair, _, _ in lot])
            for pair, shown, cells in lot:
                pictures = [sources[key] for key in (pair.image_id_a, pair.image_id_b)]
                if failed := [one for one in pictures if isinstance(one, Undecodable)]:
                    left_out[pair.pair_id] = failed[0].message
                    continue
                found |= dict.fromkeys(shown.draft.patterns if shown else ())
                data = {name: cells[name] for name in _KEPT}
                data |= {f"image_{side}": str(one) for side, one in zip("ab", pictures, strict=True)}
                file.write(between + json.dumps({"data": data, "predictions": _predictions(shown)}))
                between = ",\n"
        file.write("]\n" if between != "[\n" else "[]\n")
    write_text(path.with_name(CONFIG), labeling_config(tuple(found)))
    return left_out


def import_tasks(database: AuthoringDatabase, path: Path, annotator: str = "") -> ImportedDecisions:
    """Keep the decisions in a JSON export of Label Studio, all or none, as `rows.import_rows` says.

    The person is the annotation's `completed_by`: its email, else `annotator`, else "label-studio-ID".
    """
    return import_rows(database, _rows(path, _exported(path), annotator), path.name, annotator)


def labeling_config(patterns: Sequence[str]) -> str:
    """The labeling configuration: two images, the texts of a draft, and the decision."""
    choices = "\n".join(_tag("Choice", value=pattern) for pattern in patterns)
    pattern = f"{_tag('Header', value='Patterns')}\n" if patterns else ""
    if patterns:
        opening = _tag("Choices", name="pattern", toName="image_a", choice="multiple", showInline="true")
        pattern += f"{opening.removesuffix('/>')}>\n{choices}\n</Choices>\n"
    pictures = "\n".join(_tag("Image", name=f"image_{side}", value=f"$image_{side}", zoom="true") for side in "ab")
    return (
        "<View>\n"
        f'<View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em">\n{pictures}\n</View>\n'
        f"{_question('', 'Question')}{pattern}"
        f"{_text_area('statement_a', 'Statement that is true of the left image alone')}"
        f"{_text_area('statement_b', 'Statement that is true of the right image alone')}"
        f"{_question('second_', 'Second question, with exchanged answers')}"
        f"{_choices('decision', 'Decision', tuple(WORDS), required='true')}{_text_area('reason', 'Reason')}"
        "</View>\n"
    )


def _question(prefix: str, title: str) -> str:
    text = "question" if not prefix else "second_question"
    options = "".join(_text_area(f"{prefix}option_{number}", f"Option {number}") for number in (1, 2))
    answers = "".join(
        _choices(f"{prefix}answer_{side}", f"Answer for the {image} image", _OPTIONS)
        for side, image in (("a", "left"), ("b", "right"))
    )
    return _text_area(text, title) + options + answers


def _text_area(name: str, title: str) -> str:
    area = _tag("TextArea", name=name, toName="image_a", maxSubmissions="1", editable="true", rows="2")
    return f"{_tag('Header', value=title, size='5')}\n{area}\n"


def _choices(name: str, title: str, values: Iterable[str], **more: str) -> str:
    opening = _tag("Choices", name=name, toName="image_a", choice="single", showInline="true", **more)
    inner = "\n".join(_tag("Choice", value=value) for value in values)
    return f"{_tag('Header', value=title, size='5')}\n{opening.removesuffix('/>')}>\n{inner}\n</Choices>\n"


def _tag(tag: str, **attributes: str) -> str:
    written = (f"{name}={quoteattr(_NO_XML.sub('?', value))}" for name, value in attributes.items())
    return f"<{tag} {' '.join(written)}/>"


def _sources(images: ImageReader, pairs: Iterable[MinedPair]) -> dict[str, str | Undecodable]:
    """Each image of the pairs as a `data:` address, or why there is none."""
    wanted = dict.fromkeys(key for pair in pairs for key in (pair.image_id_a, pair.image_id_b))
    made: dict[str, str | Undecodable] = dict.fromkeys(wanted, Undecodable("missing", "the image was not found"))
    for key, data in images(wanted):
        made[key] = data if isinstance(data, Undecodable) else _source(key, data)
    return made


def _source(key: str, data: bytes) -> str | Undecodable:
    if image_id(data) != key:
        return Undecodable("changed", "the image was changed after it was mined")
    try:
        return make_thumbnail(decode(data).pixels, SIDE, LARGEST).source
    except Undecodable as error:
        return error


def _predictions(shown: Revision | None) -> list[dict[str, Any]]:
    if shown is None:
        return []
    draft = shown.draft
    values = {name: text for name, text in draft_cells(draft).items() if name not in (*_ANSWERS, "pattern") and text}
    results = [_result(name, "textarea", {"text": [text]}) for name, text in values.items()]
    for prefix, question in (("", draft.question), ("second_", draft.second)):
        for side, answer in zip("ab", question.answers if question else (), strict=False):
            results.append(_result(f"{prefix}answer_{side}", "choices", {"choices": [_OPTIONS[answer]]}))
    if draft.patterns:
        results.append(_result("pattern", "choices", {"choices": list(draft.patterns)}))
    return [{"model_version": shown.source, "result": results}]


def _result(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": "image_a", "type": kind, "value": value}


def _tasks_alone(path: Path) -> bool:
    """Whether a file begins as `write_tasks` writes it, and not as Label Studio exports it, with annotations."""
    with reading(path), path.open("rb") as file:
        return file.read(len(_BEGINNING)) in (_BEGINNING, b"[]\n")


def _exported(path: Path) -> list[Any]:
    with reading(path):
        content = path.read_bytes()
    try:
        tasks = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is no JSON ({str(error)[:80]}): export it from Label Studio again") from error
    if not isinstance(tasks, list):
        raise InputError(f"{path.name} is no export of Label Studio: it holds a {type(tasks).__name__}, not tasks")
    return tasks


def _rows(path: Path, tasks: Iterable[Any], annotator: str) -> Iterator[Row]:
    """One row an annotation. A task without any has nothing to say."""
    for position, task in enumerate(tasks, 1):
        place = f"task {position}"
        try:
            data, annotations = task["data"], task["annotations"]
            shown = {name: str(data[name]) for name in ("pair_id", "revision")}
            for annotation in annotations:
                person = _person(annotation["completed_by"], annotator)
                results = [] if annotation.get("was_cancelled") else annotation["result"]  # cancelled: it was skipped
                yield Row(f"{place}, annotation of {person}", shown | {"annotator": person} | _cells(results))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"{path.name}, {place}: this is no task that blindpairs wrote ({error!r}): export the project of its "
                "tasks as JSON, not as JSON-MIN or CSV"
            ) from error


def _person(completed_by: Any, annotator: str) -> str:
    """A number without an email says nothing outside of that one Label Studio."""
    known = completed_by if isinstance(completed_by, dict) else {"id": completed_by}
    number = known.get("id")
    return str(known.get("email") or annotator or ("" if number is None else f"label-studio-{number}"))


def _cells(results: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    cells = dict.fromkeys((*TEXTS, "decision", "reason"), "")
    for result in results:
        value, name = result["value"], result["from_name"]
        if name not in cells:  # the project may ask more than blindpairs does
            continue
        chosen = value["text"] if result["type"] == "textarea" else value["choices"]
        texts = [chosen] if isinstance(chosen, str) else [str(one) for one in chosen]
        cells[name] = (BETWEEN_PATTERNS if name == "pattern" else "\n").join(texts)
    for name in _ANSWERS:
        if cells[name]:
            prefix = name.removesuffix("answer_a").removesuffix("answer_b")
            cells[name] = cells[f"{prefix}option_{_OPTIONS.index(cells[name]) + 1}"]
    return cells
