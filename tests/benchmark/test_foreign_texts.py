"""What is written in a question, an option, a statement or a pattern comes back as it was, or its pair is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictured_pairs import pair_of

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.benchmark.foreign import Exported, ImportedBenchmark
from blindpairs.benchmark.mmvp import export_mmvp, import_mmvp
from blindpairs.benchmark.mmvp_vlm import export_mmvp_vlm, import_mmvp_vlm
from blindpairs.benchmark.naturalbench import export_naturalbench, import_naturalbench

# Short texts of what the formats themselves are written with, and any text at all.
TEXTS = st.one_of(
    st.text(st.sampled_from("abAB ()[]:;,.|\"'\\\n\r\t\0=\x1e\u2028\ufeffé"), max_size=12),
    st.sampled_from(["Option: A:x; B:y;", "(a) x (b) y", "Please answer Yes or No.", "NA", "None", "nan", "Yes", "No"]),
    st.text(max_size=20),
)
PAIR, IMAGES = pair_of(0, 1)
GOOD, OTHERS = pair_of(2, 3)
IMAGES |= OTHERS
Format = tuple[
    Callable[[Benchmark, Path], Exported], Callable[[Path], ImportedBenchmark], Callable[[BenchmarkPair], object]
]
FORMATS: dict[str, Format] = {
    "mmvp": (export_mmvp, import_mmvp, lambda pair: (pair.question, pair.patterns)),
    "mmvp-vlm": (export_mmvp_vlm, import_mmvp_vlm, lambda pair: (pair.statement_a, pair.statement_b, pair.patterns)),
    "naturalbench": (
        export_naturalbench,
        import_naturalbench,
        lambda pair: (pair.question, pair.second, pair.patterns),
    ),
}


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS), answers=st.sampled_from([(0, 1), (1, 0), (1, 1)]))
def test_every_text_comes_back_or_is_refused(
    tmp_path: Path, form: str, texts: tuple[str, str, str, str], answers: tuple[int, int]
) -> None:
    one, other, asked, pattern = texts
    fields = {
        "question": Question(asked, (one, other), answers),
        "second": Question(other, (asked, one), answers[::-1]),
        "statement_a": one,
        "statement_b": other,
        "patterns": ("Text", pattern),
    }
    pair = BenchmarkPair(PAIR.pair_id, *PAIR.image_ids, **fields)  # type: ignore[arg-type]
    export, read, content = FORMATS[form]
    benchmark = Benchmark("texts", (pair, GOOD), HeldImages(IMAGES))
    exported = export(benchmark, tmp_path / "out")
    again = {one.pair_id: content(one) for one in read(tmp_path / "out").benchmark.pairs}
    kept = [one for one in benchmark.pairs if one.pair_id not in exported.refused]
    assert set(exported.refused) <= {pair.pair_id}
    assert exported.pairs == len(kept)
    assert again == {one.pair_id: content(one) for one in kept}
