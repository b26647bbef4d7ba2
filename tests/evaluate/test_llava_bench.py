"""LLaVA-Bench: the judge's prompt byte for byte, the figures of both harnesses, and failed reviews apart."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from answering_model import AnsweringModel
from pictured_pairs import picture
from suite_outputs import (
    COCO_PROMPT,
    LLAVA_SUMMARY,
    LLAVA_TUPLES,
    LMMS_EVAL_SUMMARY,
    LMMS_EVAL_TUPLES,
    REPLIES,
    WILD_PROMPT,
)

from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import Answer, AnswerFile, item_key, read_answers
from blindpairs.evaluate.llava_bench import (
    BenchFigures,
    ask_llava_bench,
    judge_llava_bench,
    judge_prompt,
    read_llava_scores,
    read_lmms_eval_scores,
    read_scores,
    score_llava_bench,
)
from blindpairs.evaluate.llava_bench_files import (
    CATEGORIES,
    BenchQuestion,
    check_llava_bench,
    llava_bench_answers,
    llava_bench_reviews,
    read_llava_bench,
)
from blindpairs.vlm import Ask, open_cache


def write(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def bench_folder(folder: Path) -> Path:
    """The folder that suite_outputs.py was recorded with, its lines in another order."""
    (folder / "images").mkdir(parents=True)
    questions: list[dict[str, object]] = [
        {
            "question_id": number,
            "image": f"{number // 3:03d}.jpg",
            "category": CATEGORIES[number % 3],
            "text": f"What is shown in {number}?",
        }
        for number in range(15)
    ]
    contexts: list[dict[str, object]] = []
    for image in range(5):
        (folder / "images" / f"{image:03d}.jpg").write_bytes(picture(image))
        caption = f"A scene {image}." if image % 2 else [f"A scene {image}.", "It has a cat."]
        contexts.append({"id": f"{image:03d}", "image": f"{image:03d}.jpg", "caption": caption})
    write(folder / "questions.jsonl", questions)
    write(folder / "context.jsonl", contexts[::-1])
    references: list[dict[str, object]] = [{"question_id": n, "text": f"Scene {n}."} for n in range(15)]
    write(folder / "answers_gpt4.jsonl", references[::-1])
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> list[BenchQuestion]:
    return read_llava_bench(bench_folder(tmp_path / "bench"))


def answers_of(questions: list[BenchQuestion]) -> list[Answer]:
    return [Answer(item_key(one.item_id), f"I see scene {one.item_id}.") for one in questions]


def reviews_of(questions: list[BenchQuestion], replies: tuple[str, ...] = REPLIES) -> list[Answer]:
    return [
        Answer(item_key(one.item_id), reply, model="gpt-4-0314") for one, reply in zip(questions, replies, strict=True)
    ]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_prompt_in_the_wild_is_that_of_llavas_script(questions: list[BenchQuestion]) -> None:
    assert sha(judge_prompt(questions[0], "I see scene 0.")) == WILD_PROMPT


def test_prompt_of_coco_is_that_of_llavas_script(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_1.jpg").write_bytes(picture(1))
    boxes = [
        {"category": "donut", "bbox": [0.37, 0.584, 0.504, 0.709]},
        {"category": "cup", "bbox": [0.1, 0.2, 0.3, 0.44]},
    ]
    context: dict[str, object] = {"image": "1.jpg", "captions": ["A donut shop.", "A rack."], "instances": boxes}
    asked: dict[str, object] = {"question_id": 0, "image": "1.jpg", "text": "What?", "category": "detail"}
    write(tmp_path / "caps_boxes_coco2014_val_80.jsonl", [context])
    write(tmp_path / "qa90_questions.jsonl", [asked])
    write(tmp_path / "qa90_gpt4_answer.jsonl", [{"question_id": 0, "text": "One."}])
    (question,) = read_llava_bench(tmp_path)
    assert sha(judge_prompt(question, "One.")) == COCO_PROMPT
    assert Path(question.uri).read_bytes() == picture(1)


def summary(figures: BenchFigures) -> tuple[float, float, float]:
    """As summarize_gpt_review.py prints it."""
    return figures.relative, round(round(figures.reference, 3) * 10, 1), round(round(figures.model, 3) * 10, 1)


def test_figures_are_those_that_llavas_script_prints(questions: list[BenchQuestion]) -> None:
    assert tuple(read_llava_scores(reply) for reply in REPLIES) == LLAVA_TUPLES
    scores = score_llava_bench(questions, answers_of(questions), reviews_of(questions), "llava")
    assert {name: summary(one) for name, one in {"all": scores.all, **scores.categories}.items()} == LLAVA_SUMMARY
    assert scores.notes == ("llava averages 9 of 15 reviews without scores in, as -1 and -1.",)


def test_files_that_llavas_scripts_wrote_give_the_same_figures(questions: list[BenchQuestion], tmp_path: Path) -> None:
    said: list[dict[str, object]] = [
        {"question_id": n, "prompt": "?", "text": f"I see scene {n}.", "answer_id": "a", "model_id": "llava-v1.5-13b"}
        for n in range(15)
    ]
    reviewed: list[dict[str, object]] = [
        {"id": n + 1, "question_id": n, "category": "llava_bench_conv", "content": reply, "tuple": [-1, -1]}
        for n, reply in enumerate(REPLIES)
    ]
    write(tmp_path / "answers.jsonl", said)
    write(tmp_path / "reviews.jsonl", reviewed[::-1])
    answers, reviews = llava_bench_answers(tmp_path / "answers.jsonl"), llava_bench_reviews(tmp_path / "reviews.jsonl")
    assert {(one.text, one.model) for one in answers} == {(f"I see scene {n}.", "llava-v1.5-13b") for n in range(15)}
    scores = score_llava_bench(questions, answers, reviews, "llava")
    assert {name: summary(one) for name, one in {"all": scores.all, **scores.categories}.items()} == LLAVA_SUMMARY
    write(tmp_path / "reviews.jsonl", [reviewed[0], reviewed[0]])
    with pytest.raises(InputError, match=r"has 1 question ids more than once \(0\)"):
        llava_bench_reviews(tmp_path / "reviews.jsonl")


def test_figures_are_those_of_lmms_eval(questions: list[BenchQuestion]) -> None:
    assert tuple(read_lmms_eval_scores(reply) for reply in REPLIES) == LMMS_EVAL_TUPLES
    scores = score_llava_bench(questions, answers_of(questions), reviews_of(questions), "lmms-eval")
    assert {name: one.relative for name, one in {"all": scores.all, **scores.categories}.items()} == LMMS_EVAL_SUMMARY


def test_own_rule_leaves_failed_reviews_out_and_counts_them(questions: list[BenchQuestion]) -> None:
    scores = score_llava_bench(questions, answers_of(questions), reviews_of(questions))
    kept = [(8, 7), (9, 6), (7, 7), (8, 7), (8, 7), (8.5, 6.5), (9, 4), (10, 2), (6, 9), (7, 5)]
    reference, model = (sum(column) / 10 for column in zip(*kept, strict=True))
    assert (scores.all.reference, scores.all.model) == pytest.approx((reference, model))
    assert scores.all.relative == pytest.approx(model / reference * 100)
    assert (scores.all.reviews, scores.all.failed, scores.all.interval) == (15, 5, None)
    assert {name: one.failed for name, one in scores.categories.items()} == {"conv": 1, "detail": 3, "complex": 1}
    assert (scores.judges, scores.notes) == (
        ("gpt-4-0314",),
        ("5 of 15 reviews give no two scores; they are left out.",),
    )


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8 7", (8.0, 7.0)),
        ("8, 7\nBecause", (8.0, 7.0)),
        ("(8; 7.5)", (8.0, 7.5)),
        ("\n\n**8 10**\n9 9", (8.0, 10.0)),
        ("8", None),
        ("8 7 6", None),
        ("0 7", None),
        ("8 11", None),
        ("-8 7", None),
        ("Assistant 1: 8 Assistant 2: 7", None),
        ("8.7", None),
        ("8-7", None),
        ("", None),
    ],
)
def test_own_rule_reads_two_numbers_alone(reply: str, scores: tuple[float, float] | None) -> None:
    assert read_scores(reply) == scores


def test_many_images_give_an_interval_around_the_relative_score(questions: list[BenchQuestion]) -> None:
    many = [replace(one, item_id=f"{n}-{one.item_id}", image=f"{n}-{one.image}") for n in range(5) for one in questions]
    scores = score_llava_bench(many, answers_of(many), reviews_of(many, REPLIES * 5))
    assert scores.all.interval is not None
    low, high = scores.all.interval
    assert low < scores.all.relative < high


def test_answers_are_asked_judged_and_scored_from_the_files_alone(
    questions: list[BenchQuestion], tmp_path: Path
) -> None:
    model = AnsweringModel(lambda ask: f"Answer to {ask.texts[0]}")
    judge = AnsweringModel(lambda ask: "10 5\nx" if "Answer to" in ask.texts[0] else None)
    judge.name = "a-judge"
    answers, reviews = tmp_path / "answers.jsonl", tmp_path / "reviews-a-judge.jsonl"
    with open_cache(None) as cache:
        with AnswerFile(answers) as file:
            assert ask_llava_bench(questions, model, file, Conditions(cache)) == []
        said = list(read_answers(answers))
        with AnswerFile(reviews) as file:
            assert judge_llava_bench(questions, said, judge, file, Conditions(cache)) == []
    assert {(one.max_tokens, one.temperature, len(one.pictures)) for one in model.asked} == {(1024, 0.0, 1)}
    assert {(one.max_tokens, one.temperature, len(one.pictures)) for one in judge.asked} == {(1024, 0.2, 0)}
    system = "You are a helpful and precise assistant for checking the quality of the answer."
    assert {one.system for one in judge.asked} == {system}
    scores = score_llava_bench(questions, said, list(read_answers(reviews)))
    assert (scores.all.relative, scores.all.failed, scores.judges) == (50.0, 0, ("a-judge",))


def test_a_review_of_another_answer_is_refused(questions: list[BenchQuestion], tmp_path: Path) -> None:
    answers = answers_of(questions)
    judge = AnsweringModel(lambda _: "10 5")
    with AnswerFile(tmp_path / "reviews.jsonl") as file, open_cache(None) as cache:
        judge_llava_bench(questions, answers, judge, file, Conditions(cache))
    reviews = list(read_answers(tmp_path / "reviews.jsonl"))
    others = [replace(answers[0], text="I changed my mind."), *answers[1:]]
    with pytest.raises(InputError, match=r"1 reviews are of other answers or contexts than these \(0\)"):
        score_llava_bench(questions, others, reviews)


def test_missing_reviews_and_answers_and_unknown_rules_are_errors(questions: list[BenchQuestion]) -> None:
    answers, reviews = answers_of(questions), reviews_of(questions)
    with pytest.raises(InputError, match=r"1 of 15 reviews of LLaVA-Bench are missing \(0\)"):
        score_llava_bench(questions, answers, reviews[1:])
    with pytest.raises(InputError, match=r"1 of 15 answers to LLaVA-Bench are missing \(0\)"):
        score_llava_bench(questions, answers[1:], reviews)
    with pytest.raises(ConfigError, match="no rule 'gpt' for LLaVA-Bench: choose one of ours, llava, lmms-eval"):
        score_llava_bench(questions, answers, reviews, "gpt")  # type: ignore[arg-type]


def test_checker_says_what_is_missing(tmp_path: Path) -> None:
    folder = bench_folder(tmp_path / "bench")
    (folder / "images" / "003.jpg").unlink()
    write(folder / "context.jsonl", [{"image": "000.jpg", "caption": "x"}])
    write(folder / "answers_gpt4.jsonl", [{"question_id": 3, "text": "x"}])
    assert check_llava_bench(folder).missing == (
        "1 of 5 images are missing (003.jpg)",
        "4 of 5 contexts of images are missing (001.jpg, 002.jpg, 003.jpg and 1 more)",
        "14 of 15 answers to compare with are missing (0, 1, 2 and 11 more)",
    )
    (folder / "context.jsonl").unlink()
    (folder / "questions.jsonl").unlink()
    assert check_llava_bench(folder).missing == ("questions.jsonl is missing", "context.jsonl is missing")
    assert check_llava_bench(tmp_path / "none").missing == (f"there is no folder {tmp_path / 'none'}",)


def test_a_doubled_question_and_an_unknown_category_are_errors(tmp_path: Path) -> None:
    folder = bench_folder(tmp_path / "bench")
    asked: dict[str, object] = {"question_id": 1, "image": "000.jpg", "text": "?", "category": "conv"}
    write(folder / "questions.jsonl", [asked, asked])
    with pytest.raises(InputError, match=r"has 1 question ids more than once \(1\)"):
        check_llava_bench(folder)
    write(folder / "questions.jsonl", [{**asked, "category": "math"}])
    with pytest.raises(InputError, match="has the category 'math'"):
        check_llava_bench(folder)


def test_asks_carry_the_image_of_their_question(questions: list[BenchQuestion], tmp_path: Path) -> None:
    def image_of(ask: Ask) -> str:
        return str(next(number for number in range(5) if picture(number) == ask.pictures[0].data))

    with AnswerFile(tmp_path / "answers.jsonl") as file, open_cache(None) as cache:
        ask_llava_bench(questions, AnsweringModel(image_of), file, Conditions(cache))
    said = {answer.key[0]: answer.text for answer in read_answers(tmp_path / "answers.jsonl")}
    assert said == {str(number): str(number // 3) for number in range(15)}
