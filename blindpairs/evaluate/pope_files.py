"""The files of POPE (arXiv 2305.10355), in the layout that LLaVA asks for and in the Parquet form of lmms-lab.

    coco_pope_{random,popular,adversarial}.json  also below coco/: a line a question, question_id, image, text, label
    val2014/                                     the images of COCO that they name
    llava_pope_test.jsonl                        only to read LLaVA's answers: its own ids of the questions
    *.parquet                                    instead: question_id, question, answer, category, image

Sources: haotian-liu/LLaVA docs/Evaluation.md, scripts/v1_5/eval/pope.sh and llava/eval/eval_pope.py;
EvolvingLMMs-Lab/lmms-eval lmms_eval/tasks/pope/. Promises: what is missing is said all at once, with numbers; a
question is found by its split and id, or by its image and text, never by its line; the images of a Parquet file are not
read until they are asked about.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindpairs.access import reading
from blindpairs.errors import InputError, first_names
from blindpairs.evaluate.answers import Answer, item_key
from blindpairs.evaluate.suites import SHOWN, absent_images, read_lines

SPLITS = ("random", "popular", "adversarial")
IMAGES = "val2014"
LLAVA_QUESTIONS = "llava_pope_test.jsonl"
SUFFIX = "\nAnswer the question using a single word or phrase."
_PARQUET = ("question_id", "question", "answer")


@dataclass(frozen=True)
class PopeQuestion:
    """Whether an object is in an image."""

    split: str
    question_id: str  # unique within its split
    image: str  # as the file names it: the questions of one image are not independent
    uri: str  # where its bytes are: a path, or `file.parquet#row`
    text: str  # without the instruction to use a single word
    label: bool  # yes

    @property
    def item_id(self) -> str:
        """Unique in the suite: all splits number their questions from 1."""
        return f"{self.split}/{self.question_id}"


@dataclass(frozen=True)
class PopeCheck:
    """What a folder holds, and what it lacks; each of `missing` is a sentence."""

    questions: tuple[PopeQuestion, ...]
    missing: tuple[str, ...]


def read_pope(folder: Path) -> list[PopeQuestion]:
    """The questions in a folder; InputError that says what is missing, or wrong."""
    found = check_pope(folder)
    if found.missing:
        raise InputError(f"{folder} is not a complete POPE:\n" + "; ".join(found.missing))
    return list(found.questions)


def check_pope(folder: Path) -> PopeCheck:
    """What is there and what is missing: which files, which images, how many. InputError for a damaged file."""
    if not folder.is_dir():
        return PopeCheck((), (f"there is no folder {folder}",))
    tables = sorted(folder.rglob("*.parquet"))
    found = _of_tables(tables) if tables else _of_lines(folder)
    twice = [item_id for item_id, count in Counter(one.item_id for one in found.questions).items() if count > 1]
    if twice:
        raise InputError(
            f"{folder} has {len(twice):,} questions more than once ({first_names(twice, SHOWN)}): restore its files"
        )
    return found


def _of_lines(folder: Path) -> PopeCheck:
    questions: list[PopeQuestion] = []
    missing = []
    for split in SPLITS:
        name = f"coco_pope_{split}.json"
        path = next((place for place in (folder / name, folder / "coco" / name) if place.is_file()), None)
        if path is None:
            missing.append(f"the file {name} is missing (it comes from AoiDragon/POPE, output/coco)")
            continue
        lines = read_lines(path, ("question_id", "image", "text", "label"))
        if not lines:
            missing.append(f"the file {name} has no question")
        for line in lines:
            uri = str(folder / IMAGES / line["image"])
            label = _label(line["label"], path)
            questions.append(PopeQuestion(split, line["question_id"], line["image"], uri, _plain(line["text"]), label))
    images = {one.image: Path(one.uri) for one in questions}
    if images and not (folder / IMAGES).is_dir():
        missing.append(f"the folder {IMAGES} is missing, with {len(images):,} images of COCO val2014")
    elif absent := absent_images(images):
        missing.append(f"{len(absent):,} of {len(images):,} images are not in {IMAGES} ({first_names(absent, SHOWN)})")
    return PopeCheck(tuple(questions), tuple(missing))


def _of_tables(tables: Sequence[Path]) -> PopeCheck:
    found = [question for path in tables for question in _of_table(path)]
    missing = [
        f"there is no question of the split {split}" for split in SPLITS if split not in {q.split for q in found}
    ]
    for path in tables:
        if empty := _rows_without_image(path):
            missing.append(f"{empty:,} rows of {path.name} hold no image")
    return PopeCheck(tuple(found), tuple(missing))


def _rows_without_image(path: Path) -> int:
    """From the statistics of the file: the images themselves are a gigabyte."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    columns = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    known = [one.statistics for one in columns if one.path_in_schema == "image.bytes" and one.is_stats_set]
    return sum(one.null_count for one in known if one.has_null_count)


def _of_table(path: Path) -> list[PopeQuestion]:
    """The questions of a Parquet file, by the category of each row, else by the split that the file's name begins with.

    lmms-lab's `default` configuration has a category in each row, its `Full` one a file for each split.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path):
        try:
            names = pq.read_schema(path).names
            wanted = [name for name in (*_PARQUET, "category", "image_source") if name in names]
            rows: list[dict[str, Any]] = pq.read_table(path, columns=wanted).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path} is damaged or not a Parquet file ({str(error)[:80]}): restore it") from error
    lacking = [name for name in (*_PARQUET, "image") if name not in names]
    if lacking:
        raise InputError(f"{path} is not a table of POPE: it has no column {', '.join(lacking)}")
    named = re.match("|".join(SPLITS), path.name)
    found = []
    for place, row in enumerate(rows):
        split = str(row.get("category") or (named[0] if named else ""))
        if split not in SPLITS:
            raise InputError(f"{path}, row {place:,}: its category {split!r} is none of {', '.join(SPLITS)}")
        uri = f"{path}#{place}:image"
        text, label = _plain(str(row["question"])), _label(str(row["answer"]), path)
        image = str(row.get("image_source") or uri)
        found.append(PopeQuestion(split, str(row["question_id"]), image, uri, text, label))
    return found


def _label(text: str, path: Path) -> bool:
    label = text.strip().lower()
    if label not in ("yes", "no"):
        raise InputError(f"{path} has the label {text!r}, which is neither yes nor no: restore the file")
    return label == "yes"


def _plain(text: str) -> str:
    return text.removesuffix(SUFFIX).strip()


def pope_answers(path: Path, questions_file: Path, questions: Sequence[PopeQuestion]) -> list[Answer]:
    """The answers of a file that LLaVA's model_vqa_loader.py wrote, by our ids.

    `questions_file` is LLaVA's llava_pope_test.jsonl, which alone says what its ids mean. Its questions are matched by
    split, image and text; LLaVA's script matches the n-th answer of a split to its n-th label. InputError for an answer
    to no known question.
    """
    asked = {
        line["question_id"]: (line["category"], line["image"], _plain(line["text"]))
        for line in read_lines(questions_file, ("question_id", "category", "image", "text"))
    }
    known: defaultdict[tuple[str, str, str], list[PopeQuestion]] = defaultdict(list)
    for one in questions:
        known[one.split, one.image, one.text].append(one)
    answer_lines = [(line["question_id"], line) for line in read_lines(path, ("question_id", "text"))]
    foreign = [name for name, _ in answer_lines if name not in asked or not known[asked[name]]]
    if foreign:
        raise InputError(
            f"{path}: {len(foreign):,} answers are to no question of {questions_file.name} and the suite "
            f"({first_names(foreign, SHOWN)}): give the files that belong together"
        )
    return list(_matched(answer_lines, asked, known))


def _matched(
    answer_lines: Iterable[tuple[str, dict[str, Any]]],
    asked: dict[str, tuple[str, str, str]],
    known: dict[tuple[str, str, str], list[PopeQuestion]],
) -> Iterable[Answer]:
    """A question that a split has twice has one label, so that its answers may be taken in any order."""
    for name, line in answer_lines:
        places = known[asked[name]]
        question = places.pop(0) if len(places) > 1 else places[0]
        yield Answer(item_key(question.item_id), line["text"], model=str(line.get("model_id") or ""))
