"""The demo's drafter: every draft is right by the scenes, apart from those that are wrong on purpose."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from blindpairs.author.drafts import Draft, MinedPair, NotDrafted
from blindpairs.demo.drafting import ASKED_FIRST, DemoDrafter, demo_drafter
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import ATTRIBUTES, CATEGORIES, PATTERNS, Scene, altered, random_scene
from blindpairs.errors import ConfigError
from blindpairs.workspace import demo_folder

CAT = Scene("cat", "beach", "left", "yes", "on", "2", "left", "red", "striped", "A", "near")
OTHERS = {"facing": "right", "hat": "no", "lamp": "off", "count": "3", "ball": "right", "colour": "blue"}
OTHERS |= {"stripes": "plain", "letter": "X", "zoom": "far"}


def pair(name: str, control_of: str | None = None) -> MinedPair:
    """The pair of the images NAME-a and NAME-b."""
    return MinedPair(name, f"{name}-a", f"{name}-b", "", "", control_of=control_of)


def truth_of(**scenes: tuple[Scene, Scene]) -> dict[str, Scene]:
    """The scenes of the images of some pairs, by pair id."""
    return {f"{name}-{side}": scene for name, both in scenes.items() for side, scene in zip("ab", both, strict=True)}


def drafts(drafter: DemoDrafter, *pairs: MinedPair, second: bool = True) -> dict[str, Draft]:
    found = dict(drafter.draft(pairs, second=second))
    assert list(found) == [one.pair_id for one in pairs]
    return {name: draft for name, draft in found.items() if isinstance(draft, Draft)}


def faults(draft: Draft, one: Scene, other: Scene) -> set[str]:
    """What is wrong with a draft, decided by the scenes alone."""
    (attribute,) = [name for name, pattern in PATTERNS.items() if pattern.name.value in draft.patterns]
    pattern = PATTERNS[attribute]
    values = [getattr(scene, attribute) for scene in (one, other)]
    assert draft.question is not None
    found = set()
    said = [draft.question.options[answer] for answer in draft.question.answers]
    found |= {"answers"} if said != [pattern.answers[value] for value in values] else set()
    if draft.second is not None:
        again = [draft.second.options[answer] for answer in draft.second.answers]
        found |= {"second"} if again != [pattern.second_answers[value] for value in values] else set()
    endings = [pattern.statements[value].format(category="", a_category="", categories="").strip() for value in values]
    true = [ending in text for ending, text in zip(endings, (draft.statement_a, draft.statement_b), strict=True)]
    found |= {"statements"} if true != [True, True] else set()
    return found


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_question_second_question_and_statements_are_those_of_what_differs(attribute: str) -> None:
    other = replace(CAT, **{attribute: OTHERS[attribute]})
    (draft,) = drafts(DemoDrafter(truth_of(p=(CAT, other))), pair("p")).values()
    assert draft.patterns == (PATTERNS[attribute].name.value,)
    assert faults(draft, CAT, other) == set()
    assert draft.question is not None
    assert draft.second is not None
    assert draft.second.answers == draft.question.answers[::-1]
    assert sorted(draft.question.answers) == [0, 1]
    assert draft.second.text != draft.question.text


def test_a_draft_reads_as_a_person_would_write_it() -> None:
    (draft,) = drafts(DemoDrafter(truth_of(p=(CAT, replace(CAT, facing="right")))), pair("p")).values()
    assert draft.question is not None
    assert draft.second is not None
    assert draft.question.text == "Which way does the cat face?"
    assert sorted(draft.question.options) == ["left", "right"]
    assert draft.second.text == "Which side is the cat turned away from?"
    assert draft.second.options == draft.question.options
    assert (draft.statement_a, draft.statement_b) == ("a cat facing left", "a cat facing right")


def test_no_second_question_unless_it_is_asked_for() -> None:
    drafter = DemoDrafter(truth_of(p=(CAT, replace(CAT, hat="no"))))
    (draft,) = drafts(drafter, pair("p"), second=False).values()
    assert draft.second is None


def test_all_texts_of_all_scenes_are_short_plain_and_different() -> None:
    rng = np.random.default_rng(0)
    scenes = {}
    for category in CATEGORIES:
        for attribute in ATTRIBUTES:
            one = replace(random_scene(rng), category=category)
            scenes[f"{category}-{attribute}"] = (one, altered(one, [attribute], rng))
    for draft in drafts(DemoDrafter(truth_of(**scenes)), *map(pair, scenes)).values():
        assert draft.question is not None
        assert draft.second is not None
        texts = [draft.question.text, draft.second.text, draft.statement_a, draft.statement_b]
        assert len(set(texts)) == 4
        assert max(map(len, texts)) < 77 - 2 - len("a photo of ")  # a token has at least one letter
        assert not [text for text in texts if "{" in text or "a elephant" in text or "fishs" in text]
        for options in (draft.question.options, draft.second.options):
            assert options[0] != options[1]
            assert not [option for option in options if "(" in option or option in ("None", "NA", "A", "B")]


def test_of_several_differences_the_one_that_is_rarely_alone_is_asked_about() -> None:
    assert sorted(ASKED_FIRST) == sorted(ATTRIBUTES)
    both = (CAT, replace(CAT, letter="X", zoom="far", hat="no"))
    (draft,) = drafts(DemoDrafter(truth_of(p=both)), pair("p")).values()
    assert draft.patterns == (PATTERNS["zoom"].name.value,)


def test_options_come_in_either_order_equally_often_whatever_the_answers() -> None:
    hatless = replace(CAT, hat="no")
    scenes = {f"p{i}": (CAT, hatless) if i % 2 else (hatless, CAT) for i in range(800)}
    found = drafts(DemoDrafter(truth_of(**scenes)), *map(pair, scenes)).values()
    questions = [draft.question for draft in found if draft.question]
    quarters = Counter((one.options, one.answers) for one in questions)
    assert len(quarters) == 4
    assert all(150 < count < 250 for count in quarters.values())


def test_a_control_is_asked_about_the_attribute_of_its_pair_if_that_differs_too() -> None:
    scenes = {
        "blind": (CAT, replace(CAT, hat="no")),
        "matched": (CAT, replace(CAT, category="duck", facing="right", hat="no")),
        "other": (CAT, replace(CAT, facing="right", letter="X")),
    }
    pairs = [pair("blind"), pair("matched", "blind"), pair("other", "blind"), pair("matched", "gone")]
    drafter = DemoDrafter(truth_of(**scenes), pairs=pairs)
    found = [draft for _, draft in drafter.draft(pairs, second=True) if isinstance(draft, Draft)]
    names = [PATTERNS[name].name.value for name in ("hat", "hat", "facing", "facing")]
    assert [draft.patterns for draft in found] == [(name,) for name in names]


def test_a_control_has_the_same_draft_in_a_later_run_of_its_own() -> None:
    scenes = {"blind": (CAT, replace(CAT, hat="no")), "matched": (CAT, replace(CAT, facing="right", hat="no"))}
    pairs = [pair("blind"), pair("matched", "blind")]
    together = drafts(DemoDrafter(truth_of(**scenes), pairs=pairs), *pairs)
    alone = drafts(DemoDrafter(truth_of(**scenes), pairs=pairs), pairs[1])
    assert alone["matched"] == together["matched"]


def test_scenes_of_two_categories_are_told_apart_by_nothing_but_the_attribute() -> None:
    scenes = {"p": (CAT, replace(CAT, category="duck", count="3"))}
    (draft,) = drafts(DemoDrafter(truth_of(**scenes)), pair("p")).values()
    assert draft.question is not None
    assert draft.question.text == "How many figures are there?"
    assert (draft.statement_a, draft.statement_b) == ("two figures", "three figures")


def test_nothing_to_ask_and_foreign_images_are_said_and_do_not_end_the_run() -> None:
    scenes = {"same": (CAT, replace(CAT, background="city")), "good": (CAT, replace(CAT, hat="no"))}
    found = dict(DemoDrafter(truth_of(**scenes)).draft([pair("same"), pair("mine"), pair("good")], second=True))
    same, mine, good = found.values()
    assert isinstance(same, NotDrafted)
    assert isinstance(mine, NotDrafted)
    assert isinstance(good, Draft)
    assert (same.code, mine.code) == ("no_difference", "unknown_image")
    assert "the demo's ground truth knows only the demo's images: use --model hf:... or openai:..." in mine.message


def test_a_share_of_the_drafts_is_wrong_in_three_ways_and_the_same_ones_each_time() -> None:
    rng = np.random.default_rng(1)
    scenes = {}
    for i in range(600):
        one = random_scene(rng)
        scenes[f"p{i}"] = (one, altered(one, [ATTRIBUTES[i % 9]], rng))
    truth, pairs = truth_of(**scenes), [pair(name) for name in scenes]
    found = drafts(DemoDrafter(truth, wrong=0.3, seed=1), *pairs)
    wrong = {name: frozenset(bad) for name, draft in found.items() if (bad := faults(draft, *scenes[name]))}
    assert 130 < len(wrong) < 230
    kinds = Counter(wrong.values())
    assert set(kinds) == {
        frozenset({"answers", "second"}),  # exchanged answers
        frozenset({"statements"}),
        frozenset({"answers", "second", "statements"}),  # asked about something that does not differ
    }
    assert min(kinds.values()) > 30
    right = drafts(DemoDrafter(truth), *pairs)
    assert {name for name in found if found[name] != right[name]} == set(wrong)
    assert drafts(DemoDrafter(truth, wrong=0.3, seed=1), *reversed(pairs)) == found
    other_seed = drafts(DemoDrafter(truth, wrong=0.3, seed=2), *pairs)
    assert {name for name in found if other_seed[name] != right[name]} != set(wrong)
    assert all(faults(one, *scenes[name]) for name, one in drafts(DemoDrafter(truth, wrong=1.0), *pairs).items())


def test_spec_names_the_drafter_and_reads_the_scenes_that_ship() -> None:
    assert demo_drafter("demo").name == "demo"
    drafter = demo_drafter("demo?wrong=0.2&seed=1")
    assert drafter.name == "demo?wrong=0.2&seed=1"
    ids = list(read_truth(demo_folder() / "scenes.parquet"))[:2]
    ((_, draft),) = drafter.draft([MinedPair("p", ids[0], ids[1], "", "")], second=False)
    assert isinstance(draft, Draft)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:x", "'hf:x' is not the demo's drafter: give demo, or demo?wrong=0.2&seed=1"),
        ("demo:clip", "'demo:clip' is not the demo's drafter"),
        ("demo?share=1", "unknown option 'share'; the options are wrong and seed"),
        ("demo?wrong=2", "wrong=2 is not a share between 0 and 1"),
        ("demo?wrong=nan", "wrong=nan is not a share"),
        ("demo?wrong=", "wrong= is not a share"),
        ("demo?wrong=0.1&seed=x", "seed=x is not a whole number"),
    ],
)
def test_wrong_spec_says_what_to_give(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        demo_drafter(spec)
    assert message in str(raised.value)
