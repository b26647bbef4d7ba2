"""CLIP-style models on a benchmark of statements: from images and texts to the table of the paper."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_folders import (
    OPENAI,
    READER,
    save_clip_with_tokenizer,
    save_gemma_tokenizer,
    save_open_clip,
    save_small_siglip,
)
from stated_pairs import NINE, few_of

from blindpairs.benchmark import Benchmark, BenchmarkPair
from blindpairs.demo.benchmark import demo_benchmark
from blindpairs.demo.world import CATEGORIES
from blindpairs.encoders import Encoder, TextEncoder, load_text_encoder
from blindpairs.errors import ConfigError, InputError, Undecodable
from blindpairs.evaluate.loaded_files import LOADED
from blindpairs.evaluate.matching import score_blocks
from blindpairs.evaluate.similarity import (
    SimilarityScores,
    evaluate_similarity,
    filled,
    read_scores,
    score_similarities,
)
from blindpairs.evaluate.similarity_files import OUTPUT, SIMILARITIES, Similarities, read_similarities
from blindpairs.evaluate.similarity_table import describe, summary, table


@pytest.fixture(scope="module")
def demo() -> Benchmark:
    return demo_benchmark()


@pytest.fixture(scope="module")
def few(demo: Benchmark) -> Benchmark:
    return few_of(demo)


@pytest.fixture(scope="module")
def evaluated(demo: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> SimilarityScores:
    return evaluate_similarity(demo, "demo:clip", tmp_path_factory.mktemp("demo"), device="cpu")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What the encoders are asked to encode: the images as bytes, and the texts."""
    seen: dict[str, list[Any]] = {"images": [], "texts": [], "batches": []}
    images, texts = Encoder.encode, TextEncoder.encode

    def of_images(self: Encoder, batch: torch.Tensor) -> torch.Tensor:
        seen["images"] += [one.cpu().numpy().tobytes() for one in batch]
        seen["batches"].append(len(batch))
        return images(self, batch)

    def of_texts(self: TextEncoder, given: list[str]) -> torch.Tensor:
        seen["texts"] += given
        return texts(self, given)

    monkeypatch.setattr(Encoder, "encode", of_images)
    monkeypatch.setattr(TextEncoder, "encode", of_texts)
    return seen


def test_scores_do_not_depend_on_the_order_of_pairs_or_rows(few: Benchmark) -> None:
    generator = np.random.default_rng(3)
    blocks = {name: generator.normal(size=(len(few.pairs), 2, 2)) for name in ("{}", "a {}")}
    ids = tuple(pair.pair_id for pair in few.pairs)
    settings = {"model": "m"}
    before = score_similarities(few, Similarities(ids, blocks, settings))
    order = generator.permutation(len(ids))
    shuffled = Similarities(tuple(ids[i] for i in order), {k: v[order] for k, v in blocks.items()}, settings)
    after = score_similarities(replace(few, pairs=tuple(reversed(few.pairs))), shuffled)
    assert (before.wordings, before.patterns, before.controls, before.gain, before.right) == (
        after.wordings,
        after.patterns,
        after.controls,
        after.gain,
        after.right,
    )


def test_each_image_and_each_text_is_encoded_once(
    few: Benchmark, tmp_path: Path, encoded: dict[str, list[Any]]
) -> None:
    again = replace(few.pairs[0], pair_id="the same images", statement_a=few.pairs[1].statement_a)
    benchmark = replace(few, pairs=(*few.pairs, again))
    templates = ("a photo of {}", "{}")
    evaluate_similarity(benchmark, "demo:clip", tmp_path, templates, "cpu")
    texts = {
        filled(template, statement)
        for pair in benchmark.pairs
        for statement in (pair.statement_a, pair.statement_b)
        for template in templates
    }
    assert sorted(encoded["texts"]) == sorted(texts)
    assert len(encoded["images"]) == len(set(encoded["images"])) == len(benchmark.image_ids)


def test_images_are_encoded_in_batches_and_reported(
    few: Benchmark, tmp_path: Path, encoded: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blindpairs.evaluate.similarity.BATCH", 10)
    reports: list[tuple[int, ...]] = []
    evaluate_similarity(few, "demo:clip", tmp_path, device="cpu", progress=lambda *report: reports.append(report))
    count = len(few.image_ids)
    assert encoded["batches"] == [10] * (count // 10) + ([count % 10] if count % 10 else [])
    assert (reports[0], reports[-1]) == ((0, count), (count, count, 0))


def test_second_run_measures_nothing_and_gives_the_same(
    few: Benchmark, tmp_path: Path, encoded: dict[str, list[Any]]
) -> None:
    first = evaluate_similarity(few, "demo:clip", tmp_path, device="cpu")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(files) == [LOADED, OUTPUT, SIMILARITIES]
    encoded["images"].clear()
    second = evaluate_similarity(few, "demo:clip", tmp_path, device="cpu")
    assert encoded["images"] == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert summary(second) == summary(first) == summary(read_scores(few, tmp_path))


def test_second_run_loads_no_model_unless_its_files_have_changed(
    few: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    spec = f"open_clip:local-dir:{save_open_clip(tmp_path / 'model', READER, OPENAI)}"
    first = evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")
    loaded: list[str] = []

    def counted(spec: str, *, device: str) -> TextEncoder:
        loaded.append(spec)
        return load_text_encoder(spec, device=device)

    monkeypatch.setattr("blindpairs.encoders.texts.load_text_encoder", counted)
    second = evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")
    assert (loaded, summary(second)) == ([], summary(first))
    (tmp_path / "scores" / LOADED).unlink()
    (tmp_path / "scores" / LOADED).mkdir()
    assert summary(evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")) == summary(first)
    (tmp_path / "scores" / LOADED).rmdir()
    for change in (
        lambda: (tmp_path / "scores" / LOADED).write_text("{"),
        lambda: (tmp_path / "scores" / LOADED).unlink(),
        lambda: (tmp_path / "model" / "notes.txt").write_text("one file more"),
    ):
        change()
        loaded.clear()
        assert summary(evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")) == summary(first)
        assert loaded == [spec]
        loaded.clear()
        evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")  # which remembers it again
        assert loaded == []
    with pytest.raises(ConfigError, match="other settings"):
        evaluate_similarity(few, spec, tmp_path / "scores", ("{}",), "cpu")


def test_model_that_open_clip_finds_by_a_tag_is_remembered_by_its_file(
    few: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    how = {"interpolation": "bicubic", "resize_mode": "shortest"}
    file = tmp_path / "models--timm--vit" / "snapshots" / "abc" / "open_clip_model.safetensors"
    refs = tmp_path / "models--timm--vit" / "refs" / "main"
    for path, text in ((file, "weights"), (refs, "abc")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    built: list[str] = []

    def fake(name: str, **options: Any) -> Any:
        built.append(name)
        torch.manual_seed(0)
        model = open_clip.CLIP(**READER)
        open_clip.set_model_preprocess_cfg(model, {"size": 64, "mean": (0.5,) * 3, "std": (0.25,) * 3} | how)
        return model

    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(file))
    monkeypatch.setattr(open_clip, "create_model", fake)
    spec = "open_clip:ViT-B-32/laion2b_s34b_b79k"
    first = evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")
    assert built == ["ViT-B-32"] * 2  # its texts, and its images
    assert summary(evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")) == summary(first)
    assert len(built) == 2
    refs.write_text("def")  # another revision would be loaded now
    evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")
    assert len(built) == 4


def test_folder_of_other_settings_is_refused_with_the_difference(few: Benchmark, tmp_path: Path) -> None:
    evaluate_similarity(few, "demo:clip", tmp_path, device="cpu")
    kept = (tmp_path / SIMILARITIES).read_bytes()
    with pytest.raises(ConfigError, match=r"other settings \(templates: \['a photo of \{\}'\] there, \['\{\}'\] now\)"):
        evaluate_similarity(few, "demo:clip", tmp_path, ("{}",), "cpu")
    fewer = replace(few, pairs=few.pairs[1:])
    with pytest.raises(ConfigError, match=f"fingerprint: {few.fingerprint} there, {fewer.fingerprint} now"):
        evaluate_similarity(fewer, "demo:clip", tmp_path, device="cpu")
    with pytest.raises(InputError, match="another revision of few: evaluate again"):
        read_scores(fewer, tmp_path)
    assert (tmp_path / SIMILARITIES).read_bytes() == kept


def test_other_weights_in_the_same_folder_of_a_model_are_measured_anew(few: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    spec = f"open_clip:local-dir:{save_open_clip(tmp_path / 'model', READER, OPENAI)}"
    evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")
    from safetensors.torch import load_file, save_file

    file = tmp_path / "model" / "open_clip_model.safetensors"
    weights = load_file(file)
    weights["visual.proj"] += 0.01
    save_file(weights, file)
    with pytest.raises(ConfigError, match=r"images\.weights_hash"):
        evaluate_similarity(few, spec, tmp_path / "scores", device="cpu")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, few: Benchmark) -> list[str]:
    """Models of three libraries' architectures with random weights."""
    folders = [tmp_path_factory.mktemp(name) for name in ("open_clip", "clip", "siglip2")]
    save_open_clip(folders[0], READER, OPENAI)
    save_clip_with_tokenizer(folders[1])
    words = save_gemma_tokenizer(folders[2], [pair.statement_a for pair in few.pairs])
    save_small_siglip(folders[2], words)
    return [f"open_clip:local-dir:{folders[0]}", f"hf:{folders[1]}", f"hf:{folders[2]}"]


def test_three_kinds_of_models_stand_in_one_table(few: Benchmark, three: list[str], tmp_path: Path) -> None:
    models = [evaluate_similarity(few, spec, tmp_path / str(n), device="cpu") for n, spec in enumerate(three)]
    header, rows = table(models)
    assert header[3:12] == tuple(NINE)
    assert [row[:2] for row in rows] == [(spec, "64") for spec in three]
    for row, one in zip(rows, models, strict=True):
        image = one.overall.image
        assert (image.count, row[-2]) == (18, f"{image.hits}/18")
        assert float(row[-3]) == round(100 * image.hits / 18, 1)  # the mean of equal patterns is that of all pairs
        assert one.controls is not None
        assert one.controls.image.count == 6


def test_similarities_are_the_cosines_of_both_towers(few: Benchmark, three: list[str], tmp_path: Path) -> None:
    from blindpairs.encoders import load_encoder, load_text_encoder
    from blindpairs.images import Limits
    from blindpairs.images.decode import decode_pixels

    evaluate_similarity(few, three[1], tmp_path, ("a photo of {}", "{}"), "cpu")
    kept = read_similarities(tmp_path)
    images, texts = load_encoder("clip", three[1]), load_text_encoder(three[1])
    bytes_of = dict(few.images(few.image_ids))
    for place in (0, len(few.pairs) - 1):
        pair = few.pairs[place]
        squares = []
        for key in pair.image_ids:
            data = bytes_of[key]
            assert isinstance(data, bytes)
            squares.append(torch.from_numpy(images.preprocess.apply(decode_pixels(data, Limits())[0])))
        said = texts.encode([f"a photo of {pair.statement_a}", f"a photo of {pair.statement_b}"])
        theirs = (said @ images.encode(torch.stack(squares)).T).numpy()
        assert kept.pair_ids[place] == pair.pair_id
        np.testing.assert_allclose(kept.blocks["a photo of {}"][place], theirs, atol=1e-6)


def category_pairs(demo: Benchmark) -> Benchmark:
    """Pairs of scenes whose statements name what the demo's captions name: the category, and nothing else."""
    blind = [pair for pair in demo.pairs if pair.control_of is None]
    words = [(pair.image_id_a, word) for pair in blind for word in pair.statement_a.split()]
    named = [(image, f"a {word}") for image, word in words if word in CATEGORIES]
    pairs = [
        BenchmarkPair(f"{a}{b}", a, b, statement_a=one, statement_b=other)
        for (a, one), (b, other) in zip(named[::2], named[1::2], strict=False)
        if one != other
    ]
    return replace(demo, name="categories", pairs=tuple(pairs))


def test_demo_clip_tells_what_its_captions_name_and_only_guesses_the_rest(
    demo: Benchmark, evaluated: SimilarityScores, tmp_path: Path
) -> None:
    named = evaluate_similarity(category_pairs(demo), "demo:clip", tmp_path, device="cpu").overall
    assert named.image.count > 30
    assert named.image.share > 0.9
    # To it the statements of a blind pair are one statement, which goes to one image: see matching.py.
    low, high = evaluated.overall.match.interval or (1, 0)
    assert low < 0.5 < high
    assert evaluated.overall.confusion.share > 0.8
    assert evaluated.overall.image.share < 0.25


def test_patterns_controls_and_all_pairs_count_each_pair_where_it_belongs(
    demo: Benchmark, evaluated: SimilarityScores
) -> None:
    assert list(evaluated.patterns) == NINE
    assert {one.image.count for one in evaluated.patterns.values()} == {16}
    assert sum(one.image.hits for one in evaluated.patterns.values()) == evaluated.overall.image.hits
    assert evaluated.controls is not None
    assert evaluated.gain is not None
    assert (evaluated.controls.image.count, evaluated.gain.count) == (144, 144)
    shares = evaluated.controls.image.share - evaluated.overall.image.share
    assert evaluated.gain.difference == pytest.approx(shares)
    low, high = evaluated.gain.interval or (1, 0)
    assert low <= evaluated.gain.difference <= high
    assert evaluated.without_statements == 0


def test_images_are_compared_in_float32_on_any_device(few: Benchmark, tmp_path: Path) -> None:
    scores = evaluate_similarity(few, "demo:clip", tmp_path, device="auto")
    assert scores.similarities.settings["images"]["precision"] == "float32"


def test_wordings_are_scored_apart_and_their_spread_is_said(few: Benchmark, tmp_path: Path) -> None:
    templates = ("a photo of {}", "{}", "there is {}")
    scores = evaluate_similarity(few, "demo:clip", tmp_path, templates, "cpu")
    blind = [place for place, pair in enumerate(few.pairs) if pair.control_of is None]
    for template in templates:
        assert scores.wordings[template] == score_blocks(scores.similarities.blocks[template][blind])
    shares = [one.image.share for one in scores.wordings.values()]
    assert scores.spread == (min(shares), max(shares))
    assert f"  over 3 wordings: {100 * min(shares):.1f} to {100 * max(shares):.1f} %" in describe(scores)


class Broken:
    """Reads the images of a benchmark, but for one that is missing and one that is no image."""

    def __init__(self, benchmark: Benchmark, missing: str, damaged: str) -> None:
        self._benchmark, self._missing, self._damaged = benchmark, missing, damaged

    def __call__(self, image_ids: Collection[str]) -> Iterator[tuple[str, bytes | Undecodable]]:
        for key, data in self._benchmark.images(image_ids):
            gone = Undecodable("missing", "no image with this id")
            yield key, gone if key == self._missing else b"text" if key == self._damaged else data


def test_image_that_cannot_be_read_names_its_pair_and_nothing_is_written(few: Benchmark, tmp_path: Path) -> None:
    broken = replace(few, images=Broken(few, few.pairs[2].image_id_b, few.pairs[5].image_id_a))
    message = f"2 of {len(few.image_ids)} images cannot be compared, such as one of pair {few.pairs[2].pair_id} "
    with pytest.raises(InputError, match=rf"{message}\(no image with this id\): restore them"):
        evaluate_similarity(broken, "demo:clip", tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (("a photo",), r"the template 'a photo' must have one \{\}, for the statement: 'a photo of \{\}'"),
        (("{} and {}",), r"the template '\{\} and \{\}' must have one \{\}"),
        (("{}", "{}"), "give at least one template, and each once"),
        ((), "give at least one template, and each once"),
    ],
)
def test_wrong_templates_are_refused(few: Benchmark, tmp_path: Path, templates: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_similarity(few, "demo:clip", tmp_path, templates, "cpu")


def test_pairs_without_statements_are_counted_and_a_benchmark_of_them_is_refused(
    few: Benchmark, tmp_path: Path
) -> None:
    without = [replace(pair, statement_a="", statement_b="") for pair in few.pairs[:4]]
    scores = evaluate_similarity(replace(few, pairs=(*without, *few.pairs[4:])), "demo:clip", tmp_path, device="cpu")
    assert (scores.overall.image.count, scores.without_statements) == (14, 4)
    assert "  left out, without statements: 4 pairs" in describe(scores)
    with pytest.raises(InputError, match="few has no pair with two statements, which a CLIP-style model compares"):
        evaluate_similarity(replace(few, pairs=tuple(without)), "demo:clip", tmp_path / "none", device="cpu")


def test_statement_with_braces_stays_as_it_is() -> None:
    assert filled("a photo of {}", "a {curly} sign with {0}") == "a photo of a {curly} sign with {0}"
