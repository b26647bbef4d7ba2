"""POPE: the figures of LLaVA's and lmms-eval's own code, the readings that differ, and what the checker says."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answering_model import AnsweringModel
from pictured_pairs import picture
from suite_outputs import LLAVA_POPE, LMMS_EVAL_POPE, POPE_ANSWERS

from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import Answer, AnswerFile, item_key, read_answers
from blindpairs.evaluate.pope import (
    FIGURES,
    PopeFigures,
    ask_pope,
    read_llava,
    read_lmms_eval,
    read_yes_or_no,
    score_pope,
)
from blindpairs.evaluate.pope_files import SPLITS, SUFFIX, PopeQuestion, check_pope, pope_answers, read_pope
from blindpairs.vlm import Ask, open_cache


def lines_of(split: str) -> list[dict[str, object]]:
    """The questions that suite_outputs.py was recorded with."""
    return [
        {
            "question_id": number + 1,
            "image": f"scene-{number // 2}.jpg",
            "text": f"Is there a {('cat', 'dog')[number % 2]} in the image?",
            "label": "no" if (number // 2 + number) % 3 == 0 else "yes",
        }
        for number in range(12)
    ]


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def pope_folder(folder: Path) -> Path:
    for split in SPLITS:
        write(folder / "coco" / f"coco_pope_{split}.json", lines_of(split))
    (folder / "val2014").mkdir()
    for number in range(6):
        (folder / "val2014" / f"scene-{number}.jpg").write_bytes(picture(number))
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> list[PopeQuestion]:
    return read_pope(pope_folder(tmp_path / "pope"))


def answers_of(questions: list[PopeQuestion], texts: tuple[str, ...] = POPE_ANSWERS) -> list[Answer]:
    return [Answer(item_key(one.item_id), text) for one, text in zip(questions, texts, strict=True)]


def shares(figures: PopeFigures) -> tuple[float, ...]:
    return tuple(getattr(figures, name).share for name in FIGURES)


def test_figures_are_those_that_llavas_script_prints(questions: list[PopeQuestion]) -> None:
    scores = score_pope(questions, answers_of(questions), "llava")
    assert {split: shares(one) for split, one in scores.splits.items()} == LLAVA_POPE
    mean = tuple(sum(column) / 3 for column in zip(*LLAVA_POPE.values(), strict=True))
    assert shares(scores.mean) == pytest.approx(mean, rel=1e-15)
    assert (scores.mean.questions, scores.mean.unreadable, scores.notes) == (36, 0, ())


def test_figures_are_those_of_lmms_eval_and_its_yes_ratio_is_named(questions: list[PopeQuestion]) -> None:
    scores = score_pope(questions, answers_of(questions), "lmms-eval")
    theirs = {split: shares(one) for split, one in {**scores.splits, "all": scores.pooled}.items()}
    assert theirs == LMMS_EVAL_POPE
    assert scores.notes == (
        "lmms-eval's pope_yes_ratio counts the labels that are yes: this model says yes to 22.2%.",
        "21 answers are neither yes nor no alone: wrong, and left out of recall.",
    )


def test_own_rule_counts_unreadable_answers_apart_as_wrong(questions: list[PopeQuestion]) -> None:
    texts = tuple("Yes." if one.label else "Certainly" for one in questions)
    scores = score_pope(questions, answers_of(questions, texts), "ours")
    assert [one.unreadable for one in scores.splits.values()] == [6, 6, 6]
    assert shares(scores.mean) == (0.5, 1.0, 1.0, 1.0, 0.5)
    texts = tuple("Certainly" if one.label else "No." for one in questions)
    accuracy, precision, *rest = shares(score_pope(questions, answers_of(questions, texts), "ours").mean)
    assert (accuracy, math.isnan(precision), *rest) == (0.5, True, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval", "ours"),
    [
        ("Yes", True, True, True),
        ("No.", False, None, False),
        ("No, there is nothing.", False, None, False),
        ("There is no cat.", False, None, False),
        ("", True, None, None),
        ("NO", True, False, False),  # LLaVA knows No and no alone
        ("no\nIt is a dog", True, None, False),  # it splits at spaces alone
        ("Sorry. No", True, None, False),  # it keeps the first sentence alone
        ("It is not there", False, None, None),
        ("Yes, there is no doubt", False, None, True),
        ("yes and no", False, None, None),
        ("nothing", True, None, None),
        ("<think>no, no</think>Yes", True, None, True),
        ("I know it: yes-ish no", False, None, None),
        ("**Yes**", True, None, True),
    ],
)
def test_three_rules_read_an_answer(text: str, llava: bool, lmms_eval: bool | None, ours: bool | None) -> None:
    assert (read_llava(text), read_lmms_eval(text), read_yes_or_no(text)) == (llava, lmms_eval, ours)


def test_order_changes_nothing_and_a_missing_answer_is_an_error(questions: list[PopeQuestion]) -> None:
    answers = answers_of(questions)
    other = Answer(("0" * 16, "a", "first"), "Yes")
    assert score_pope(questions, [other, *answers[::-1]]) == score_pope(questions, answers)
    with pytest.raises(InputError, match=r"^2 of 36 answers to POPE are missing \(random/1, random/2\)"):
        score_pope(questions, answers[2:])
    with pytest.raises(ConfigError, match="no rule 'strict' for POPE: choose one of ours, llava, lmms-eval"):
        score_pope(questions, answers, "strict")  # type: ignore[arg-type]


def test_few_images_give_intervals_of_accuracy_alone_and_many_give_all(questions: list[PopeQuestion]) -> None:
    few = score_pope(questions, answers_of(questions)).splits["random"]
    assert (few.f1.interval, few.precision.interval) == (None, None)
    assert few.accuracy.interval == pytest.approx((0.0968, 0.7000), abs=1e-4)  # 1/3 of six images
    spread = [
        replace(one, image=f"{n}/{one.item_id}", question_id=f"{n}/{one.question_id}")
        for n in range(5)
        for one in questions[:30]
    ]
    many = score_pope(spread, answers_of(spread, POPE_ANSWERS[:30] * 5)).mean
    intervals = [getattr(many, name).interval for name in FIGURES]
    assert all(low < share < high for share, (low, high) in zip(shares(many), intervals, strict=True))


def llava_files(folder: Path) -> tuple[Path, Path]:
    """What LLaVA writes: its own numbers of the questions, and answers to these."""
    asked: list[dict[str, object]] = [
        {**line, "text": f"{line['text']}{SUFFIX}", "category": split} for split in SPLITS for line in lines_of(split)
    ]
    for number, line in enumerate(asked):
        line["question_id"] = number
    said: list[dict[str, object]] = [
        {"question_id": number, "text": text, "model_id": "llava-v1.5-13b"} for number, text in enumerate(POPE_ANSWERS)
    ]
    return write(folder / "llava_pope_test.jsonl", asked), write(folder / "answers.jsonl", said[::-1])


def test_answers_of_llava_are_found_by_image_and_text_in_any_order(
    questions: list[PopeQuestion], tmp_path: Path
) -> None:
    asked, said = llava_files(tmp_path)
    answers = pope_answers(said, asked, questions)
    assert score_pope(questions, answers).splits == score_pope(questions, answers_of(questions)).splits
    assert {answer.model for answer in answers} == {"llava-v1.5-13b"}
    with pytest.raises(InputError, match=r"12 answers are to no question of llava_pope_test\.jsonl and the suite"):
        pope_answers(said, asked, [one for one in questions if one.split != "random"])


def test_checker_says_which_files_and_how_many_images_are_missing(tmp_path: Path) -> None:
    folder = pope_folder(tmp_path / "pope")
    assert check_pope(folder).missing == ()
    (folder / "coco" / "coco_pope_popular.json").unlink()
    for number in range(4):
        (folder / "val2014" / f"scene-{number}.jpg").unlink()
    assert check_pope(folder).missing == (
        "the file coco_pope_popular.json is missing (it comes from AoiDragon/POPE, output/coco)",
        "4 of 6 images are not in val2014 (scene-0.jpg, scene-1.jpg, scene-2.jpg and 1 more)",
    )
    assert len(check_pope(folder).questions) == 24
    for path in (folder / "val2014").iterdir():
        path.unlink()
    (folder / "val2014").rmdir()
    with pytest.raises(InputError, match="the folder val2014 is missing, with 6 images of COCO val2014"):
        read_pope(folder)
    assert check_pope(tmp_path / "none").missing == (f"there is no folder {tmp_path / 'none'}",)


def test_split_without_a_question_is_missing_and_never_scored(tmp_path: Path) -> None:
    folder = pope_folder(tmp_path / "pope")
    (folder / "coco" / "coco_pope_random.json").write_text("\n")
    with pytest.raises(InputError, match=r"the file coco_pope_random\.json has no question"):
        read_pope(folder)


def test_a_wrong_label_and_a_doubled_question_are_errors(tmp_path: Path) -> None:
    folder = pope_folder(tmp_path / "pope")
    lines = lines_of("random")
    write(folder / "coco" / "coco_pope_random.json", [*lines, lines[0]])
    with pytest.raises(InputError, match=r"has 1 questions more than once \(random/1\)"):
        check_pope(folder)
    write(folder / "coco" / "coco_pope_random.json", [{**lines[0], "label": "maybe"}])
    with pytest.raises(InputError, match="the label 'maybe', which is neither yes nor no"):
        check_pope(folder)


def table(path: Path, category: bool, images: int = 12) -> None:
    rows = [
        {
            "question_id": str(line["question_id"]),
            "question": line["text"],
            "answer": line["label"],
            "image_source": str(line["image"]).removesuffix(".jpg"),
            "image": {
                "bytes": picture(int(str(line["question_id"]))) if int(str(line["question_id"])) <= images else None,
                "path": str(line["image"]),
            },
            **({"category": split} if category else {}),
        }
        for split in (SPLITS if category else [path.name.split("-")[0]])
        for line in lines_of(split)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_parquet_form_gives_the_same_questions_by_category_and_by_file(
    questions: list[PopeQuestion], tmp_path: Path
) -> None:
    table(tmp_path / "default" / "data" / "test-00000-of-00001.parquet", category=True)
    for split in SPLITS:
        table(tmp_path / "full" / "Full" / f"{split}-00000-of-00001.parquet", category=False)
    ours = {(one.item_id, one.text, one.label, one.image.removesuffix(".jpg")) for one in questions}
    for form in ("default", "full"):
        found = read_pope(tmp_path / form)
        assert {(one.item_id, one.text, one.label, one.image) for one in found} == ours


def test_parquet_of_something_else_and_a_split_that_is_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"question": ["?"], "category": ["random"]}), tmp_path / "other" / "a.parquet")
    with pytest.raises(InputError, match="is not a table of POPE: it has no column question_id, answer, image"):
        check_pope(tmp_path / "other")
    table(tmp_path / "one" / "random-0.parquet", category=False)
    assert check_pope(tmp_path / "one").missing == (
        "there is no question of the split popular",
        "there is no question of the split adversarial",
    )


def test_rows_of_a_parquet_file_without_an_image_are_counted_by_the_checker(tmp_path: Path) -> None:
    table(tmp_path / "test.parquet", category=True, images=10)
    assert check_pope(tmp_path).missing == ("6 rows of test.parquet hold no image",)


@pytest.mark.parametrize("form", ["llava", "parquet"])
def test_asking_shows_each_image_with_llavas_prompt_and_scores_what_comes_back(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "pope"
    if form == "parquet":
        table(folder / "test.parquet", category=True)
    else:
        pope_folder(folder)
    questions = read_pope(folder)

    def by_its_own_image(ask: Ask) -> str:
        number = next(n for n in range(13) if picture(n) == ask.pictures[0].data)
        return f"Yes, image {number}."

    model = AnsweringModel(by_its_own_image)
    with AnswerFile(tmp_path / "results" / "answers.jsonl") as file, open_cache(None) as cache:
        assert ask_pope(questions, model, file, Conditions(cache)) == []
    # Splits ask about the same images in the same words: equal asks reach the model once.
    assert len(model.asked) == 12
    assert model.asked[0].texts == ["Is there a cat in the image?\nAnswer the question using a single word or phrase."]
    assert {one.max_tokens for one in model.asked} == {128}
    answers = list(read_answers(tmp_path / "results" / "answers.jsonl"))
    said = {answer.key[0]: answer.text for answer in answers}
    shown = [int(one.question_id) if form == "parquet" else (int(one.question_id) - 1) // 2 for one in questions]
    assert [said[one.item_id] for one in questions] == [f"Yes, image {number}." for number in shown]
    assert shares(score_pope(questions, answers).mean) == pytest.approx((0.5, 0.5, 1.0, 2 / 3, 1.0))
