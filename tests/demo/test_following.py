"""Following instructions: exact only to the letter, form whatever is said, no answer is neither."""

import pytest
from answering_model import AnsweringModel

from blindpairs.demo.corpus import encoded, nuisance_seed
from blindpairs.demo.draw import render
from blindpairs.demo.exchanges import FORMS, formed
from blindpairs.demo.following import FOLLOWING_SEED, category_question, measure_following
from blindpairs.demo.instructions import Amounts, fresh_scenes, unseen_scenes
from blindpairs.demo.world import Scene
from blindpairs.vlm import Ask

IMAGES = 6
SHOWN = {
    encoded(render(scene, nuisance_seed(FOLLOWING_SEED, position))): scene
    for position, scene in enumerate(unseen_scenes(IMAGES, FOLLOWING_SEED))
}


def truth(ask: Ask) -> str:
    scene = SHOWN[ask.pictures[0].data]
    (right,) = (one for one in known(scene) if one[0] == ask.texts[0])
    return right[1]


def known(scene: Scene) -> list[tuple[str, str]]:
    return [(one.question, one.answer) for one in (category_question(scene), *(formed(scene, name) for name in FORMS))]


def test_who_is_right_to_the_letter_has_all_shares() -> None:
    found = measure_following(AnsweringModel(truth), IMAGES)
    assert (found.exact.share, found.form.share, found.category.share) == (1.0, 1.0, 1.0)
    assert found.exact.interval == pytest.approx((IMAGES / (IMAGES + 1.96**2), 1.0), abs=1e-3)


def test_a_wrong_name_in_the_right_form_keeps_the_form_alone() -> None:
    def wrong(ask: Ask) -> str:
        text = truth(ask)
        for scene in SHOWN.values():
            text = text.replace(scene.category, "yak").replace(scene.category.upper(), "YAK")
        return text

    found = measure_following(AnsweringModel(wrong), IMAGES)
    assert (found.exact.share, found.form.share, found.category.share) == (0.0, 1.0, 0.0)


def test_a_chatty_answer_keeps_no_form() -> None:
    found = measure_following(AnsweringModel(lambda ask: f"Sure: {truth(ask)}, I think."), IMAGES)
    assert (found.exact.share, found.form.share) == (0.0, 0.0)


def test_no_answer_counts_as_neither() -> None:
    found = measure_following(AnsweringModel(lambda ask: None if "capital" in ask.texts[0] else truth(ask)), IMAGES)
    assert found.failures == IMAGES
    assert found.exact.share == found.form.share == pytest.approx(1 - 1 / len(FORMS))
    assert found.category.share == 1.0


def test_it_is_asked_about_other_scenes_than_those_of_training() -> None:
    trained = set(fresh_scenes(Amounts().images, Amounts().seed))
    assert trained.isdisjoint(unseen_scenes(300, FOLLOWING_SEED))
