"""POPE and LLaVA-Bench of the demo's scenes: balanced, by the corpus's statistics, and scored end to end."""

import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from answering_model import AnsweringModel
from PIL import Image

from blindpairs.demo.corpus import read_images
from blindpairs.demo.small_suites import RuleJudge, demo_llava_bench, demo_pope, described
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import CATEGORIES, nouns
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import Answer, AnswerFile, item_key, read_answers
from blindpairs.evaluate.llava_bench import ask_llava_bench, judge_llava_bench, score_llava_bench
from blindpairs.evaluate.pope import FIGURES, ask_pope, score_pope
from blindpairs.evaluate.pope_files import SPLITS, PopeQuestion
from blindpairs.images import image_id
from blindpairs.vlm import open_cache
from blindpairs.workspace import demo_folder

ARTICLES = {nouns(category)["a_category"]: category for category in CATEGORIES}


@pytest.fixture(scope="module")
def pope(tmp_path_factory: pytest.TempPathFactory) -> list[PopeQuestion]:
    return demo_pope(tmp_path_factory.mktemp("pope"), images=20)


def asked_about(question: PopeQuestion) -> str:
    match = re.fullmatch(r"Is there (an? \w+) in the image\?", question.text)
    assert match
    return ARTICLES[match[1]]


def test_each_image_has_one_yes_and_one_no_in_each_split(pope: list[PopeQuestion]) -> None:
    counts = Counter((one.split, one.image, one.label) for one in pope)
    assert len(counts) == 3 * 20 * 2
    assert set(counts.values()) == {1}
    present = {one.image: asked_about(one) for one in pope if one.label}
    assert all((asked_about(one) == present[one.image]) == one.label for one in pope)


def test_absent_categories_follow_the_corpus(pope: list[PopeQuestion]) -> None:
    corpus = list(read_truth(demo_folder() / "scenes.parquet").values())
    popular = [category for category, _ in Counter(scene.category for scene in corpus).most_common(4)]
    absent = {split: [asked_about(one) for one in pope if one.split == split and not one.label] for split in SPLITS}
    assert set(absent["popular"]) <= set(popular)
    assert len(set(absent["random"])) > len(set(absent["popular"]))
    beside = {
        background: Counter(scene.category for scene in corpus if scene.background == background).most_common(2)
        for background in {scene.background for scene in corpus}
    }
    assert set(absent["adversarial"]) <= {category for two in beside.values() for category, _ in two}


def test_images_are_none_of_the_corpus_and_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        demo_pope(folder, images=3)
        demo_llava_bench(folder, images=3)
    files = [{path.relative_to(at): path.read_bytes() for path in at.rglob("*") if path.is_file()} for at in folders]
    assert files[0] == files[1]
    known = read_images(demo_folder() / "scenes.parquet").keys()
    made = {image_id(data) for path, data in files[0].items() if path.suffix == ".jpg"}
    assert len(made) == 6
    assert known.isdisjoint(made)


def test_a_model_that_knows_is_right_in_pope_and_one_that_says_yes_is_half_right(
    pope: list[PopeQuestion], tmp_path: Path
) -> None:
    truth = {(Path(one.uri).read_bytes(), one.text): one.label for one in pope}
    models = {
        "knows": AnsweringModel(
            lambda ask: "Yes" if truth[ask.pictures[0].data, ask.texts[0].split("\n")[0]] else "No, there is not."
        ),
        "agrees": AnsweringModel(lambda _: "Yes, there is."),
    }
    found = {}
    for name, model in models.items():
        with AnswerFile(tmp_path / name / "answers.jsonl") as file, open_cache(None) as cache:
            assert ask_pope(pope, model, file, Conditions(cache)) == []
        scores = score_pope(pope, list(read_answers(tmp_path / name / "answers.jsonl")), "llava")
        found[name] = [getattr(scores.mean, figure).share for figure in FIGURES]
    assert found == {"knows": [1.0, 1.0, 1.0, 1.0, 0.5], "agrees": [0.5, 0.5, 1.0, pytest.approx(2 / 3), 1.0]}


def test_rule_judge_prefers_the_full_description_to_a_part_of_it_and_to_that_of_another_scene(tmp_path: Path) -> None:
    questions = demo_llava_bench(tmp_path / "bench", images=24)
    descriptions = {one.image: one.context.replace("\n", " ") for one in questions}
    others = dict(zip(descriptions, [*list(descriptions.values())[1:], next(iter(descriptions.values()))], strict=True))
    texts = {
        "everything": [descriptions[one.image] for one in questions],
        "the reference": [one.reference for one in questions],
        "another scene": [others[one.image] for one in questions],
        "nothing": ["I cannot tell."] * len(questions),
    }
    relative = {}
    for name, said in texts.items():
        answers = [Answer(item_key(one.item_id), text) for one, text in zip(questions, said, strict=True)]
        with AnswerFile(tmp_path / name / "reviews.jsonl") as file, open_cache(None) as cache:
            assert judge_llava_bench(questions, answers, RuleJudge(), file, Conditions(cache)) == []
        scores = score_llava_bench(questions, answers, list(read_answers(tmp_path / name / "reviews.jsonl")))
        assert (scores.all.failed, scores.judges) == (0, ("demo-rule",))
        assert set(scores.categories) == {"conv", "detail", "complex"}
        relative[name] = scores.all.relative
    assert relative["the reference"] == 100.0
    assert relative["everything"] > 100.0 > relative["another scene"] > relative["nothing"]
    assert scores.all.model == 1.0


def test_bench_is_asked_with_the_images_of_its_questions(tmp_path: Path) -> None:
    questions = demo_llava_bench(tmp_path / "bench", images=2)
    model = AnsweringModel(lambda ask: str(np.asarray(Image.open(io.BytesIO(ask.pictures[0].data))).sum()))
    with AnswerFile(tmp_path / "answers.jsonl") as file, open_cache(None) as cache:
        assert ask_llava_bench(questions, model, file, Conditions(cache)) == []
    said = {answer.key[0]: answer.text for answer in read_answers(tmp_path / "answers.jsonl")}
    assert said == {one.item_id: str(np.asarray(Image.open(one.uri)).sum()) for one in questions}


def test_a_description_says_everything_about_a_scene() -> None:
    scenes = list(read_truth(demo_folder() / "scenes.parquet").values())[:200]
    assert len({tuple(described(scene)) for scene in scenes}) == len(set(scenes))
