"""The benchmark that ships: right by the scenes, balanced, of other images than the corpus, and made by its command."""

from collections import Counter
from pathlib import Path

import pytest

from blindpairs.benchmark import Benchmark, BenchmarkPair, Question
from blindpairs.benchmark.checks import check
from blindpairs.benchmark.native import read_native
from blindpairs.demo.__main__ import main
from blindpairs.demo.benchmark import CARD, FILE, BenchmarkRecipe, build_benchmark, card, demo_benchmark, scene_of
from blindpairs.demo.corpus import SEED
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import PATTERNS, Scene, differences
from blindpairs.encoders import DEMO_ENCODERS, load_encoder
from blindpairs.images import image_id
from blindpairs.mine import pair_id
from blindpairs.workspace import demo_folder

SMALL = BenchmarkRecipe(seeds=(5,), scenes=120, mined=24, per_pattern=4)
PLANS: dict[int, list[Scene]] = {}
ATTRIBUTE_OF = {pattern.name.value: name for name, pattern in PATTERNS.items()}


@pytest.fixture(scope="module")
def shipped() -> Benchmark:
    return demo_benchmark()


def blind(benchmark: Benchmark) -> list[BenchmarkPair]:
    return [pair for pair in benchmark.pairs if pair.control_of is None]


def controls(benchmark: Benchmark) -> list[BenchmarkPair]:
    return [pair for pair in benchmark.pairs if pair.control_of is not None]


def scenes(pair: BenchmarkPair) -> tuple[Scene, Scene]:
    return scene_of(pair.uri_a, PLANS), scene_of(pair.uri_b, PLANS)


def attribute(pair: BenchmarkPair) -> str:
    (name,) = pair.patterns
    return ATTRIBUTE_OF[name]


def questions(pair: BenchmarkPair) -> tuple[Question, Question]:
    assert pair.question is not None
    assert pair.second is not None
    return pair.question, pair.second


def test_there_are_sixteen_pairs_of_each_pattern_and_ten_or_more_differ_in_it_alone(shipped: Benchmark) -> None:
    counts = Counter(attribute(pair) for pair in blind(shipped))
    alone = Counter(attribute(pair) for pair in blind(shipped) if differences(*scenes(pair)) == (attribute(pair),))
    assert shipped.patterns == tuple(ATTRIBUTE_OF)
    assert counts == dict.fromkeys(PATTERNS, 16)
    assert min(alone[name] for name in PATTERNS) >= 10


def test_every_answer_and_statement_is_right_by_the_scenes(shipped: Benchmark) -> None:
    for pair in shipped.pairs:
        pattern = PATTERNS[attribute(pair)]
        values = [getattr(scene, attribute(pair)) for scene in scenes(pair)]
        first, second = questions(pair)
        assert [first.options[answer] for answer in first.answers] == [pattern.answers[value] for value in values]
        again = [second.options[answer] for answer in second.answers]
        assert again == [pattern.second_answers[value] for value in values]
        for value, text in zip(values, (pair.statement_a, pair.statement_b), strict=True):
            true, *false = sorted(pattern.statements, key=lambda one: one != value)
            assert pattern.statements[true].format(category="", a_category="", categories="").strip() in text
            wrong = [pattern.statements[one].format(category="", a_category="", categories="").strip() for one in false]
            assert not [ending for ending in wrong if ending in text]


def test_answers_differ_between_the_images_and_the_second_question_exchanges_them(shipped: Benchmark) -> None:
    for pair in shipped.pairs:
        first, second = questions(pair)
        assert sorted(first.answers) == [0, 1]
        assert second.answers == first.answers[::-1]
        assert second.text != first.text


def test_the_checks_before_an_export_find_nothing(shipped: Benchmark) -> None:
    assert check(shipped) == []


def test_answers_and_orders_of_the_options_are_balanced_within_each_pattern(shipped: Benchmark) -> None:
    for name in PATTERNS:
        asked = [questions(pair)[0] for pair in blind(shipped) if attribute(pair) == name]
        assert Counter(question.answers[0] for question in asked) == {0: 8, 1: 8}
        assert Counter(question.options[0] < question.options[1] for question in asked) == {True: 8, False: 8}
        quarters = Counter((question.answers[0], question.options[0] < question.options[1]) for question in asked)
        assert min(quarters.values()) >= 2


def test_no_image_is_used_more_than_twice_and_no_pair_twice(shipped: Benchmark) -> None:
    uses = Counter(key for pair in shipped.pairs for key in pair.image_ids)
    assert max(uses.values()) <= 2
    assert len({pair.pair_id for pair in shipped.pairs}) == len(shipped.pairs)
    assert all(pair.pair_id == pair_id(*pair.image_ids) for pair in shipped.pairs)


def test_each_blind_pair_has_one_control_that_clip_tells_apart_with_the_same_dino_cosine(shipped: Benchmark) -> None:
    by_id = {pair.pair_id: pair for pair in blind(shipped)}
    assert sorted(pair.control_of or "" for pair in controls(shipped)) == sorted(by_id)
    for pair in controls(shipped):
        matched = by_id[pair.control_of or ""]
        assert pair.clip_sim is not None
        assert matched.clip_sim is not None
        assert pair.dino_sim is not None
        assert matched.dino_sim is not None
        assert pair.clip_sim <= 0.85
        assert matched.clip_sim >= 0.95
        assert matched.dino_sim <= 0.6
        assert abs(pair.dino_sim - matched.dino_sim) <= 0.015


def test_a_control_is_asked_about_the_attribute_of_its_pair_wherever_that_differs(shipped: Benchmark) -> None:
    by_id = {pair.pair_id: pair for pair in blind(shipped)}
    for pair in controls(shipped):
        wanted = attribute(by_id[pair.control_of or ""])
        assert attribute(pair) == wanted or wanted not in differences(*scenes(pair))


def test_images_are_jpeg_have_the_ids_they_are_named_by_and_are_not_in_the_corpus(shipped: Benchmark) -> None:
    images = dict(shipped.images(shipped.image_ids))
    assert set(images) == set(shipped.image_ids)
    assert not set(images) & set(read_truth(demo_folder() / "scenes.parquet"))
    for key, data in images.items():
        assert isinstance(data, bytes)
        assert data.startswith(b"\xff\xd8")
        assert image_id(data) == key


def test_file_says_how_it_was_made_with_the_encoders_that_ship(shipped: Benchmark) -> None:
    made = shipped.provenance
    recipe = BenchmarkRecipe()
    assert (tuple(made["seeds"]), made["scenes"]) == (recipe.seeds, recipe.scenes)
    assert SEED not in made["seeds"]
    assert {pair.uri_a.partition("#")[0] for pair in shipped.pairs} == {f"scene:{seed}" for seed in recipe.seeds}
    for name, spec in DEMO_ENCODERS.items():
        encoder = load_encoder(name, spec)
        assert made["encoders"][name] == {"spec": spec, "weights_hash": encoder.weights_hash}


def test_card_is_that_of_the_file(shipped: Benchmark) -> None:
    assert (demo_folder() / CARD).read_text(encoding="utf-8") == card(shipped)
    assert shipped.fingerprint in card(shipped)


def test_data_folder_stays_small() -> None:
    files = [path for path in demo_folder().parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40_000_000


def test_building_again_gives_the_same_bytes_in_any_folder(tmp_path: Path) -> None:
    built = build_benchmark(tmp_path / "one", SMALL)
    build_benchmark(tmp_path / "other", SMALL)
    for name in (FILE, CARD):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert read_native(tmp_path / "one" / FILE).pairs == built.pairs
    assert len(blind(built)) >= 9
    truth = list(read_truth(tmp_path / "one" / "5" / "scenes.parquet").values())
    for pair in built.pairs:
        assert [truth[int(uri.split("#")[1])] for uri in (pair.uri_a, pair.uri_b)] == list(scenes(pair))


def test_command_with_other_arguments_says_how_it_is_used() -> None:
    for arguments in ([], ["other", "folder"], ["benchmark", "one", "two"]):
        with pytest.raises(SystemExit, match="usage: python"):
            main(arguments)
