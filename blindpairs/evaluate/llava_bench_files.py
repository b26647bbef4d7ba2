"""The files of LLaVA-Bench: COCO (30 images, 90 questions) and in the wild (24 images, 60 questions).

    questions.jsonl     or qa90_questions.jsonl: question_id, image, text, category (conv, detail or complex)
    context.jsonl       or caps_boxes_coco2014_val_80.jsonl: what the judge is told about each image
    answers_gpt4.jsonl  or qa90_gpt4_answer.jsonl: question_id, text; the answer to compare with
    images/             or val2014/: the images

A context with `captions` and `instances` (boxes) is of the COCO variant, one with `caption` of the other. Sources:
haotian-liu/LLaVA, scripts/v1_5/eval/llavabench.sh, playground/data/coco2014_val_qa_eval/ and llava/eval/table/.

Promises: what is missing is said all at once, with numbers; answers are found by the id of their question, contexts by
their image, never by their line, as LLaVA's own scripts do.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blindpairs.errors import InputError, first_names
from blindpairs.evaluate.answers import Answer, item_key
from blindpairs.evaluate.suites import SHOWN, absent_images, read_lines

Variant = Literal["coco", "wild"]
CATEGORIES = ("conv", "detail", "complex")
_QUESTIONS = ("questions.jsonl", "qa90_questions.jsonl")
_CONTEXTS = ("context.jsonl", "caps_boxes_coco2014_val_80.jsonl")
_REFERENCES = ("answers_gpt4.jsonl", "qa90_gpt4_answer.jsonl")
_IMAGES = ("images", "val2014")


@dataclass(frozen=True)
class BenchQuestion:
    """A question about an image, with what the judge gets beside the model's answer."""

    item_id: str  # the id in the file
    image: str
    uri: str
    text: str
    category: str
    context: str  # of the image, as the judge reads it
    reference: str  # the answer to compare with, by a GPT-4 that read the context
    variant: Variant


@dataclass(frozen=True)
class BenchCheck:
    """What a folder holds, and what it lacks; each of `missing` is a sentence."""

    questions: tuple[BenchQuestion, ...]
    missing: tuple[str, ...]


def read_llava_bench(folder: Path) -> list[BenchQuestion]:
    """The questions in a folder; InputError that says what is missing, or wrong."""
    found = check_llava_bench(folder)
    if found.missing:
        raise InputError(f"{folder} is not a complete LLaVA-Bench:\n" + "; ".join(found.missing))
    return list(found.questions)


def llava_bench_answers(path: Path) -> list[Answer]:
    """The answers of a file that LLaVA's model_vqa.py wrote."""
    lines = read_lines(path, ("question_id", "text"))
    return _recorded(lines, path, "text", "model_id")


def llava_bench_reviews(path: Path) -> list[Answer]:
    """The reviews of a file that LLaVA's eval_gpt_review_bench.py wrote, which does not say who the judge was."""
    lines = read_lines(path, ("question_id", "content"))
    return _recorded(lines, path, "content", "judge")


def _recorded(lines: Sequence[dict[str, Any]], path: Path, text: str, model: str) -> list[Answer]:
    by_id = _by_id(lines, path)
    return [Answer(item_key(name), line[text], model=str(line.get(model) or "")) for name, line in by_id.items()]


def check_llava_bench(folder: Path) -> BenchCheck:
    """What is there and what is missing: which files, images, contexts and answers. InputError for a damaged file."""
    if not folder.is_dir():
        return BenchCheck((), (f"there is no folder {folder}",))
    places = {names[0]: _first(folder, names) for names in (_QUESTIONS, _CONTEXTS, _REFERENCES, _IMAGES)}
    files = {name: path for name, path in places.items() if path is not None}
    missing = [f"{name} is missing" for name in places if name not in files]
    asked = _lines(files.get(_QUESTIONS[0]), ("question_id", "image", "text", "category"))
    contexts = {line["image"]: line for line in _lines(files.get(_CONTEXTS[0]), ("image",))}
    references = _by_id(_lines(files.get(_REFERENCES[0]), ("question_id", "text")), files.get(_REFERENCES[0]))
    _by_id(asked, files.get(_QUESTIONS[0]))
    images = files.get(_IMAGES[0], folder / _IMAGES[0])
    _refuse_unknown(asked, files.get(_QUESTIONS[0]))
    shown = {line["image"]: _image(images, line["image"]) for line in asked}
    if _IMAGES[0] in files:
        missing += _lacking("images", list(shown), absent_images(shown))
    if _CONTEXTS[0] in files:
        missing += _lacking("contexts of images", list(shown), [name for name in shown if name not in contexts])
    if _REFERENCES[0] in files:
        ids = [line["question_id"] for line in asked]
        missing += _lacking("answers to compare with", ids, [one for one in ids if one not in references])
    if missing:
        return BenchCheck((), tuple(missing))
    questions = [_question(line, shown, contexts[line["image"]], references[line["question_id"]]) for line in asked]
    return BenchCheck(tuple(questions), ())


def _image(folder: Path, name: str) -> Path:
    """LLaVA names the images of COCO without the prefix that their own archive gives them."""
    prefixed = folder / f"COCO_val2014_{name}"
    return prefixed if prefixed.is_file() else folder / name


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _lines(path: Path | None, texts: Sequence[str]) -> list[dict[str, Any]]:
    return read_lines(path, texts) if path else []


def _by_id(lines: Sequence[dict[str, Any]], path: Path | None) -> dict[str, dict[str, Any]]:
    counts = Counter(line["question_id"] for line in lines)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise InputError(
            f"{path} has {len(twice):,} question ids more than once ({first_names(twice, SHOWN)}): restore the file"
        )
    return {line["question_id"]: line for line in lines}


def _refuse_unknown(asked: Sequence[dict[str, Any]], path: Path | None) -> None:
    unknown = sorted({line["category"] for line in asked} - set(CATEGORIES))
    if unknown:
        raise InputError(
            f"{path} has the category {unknown[0]!r}: LLaVA-Bench has rules for {', '.join(CATEGORIES)} alone"
        )


def _lacking(what: str, wanted: Sequence[str], absent: Sequence[str]) -> list[str]:
    return [f"{len(absent):,} of {len(wanted):,} {what} are missing ({first_names(absent, SHOWN)})"] if absent else []


def _question(
    line: Mapping[str, Any], shown: Mapping[str, Path], context: Mapping[str, Any], reference: Mapping[str, Any]
) -> BenchQuestion:
    variant: Variant = "coco" if "instances" in context else "wild"
    return BenchQuestion(
        item_id=line["question_id"],
        image=line["image"],
        uri=str(shown[line["image"]]),
        text=line["text"],
        category=line["category"],
        context=_as_text(context, variant),
        reference=reference["text"],
        variant=variant,
    )


def _as_text(context: Mapping[str, Any], variant: Variant) -> str:
    """The captions, and for COCO the boxes below them, as eval_gpt_review_visual.py writes both."""
    if variant == "coco":
        boxes = [f"{one['category']}: {one['bbox']}" for one in context["instances"]]
        return "\n".join(context["captions"]) + "\n\n" + "\n".join(boxes)
    caption = context["caption"]
    return "\n".join(caption) if isinstance(caption, list) else str(caption)
