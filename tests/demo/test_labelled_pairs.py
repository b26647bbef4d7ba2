"""Labelled pairs for a readout: one attribute differs, with the benchmark's answers, on scenes of their own."""

from collections import Counter

from blindpairs.demo.benchmark import demo_benchmark
from blindpairs.demo.corpus import read_images
from blindpairs.demo.labelled_pairs import labelled_pairs
from blindpairs.demo.world import PATTERNS
from blindpairs.evaluate.readout import labelled
from blindpairs.workspace import demo_folder


def test_pairs_are_equally_many_of_each_pattern_and_their_answers_are_the_benchmarks() -> None:
    made, shipped = labelled_pairs(30), labelled(demo_benchmark())
    names = [pattern.name.value for pattern in PATTERNS.values()]
    assert Counter(pair.pattern for pair in made.pairs) == dict.fromkeys(names, 30)
    assert all(pair.answers[0] != pair.answers[1] for pair in made.pairs)
    answers = [{(pair.pattern, answer) for pair in given.pairs for answer in pair.answers} for given in (made, shipped)]
    assert answers[1] <= answers[0]


def test_images_are_of_neither_the_corpus_nor_the_benchmark_and_can_be_read() -> None:
    made = labelled_pairs(2)
    ids = [key for pair in made.pairs for key in pair.image_ids]
    assert len(set(ids)) == len(ids) == 36
    assert not set(ids) & {*read_images(demo_folder() / "scenes.parquet"), *demo_benchmark().image_ids}
    assert all(isinstance(data, bytes) for _, data in made.images(ids))
    assert labelled_pairs(2).pairs == made.pairs
