"""From specs to scores: baselines, local and served models, recorded and imported answers, by any ground truth."""

import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pictured_pairs import benchmark_of
from scripted_models import Model

from blindpairs.benchmark import Benchmark, Question
from blindpairs.errors import InputError
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.asking import FREE_FORM, LMMS_EVAL, OURS
from blindpairs.evaluate.results import recorded_answers
from blindpairs.evaluate.session import Asked, Entry, Rules, Session
from blindpairs.vlm import Answerer, Cache, open_cache, open_model


@pytest.fixture
def cache() -> Iterator[Cache]:
    with open_cache(None) as opened:
        yield opened


def refuse(spec: str) -> Answerer:
    raise AssertionError(f"nobody may open {spec}")


def session(
    folder: Path, benchmark: Benchmark, cache: Cache, opened: Callable[[str], Answerer] = refuse, truth: str = ""
) -> Session:
    by = benchmark.with_ground_truth(truth) if truth else None
    return Session(folder, benchmark, Conditions(cache), opened, by)


def scored(run: Session, *specs: str, rules: Rules | None = None, swap: bool = False) -> list[Entry]:
    entries = [
        run.answer(Asked(spec, OURS, other)) for spec in specs for other in ((False, True) if swap else (False,))
    ]
    run.score(entries, rules or Rules())
    return entries


def test_baselines_are_scored_without_a_model_or_an_image(tmp_path: Path, cache: Cache) -> None:
    guesses, first = scored(session(tmp_path, benchmark_of(40), cache), "random", "first")
    assert first.summary
    assert first.summary.blind
    assert guesses.summary
    assert guesses.summary.blind
    assert (first.summary.blind.pair_accuracy.hits, first.summary.blind.question_accuracy.hits) == (0, 40)
    assert (first.summary.blind.confusion.hits, first.summary.blind.first_option.hits) == (40, 80)
    assert guesses.summary.blind.invalid.hits == 0
    assert 0 < guesses.summary.blind.pair_accuracy.hits < 40


def test_scores_are_beside_the_answers(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(3)
    (entry,) = scored(session(tmp_path, benchmark, cache), "random")
    assert entry.folder.parent == tmp_path / f"doors-{benchmark.fingerprint[:8]}"
    written = json.loads((entry.folder / "scores.json").read_text())
    assert entry.summary
    assert written["scores"] == json.loads(json.dumps(entry.summary.fields()["scores"]))
    assert (written["schema_version"], written["complete"], written["answered_now"]) == (1, True, 12)


def test_local_model_and_the_same_behind_a_server_say_the_same(
    tmp_path: Path, cache: Cache, llava: Path, served: str
) -> None:
    benchmark = benchmark_of(4)
    run = session(tmp_path, benchmark, cache, partial(open_model, work=tmp_path))
    entries = [run.answer(Asked(spec, LMMS_EVAL)) for spec in (f"hf:{llava}", served)]
    run.score(entries, Rules())
    local, remote = ({one.key: one.text for one in recorded_answers(entry.folder)} for entry in entries)
    assert local == remote
    assert len(local) == 16
    assert len(set(local.values())) > 2  # it sees the images
    assert [entry.report and dict(entry.report.failures) for entry in entries] == [{}, {}]
    one, other = (entry.summary for entry in entries)
    assert one
    assert other
    assert one.complete
    assert one.blind == other.blind


def test_local_model_without_the_image_says_the_same_about_both(tmp_path: Path, cache: Cache, llava: Path) -> None:
    run = session(tmp_path, benchmark_of(2), cache, partial(open_model, work=tmp_path))
    entry = run.answer(Asked(f"blind:hf:{llava}", LMMS_EVAL))
    said = {one.key: one.text for one in recorded_answers(entry.folder)}
    assert len(said) == 8
    assert all(said[key] == said[(key[0], "b", key[2])] for key in said)


def test_model_is_opened_once_for_all_that_it_is_asked(tmp_path: Path, cache: Cache) -> None:
    opened: list[str] = []

    def open_it(spec: str) -> Answerer:
        opened.append(spec)
        return Model()

    run = session(tmp_path, benchmark_of(2), cache, open_it)
    scored(run, "test:x", "blind:test:x", swap=True)
    assert opened == ["test:x"]


def test_models_are_opened_one_after_the_other(tmp_path: Path, cache: Cache) -> None:
    alive: list[weakref.ref[Model]] = []

    def open_it(spec: str) -> Answerer:
        assert [model for model in alive if model()] == []
        model = Model(name=spec)
        alive.append(weakref.ref(model))
        return model

    run = session(tmp_path, benchmark_of(2), cache, open_it)
    for entry in [run.answer(Asked(spec)) for spec in ("test:x", "test:y", "test:z")]:
        assert entry.report
        assert entry.report.answered == 8
    assert len(alive) == 3


def test_both_orders_are_compared_whichever_is_scored_first(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(4)
    run = session(tmp_path, benchmark, cache, lambda _: Model(lambda _: "(b)"))
    given, other = scored(run, "test:x", swap=True)
    assert given.both_orders is None
    assert other.both_orders
    assert (other.both_orders.same_option.hits, other.both_orders.same_option.count) == (0, 8)
    found = session(tmp_path, benchmark, cache).recorded([])
    session(tmp_path, benchmark, cache).score(found[::-1], Rules())
    assert [entry.both_orders for entry in found if entry.setup.exchanged] == [other.both_orders]


def test_recorded_answers_are_scored_again_without_their_model(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(5)
    (before,) = scored(session(tmp_path, benchmark, cache, lambda _: Model()), "test:x")
    again = session(tmp_path, benchmark, cache)
    (named,) = scored(again, f"recorded:{before.folder.name}")
    (listed,) = again.recorded([])
    again.score([listed], Rules())
    assert named.summary == listed.summary == before.summary
    assert again.recorded([before.folder]) == []


def test_recorded_answers_are_listed_by_model_and_order_whatever_their_hashes(tmp_path: Path, cache: Cache) -> None:
    run = session(tmp_path, benchmark_of(1), cache, lambda spec: Model(name=spec))
    names = [f"test:{number:02d}" for number in range(30)]
    scored(run, *names[::-1], swap=True)
    listed = [(entry.setup.model, entry.setup.exchanged) for entry in run.recorded([])]
    assert listed == [(name, other) for name in names for other in (False, True)]


def test_answers_to_another_revision_are_refused_wherever_their_folder_is(tmp_path: Path, cache: Cache) -> None:
    before = benchmark_of(2, second=None)
    pairs = [replace(one, question=Question("Open?", ("Yes", "No"), (0, 1))) for one in before.pairs]
    now = replace(before, pairs=tuple(pairs))
    (entry,) = scored(session(tmp_path, before, cache), "first")
    later = session(tmp_path, now, cache)
    shutil.copytree(entry.folder.parent, later.folder)
    for refused in (
        lambda: later.recorded([]),
        lambda: later.answer(Asked(f"recorded:{entry.folder.name}")),
        lambda: later.answer(Asked("first")),
    ):
        with pytest.raises(InputError, match=f"another revision \\({before.fingerprint}, now {now.fingerprint}\\)"):
            refused()


def test_answers_of_another_model_or_way_of_asking_never_count_for_a_folder(tmp_path: Path, cache: Cache) -> None:
    run = session(tmp_path, benchmark_of(2, second=None), cache, lambda _: Model())
    first, guesses, given, other = [*scored(run, "first", "random"), *scored(run, "test:x", swap=True)]
    for entry, source, name in ((first, guesses, "kind"), (given, other, "exchanged")):
        kept = (entry.folder / "answers.jsonl").read_text()
        foreign = (source.folder / "answers.jsonl").read_text().splitlines(keepends=True)
        (entry.folder / "answers.jsonl").write_text("".join(foreign[:1]))
        scores = (entry.folder / "scores.json").read_bytes()
        with pytest.raises(InputError, match=f"that was given under another {name}"):
            run.score([entry], Rules())
        assert (entry.folder / "scores.json").read_bytes() == scores
        (entry.folder / "answers.jsonl").write_text(kept)
        run.score([entry], Rules())


def test_damaged_list_of_unanswered_questions_is_an_error_that_names_it(tmp_path: Path, cache: Cache) -> None:
    run = session(tmp_path, benchmark_of(2, second=None), cache)
    (first,) = scored(run, "first")
    for damaged in ('{"questions": [{"key": 1}]}', "{}", '{"questions": 3}', '{"questions": [{"key": ["a"]}]}'):
        (first.folder / "unanswered.json").write_text(damaged)
        with pytest.raises(InputError, match=r"unanswered\.json is damaged"):
            run.score([first], Rules())


def test_another_ground_truth_asks_nothing_and_leaves_the_first_scores(tmp_path: Path, cache: Cache) -> None:
    made = benchmark_of(3, second=None)
    benchmark = replace(made, corrections={"corrected": {made.pairs[0].pair_id: (1, 0)}})
    model = Model(lambda ask: "(a)")
    (given,) = scored(session(tmp_path, benchmark, cache, lambda _: model), "test:x")
    (other,) = scored(session(tmp_path, benchmark, cache, lambda _: model, "corrected"), "test:x")
    assert len(model.asked) == 6
    assert given.folder == other.folder
    files = {path.name: json.loads(path.read_text()) for path in given.folder.glob("scores*.json")}
    assert {name: fields["benchmark"]["ground_truth"] for name, fields in files.items()} == {
        "scores.json": "original",
        "scores-corrected.json": "corrected",
    }


def test_readers_give_their_numbers_and_their_differences(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(2, second=None)
    run = session(tmp_path, benchmark, cache, lambda _: Model(lambda _: "From the camera it is (b)"))
    (entry,) = scored(run, "test:x", rules=Rules(("lmms-eval", "cambrian"), explain=True))
    assert [(one.reader, dict(one.headline)) for one in entry.readouts] == [
        ("lmms-eval", {"mmvp_accuracy": 0.5, "mmvp_pair_accuracy": 0.0}),
        ("cambrian", {"total": 4.0, "correct": 0.0, "accuracy": 0.0}),
    ]
    assert {name: len(some) for name, some in entry.differences.items()} == {"lmms-eval": 4, "cambrian": 4}
    written = json.loads((entry.folder / "scores.json").read_text())
    assert written["readers"]["lmms-eval"]["scores"] == {"mmvp_accuracy": 0.5, "mmvp_pair_accuracy": 0.0}


def test_official_numbers_come_from_recorded_replies_of_the_judge(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(2, second=None)
    replies = tmp_path / "replies.jsonl"
    rows = [
        {"pair_id": pair.pair_id, "side": side, "which": "first", "replies": ["no" if place else "yes"]}
        for place, pair in enumerate(benchmark.pairs)
        for side in "ab"
    ]
    replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (entry,) = scored(session(tmp_path, benchmark, cache), "first", rules=Rules(("official",), judge=str(replies)))
    assert [(one.reader, dict(one.headline)) for one in entry.readouts] == [("official", {"accuracy": 0.5})]


def test_answers_without_options_are_read_by_the_judge_and_by_its_recorded_verdicts(
    tmp_path: Path, cache: Cache
) -> None:
    benchmark = benchmark_of(2, second=None)
    models = {"test:x": Model(lambda _: "ajar"), "test:judge": Model(lambda _: "(a)", "judge")}
    run = session(tmp_path, benchmark, cache, models.__getitem__)
    entry = run.answer(Asked("test:x", FREE_FORM))
    run.score([entry], Rules(judge="test:judge"))
    assert entry.summary
    assert entry.summary.blind
    assert (entry.summary.blind.question_accuracy.hits, entry.summary.reader[:12]) == (2, "judge judge-")
    later = session(tmp_path, benchmark, cache)
    (found,) = later.recorded([])
    later.score([found], Rules())
    assert found.summary == entry.summary
    verdicts = {(pair.pair_id, side, "first"): "(a)" for pair in benchmark.pairs for side in "ab"}
    for one in (entry, found):
        assert one.verdicts
        assert {answer.key: answer.text for answer in one.verdicts} == verdicts


def test_answers_without_options_or_a_judge_have_no_score(tmp_path: Path, cache: Cache) -> None:
    run = session(tmp_path, benchmark_of(2, second=None), cache, lambda _: Model())
    entry = run.answer(Asked("test:x", FREE_FORM))
    run.score([entry], Rules())
    assert entry.summary
    assert entry.summary.blind is None


def test_foreign_answers_are_taken_over_once_and_read_like_others(tmp_path: Path, cache: Cache) -> None:
    made = benchmark_of(2, second=None)
    numbered = [
        replace(pair, source_id_a=str(2 * place + 1), source_id_b=str(2 * place + 2))
        for place, pair in enumerate(made.pairs)
    ]
    benchmark = replace(made, pairs=tuple(numbered))
    prompt = "Is the door open or closed? (a) Open (b) Closed"
    rows = [
        {"question_id": number, "prompt": prompt, "answer": "(a)(b)"[3 * (1 - number % 2) :][:3], "response": said}
        for number, said in enumerate(["(a)", "(b)", "(a)", "(a)"], start=1)
    ]
    file = tmp_path / "llava.jsonl"
    file.write_text("".join(json.dumps({**row, "answer_id": "x", "model_id": "llava-13b"}) + "\n" for row in rows))
    run = session(tmp_path / "results", benchmark, cache)
    entry = run.import_answers(file, tmp_path)
    run.score([entry], Rules())
    assert entry.summary
    assert entry.summary.blind
    assert (entry.setup.model, entry.setup.asking.name) == ("llava-13b", "imported:official")
    assert (entry.summary.blind.pair_accuracy.hits, entry.summary.blind.question_accuracy.hits) == (1, 3)
    assert run.import_answers(file, tmp_path).folder == entry.folder
    assert len(recorded_answers(entry.folder)) == 4


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("human:ada", InputError, "human:ada: no answers are recorded"),
        ("recorded:x", InputError, "no such folder in .* \\(nothing is recorded there\\)"),
    ],
)
def test_who_is_not_there_is_an_error_that_says_so(
    tmp_path: Path, cache: Cache, spec: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        session(tmp_path, benchmark_of(1), cache).check(spec)
