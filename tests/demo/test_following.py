"""Following instructions: exact only to the letter, form whatever is said, an answer that says nothing is neither."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from answering_model import AnsweringModel

from blindpairs.demo.exchanges import FORMS
from blindpairs.demo.following import FOLLOWING_SEED, demo_following
from blindpairs.demo.instructions import Amounts, fresh_scenes, unseen_scenes
from blindpairs.demo.world import CATEGORIES
from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import read_answers
from blindpairs.evaluate.following import CATEGORY, FollowingQuestion, FollowingScores, read_following, score_following
from blindpairs.evaluate.suite_questions import FollowingSuite
from blindpairs.evaluate.suite_session import SuiteEntry, SuiteSession
from blindpairs.statistics import wilson_interval
from blindpairs.vlm import Ask, open_cache

IMAGES = 6
Known = dict[tuple[bytes, str], FollowingQuestion]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> FollowingSuite:
    folder = tmp_path_factory.mktemp("following")
    return FollowingSuite(folder, demo_following(folder, images=IMAGES))


@pytest.fixture(scope="module")
def known(suite: FollowingSuite) -> Known:
    """Each question by what a model is shown of it."""
    return {(Path(one.uri).read_bytes(), one.text): one for one in suite.questions}


def asked(suite: FollowingSuite, results: Path, model: AnsweringModel) -> SuiteEntry:
    with open_cache(None) as cache:
        session = SuiteSession(results, suite, Conditions(cache), lambda _: model)
        entry = session.answer(session.respondent("test"))
        session.score(entry, ("ours",))
    return entry


def scores_of(suite: FollowingSuite, results: Path, answer: Callable[[Ask], str | None]) -> FollowingScores:
    (found,) = asked(suite, results, AnsweringModel(answer)).scores
    assert isinstance(found, FollowingScores)
    return found


def truth(known: Known) -> Callable[[Ask], str]:
    return lambda ask: known[ask.pictures[0].data, ask.texts[0]].answer


def test_who_is_right_to_the_letter_has_all_shares(suite: FollowingSuite, known: Known, tmp_path: Path) -> None:
    found = scores_of(suite, tmp_path, truth(known))
    assert set(found.forms) == set(FORMS)
    for one in (found.together, found.category, *found.forms.values()):
        assert (one.exact.share, one.form.share, one.unreadable) == (1.0, 1.0, 0)
        assert one.exact.interval == wilson_interval(1.0, IMAGES)
    assert (found.together.questions, found.category.questions) == (IMAGES * len(FORMS), IMAGES)
    assert found.notes == ()


def test_a_wrong_name_in_the_right_form_keeps_the_form_alone(
    suite: FollowingSuite, known: Known, tmp_path: Path
) -> None:
    def wrong(ask: Ask) -> str:
        text = truth(known)(ask)
        for category in CATEGORIES:
            text = re.sub(rf"\b{category}\b", "yak", text).replace(category.upper(), "YAK")
        return text

    found = scores_of(suite, tmp_path, wrong)
    assert (found.together.exact.share, found.together.form.share, found.category.exact.share) == (0.0, 1.0, 0.0)


def test_a_chatty_answer_keeps_no_form(suite: FollowingSuite, known: Known, tmp_path: Path) -> None:
    found = scores_of(suite, tmp_path, lambda ask: f"Sure: {truth(known)(ask)}, I think.\nBye")
    assert (found.together.exact.share, found.together.form.share, found.together.unreadable) == (0.0, 0.0, 0)


def test_an_answer_that_says_nothing_is_counted_apart(suite: FollowingSuite, known: Known, tmp_path: Path) -> None:
    found = scores_of(suite, tmp_path, lambda ask: "" if "capital" in ask.texts[0] else truth(known)(ask))
    assert (found.forms["capitals"].unreadable, found.together.unreadable) == (IMAGES, IMAGES)
    assert found.together.exact.share == found.together.form.share == pytest.approx(1 - 1 / len(FORMS))
    assert found.category.exact.share == 1.0
    assert found.notes == (f"{IMAGES} answers are empty.",)


def test_an_answer_that_was_cut_off_is_not_read(suite: FollowingSuite, known: Known, tmp_path: Path) -> None:
    asked(suite, tmp_path, AnsweringModel(truth(known)))
    (file,) = tmp_path.rglob("answers.jsonl")
    file.write_text(
        file.read_text()
        .replace('"finish":"stop"', '"finish":"length"', 1)
        .replace('"finish": "stop"', '"finish": "length"', 1)
    )
    found = score_following(suite.questions, list(read_answers(file)))
    assert found.together.unreadable + found.category.unreadable == 1
    assert found.notes == ("1 answers were cut off at 48 tokens.",)


def test_a_category_is_named_with_a_capital_and_a_full_stop_or_without(suite: FollowingSuite) -> None:
    one = next(one for one in suite.questions if one.about == CATEGORY)
    assert all(one.exact_in(text) for text in (one.answer, f" {one.answer.title()}.\n"))
    assert not one.exact_in(f"a {one.answer}")
    other = next(one for one in suite.questions if one.about == "four")
    assert not other.exact_in(f"{other.answer}.")


def test_question_without_an_answer_means_no_scores_and_is_asked_again(
    suite: FollowingSuite, known: Known, tmp_path: Path
) -> None:
    entry = asked(suite, tmp_path, AnsweringModel(lambda ask: None if "JSON" in ask.texts[0] else truth(known)(ask)))
    assert (entry.scores, entry.missing, len(entry.failures)) == ([], IMAGES, IMAGES)
    again = AnsweringModel(truth(known))
    assert asked(suite, tmp_path, again).answered == len(suite.questions)
    assert {one.texts[0] for one in again.asked} == {FORMS["json"].instruction}


def test_folder_is_read_as_it_is_and_filled_where_an_image_lacks(suite: FollowingSuite, tmp_path: Path) -> None:
    first = demo_following(tmp_path, images=2)
    assert [replace_uri(one, suite) for one in first] == list(suite.questions[: len(first)])
    image, file = Path(first[0].uri), tmp_path / "questions.jsonl"
    drawn, written = image.read_bytes(), file.stat().st_mtime_ns
    assert demo_following(tmp_path, images=2) == first
    assert file.stat().st_mtime_ns == written
    image.unlink()
    assert demo_following(tmp_path, images=2) == first
    assert image.read_bytes() == drawn
    file.write_text("")
    with pytest.raises(InputError, match="has no question: remove it"):
        read_following(tmp_path)


def replace_uri(one: FollowingQuestion, suite: FollowingSuite) -> FollowingQuestion:
    return FollowingQuestion(**{**vars(one), "uri": str(suite.folder / "images" / one.image)})


def test_right_answers_are_in_the_form_that_is_asked_for(suite: FollowingSuite) -> None:
    assert all(one.kept_by(one.answer) and one.exact_in(one.answer) for one in suite.questions)


def test_another_image_or_answer_is_another_fingerprint(suite: FollowingSuite) -> None:
    assert FollowingSuite(suite.folder, suite.questions[:-1]).fingerprint != suite.fingerprint
    elsewhere = FollowingSuite(Path("x"), [replace_uri(one, FollowingSuite(Path("x"), ())) for one in suite.questions])
    assert elsewhere.fingerprint == suite.fingerprint


def test_there_is_one_rule_and_no_file_of_others(suite: FollowingSuite, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="read to the letter"):
        suite.score([], "llava")
    with pytest.raises(ConfigError, match="nobody else asks"):
        suite.answers_in(tmp_path / "answers.jsonl")


def test_it_is_asked_about_other_scenes_than_those_of_training() -> None:
    trained = set(fresh_scenes(Amounts().images, Amounts().seed))
    assert trained.isdisjoint(unseen_scenes(300, FOLLOWING_SEED))
