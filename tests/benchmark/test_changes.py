"""Two benchmarks beside each other: every change is seen, nothing else is, and merging chooses nothing in silence."""

from dataclasses import replace

import pytest
from pictured_pairs import benchmark_of

from blindpairs.benchmark import Benchmark, Question
from blindpairs.benchmark.changes import changes, merge
from blindpairs.errors import ConfigError

QUESTION = Question("Is the door shut?", ("Yes", "No"), (1, 0))


def edited(benchmark: Benchmark, place: int, **values: object) -> Benchmark:
    pairs = list(benchmark.pairs)
    pairs[place] = replace(pairs[place], **values)  # type: ignore[arg-type]
    return replace(benchmark, pairs=tuple(pairs))


def test_equal_benchmarks_have_no_changes() -> None:
    none = changes(benchmark_of(3), benchmark_of(3, name="renamed"))
    assert (none.added, none.removed, none.changed, none.reordered, none.scores_change) == ((), (), {}, False, False)


def test_added_removed_and_edited_pairs_are_told_apart() -> None:
    before = benchmark_of(4)
    after = edited(replace(before, pairs=before.pairs[1:]), 0, question=QUESTION)
    seen = changes(replace(before, pairs=before.pairs[:3]), after)
    assert seen.added == (before.pairs[3].pair_id,)
    assert seen.removed == (before.pairs[0].pair_id,)
    assert seen.changed == {before.pairs[1].pair_id: {"question": (before.pairs[1].question, QUESTION)}}
    assert seen.scores_change
    assert not seen.reordered


def test_order_and_annotators_change_no_score() -> None:
    before = benchmark_of(2)
    seen = changes(before, edited(replace(before, pairs=before.pairs[::-1]), 0, annotators=("bob",)))
    assert seen.reordered
    assert [set(edits) for edits in seen.changed.values()] == [{"annotators"}]
    assert not seen.scores_change


def test_merge_has_every_pair_and_every_image() -> None:
    whole = benchmark_of(4)
    one, other = replace(whole, pairs=whole.pairs[:3]), replace(whole, pairs=whole.pairs[2:], name="more")
    other = edited(other, 0, annotators=("bob",))  # no other revision, so no conflict
    merged = merge(one, other)
    assert merged.pairs == whole.pairs
    assert merged.name == "doors+more"
    assert dict(merged.images(merged.image_ids)) == dict(whole.images(whole.image_ids))
    assert merged.provenance["merged"][1]["fingerprint"] == other.fingerprint


def test_merge_asks_who_counts_where_a_pair_differs() -> None:
    one = benchmark_of(3)
    other = edited(replace(one, name="more"), 1, question=QUESTION)
    with pytest.raises(ConfigError, match=f"1 pairs differ between doors and more, such as {one.pairs[1].pair_id}"):
        merge(one, other)
    assert merge(one, other, "first").pairs == one.pairs
    assert merge(one, other, "second").pairs == other.pairs


def test_merge_of_two_ground_truths_is_refused() -> None:
    one = replace(benchmark_of(2), corrections={"corrected": {benchmark_of(2).pairs[0].pair_id: (1, 0)}})
    with pytest.raises(ConfigError, match="ground truth 'original', doors has 'corrected'"):
        merge(one, one.with_ground_truth("corrected"))


def test_merge_keeps_the_corrections_of_the_pairs_that_it_has() -> None:
    whole = benchmark_of(3)
    ids = [pair.pair_id for pair in whole.pairs]
    one = replace(whole, pairs=whole.pairs[:2], corrections={"corrected": {ids[0]: (1, 0)}})
    other = replace(
        whole, pairs=whole.pairs[1:], corrections={"corrected": {ids[2]: (1, 0)}, "third": {"f" * 16: (0, 1)}}
    )
    assert merge(one, other).corrections == {"corrected": {ids[0]: (1, 0), ids[2]: (1, 0)}, "third": {}}
