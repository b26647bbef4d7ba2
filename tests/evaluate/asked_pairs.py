"""Benchmarks of plain questions and answers to them, for the tests of readers."""

from collections.abc import Sequence

from blindpairs.benchmark import Answers, Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.evaluate.answers import Answer

OPEN = ("Open", "Closed")


def benchmark_of(
    options: Sequence[tuple[str, str]], *, truth: Answers = (0, 1), sources: bool = True, second: bool = False
) -> Benchmark:
    """One pair for each two options, with MMVP's row numbers as the ids of their source."""
    pairs = [
        BenchmarkPair(
            f"{place:016x}",
            f"a{place}",
            f"b{place}",
            question=Question(f"What does scene {place} show?", two, truth),
            second=Question(f"What does scene {place} not show?", two, truth[::-1]) if second else None,
            source_id_a=str(2 * place + 1) if sources else "",
            source_id_b=str(2 * place + 2) if sources else "",
        )
        for place, two in enumerate(options)
    ]
    return Benchmark("scenes", tuple(pairs), HeldImages({}))


def answers_of(benchmark: Benchmark, texts: Sequence[str]) -> list[Answer]:
    """Two answers for each pair, those of image a and image b, in order; fewer texts are fewer answers."""
    keys = [(pair.pair_id, side) for pair in benchmark.pairs for side in "ab"]
    return [Answer((*key, "first"), text) for key, text in zip(keys, texts, strict=False)]


def one_answer(text: str, options: tuple[str, str], truth: int) -> tuple[Benchmark, list[Answer]]:
    """A benchmark of one pair, and an answer about its image a, for which `truth` is right."""
    made = benchmark_of([options], truth=(truth, 1 - truth))
    return made, answers_of(made, [text])
