"""The choice of the benchmark's pairs: as many of each pattern, balanced, and no image too often."""

from collections import Counter
from dataclasses import replace

from blindpairs.benchmark import BenchmarkPair, Question
from blindpairs.demo.choosing import Candidate, choose


def candidate(number: int, quarter: int, *, pattern: str = "Text", differing: int = 1, image: str = "") -> Candidate:
    """A candidate of one of the four quarters (right answer, order of the options), with images of its own."""
    options = ("a", "b") if quarter % 2 else ("b", "a")
    answers = (quarter // 2, 1 - quarter // 2)
    blind = BenchmarkPair(
        f"pair-{number}",
        image or f"{number}-a",
        f"{number}-b",
        question=Question("?", options, answers),
        patterns=(pattern,),
    )
    control = BenchmarkPair(f"control-{number}", f"{number}-c", f"{number}-d", control_of=blind.pair_id)
    return Candidate(blind, control, differing, rank=number)


def ranks(chosen: list[Candidate]) -> list[int]:
    return [one.rank for one in chosen]


def test_the_first_of_each_quarter_are_chosen_in_rank_order() -> None:
    candidates = [candidate(number, number % 4) for number in range(40)]
    assert ranks(choose(candidates[::-1], 8)) == list(range(8))


def test_what_differs_in_one_thing_comes_before_what_ranks_higher() -> None:
    candidates = [candidate(number, number % 4, differing=1 if number >= 8 else 2) for number in range(12)]
    assert ranks(choose(candidates, 4)) == [8, 9, 10, 11]
    assert ranks(choose(candidates, 8)) == [0, 1, 2, 3, 8, 9, 10, 11]


def test_a_control_that_is_asked_the_same_counts_more_than_the_rank() -> None:
    candidates = [candidate(number, number % 4) for number in range(8)]
    candidates[4:] = [replace(one, control=replace(one.control, patterns=("Text",))) for one in candidates[4:]]
    assert ranks(choose(candidates, 4)) == [4, 5, 6, 7]


def test_quarters_may_differ_a_little_for_single_differences_and_the_halves_stay_equal() -> None:
    quarters = [0] * 6 + [3] * 6 + [1] * 2 + [2] * 2
    candidates = [candidate(number, quarter) for number, quarter in enumerate(quarters)]
    candidates += [candidate(20 + number, number % 4, differing=3) for number in range(40)]
    chosen = choose(candidates, 16)
    assert all(one.differing == 1 for one in chosen)
    assert sorted(Counter(one.quarter for one in chosen).values()) == [2, 2, 6, 6]
    assert Counter(one.quarter[0] for one in chosen) == {0: 8, 1: 8}
    assert Counter(one.quarter[1] for one in chosen) == {False: 8, True: 8}


def test_no_image_is_used_more_than_twice_not_even_across_patterns() -> None:
    shared = [candidate(number, number % 4, pattern=f"P{number % 3}", image="shared") for number in range(30)]
    assert len(choose(shared, 4)) == 2


def test_patterns_with_the_fewest_single_differences_choose_first() -> None:
    rare = candidate(9, 0, pattern="Rare", image="shared")
    common = [candidate(number, 0, pattern="Common", image="shared" if number < 2 else "") for number in range(8)]
    chosen = choose([*common, rare], 4)
    assert "Rare" in {one.pattern for one in chosen}


def test_too_few_candidates_are_all_that_fit() -> None:
    assert choose([], 4) == []
    assert ranks(choose([candidate(0, 1), candidate(1, 1)], 4)) == [0, 1]
