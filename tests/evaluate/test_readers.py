"""Readers: what another harness gets wrong it gets wrong here, ours does not, and each difference has its reason."""

import random
from dataclasses import replace

import pytest
from asked_pairs import OPEN, answers_of, benchmark_of, one_answer

from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.as_cambrian import shown_options
from blindpairs.evaluate.as_lmms_eval import mmvp_options
from blindpairs.evaluate.readers import READERS, explain, read_with
from blindpairs.evaluate.verdicts import Judging, harness_numbers

A, B = 0, 1
YES, RIGHT = ("Yes", "No"), ("Left", "Right")


@pytest.mark.parametrize(
    ("reader", "text", "options", "truth", "outcomes", "reason"),
    [
        ("lmms-eval", "From the camera perspective it is (b)", OPEN, B, ("right", "wrong"), "letter_in_word"),
        ("lmms-eval", "A dog facing right, so (b) Right", RIGHT, B, ("right", "wrong"), "article"),
        ("lmms-eval", "It is a closed wing. **B**", OPEN, B, ("right", "wrong"), "article"),
        ("lmms-eval", "The correct answer is a closed wing, so B.", OPEN, B, ("right", "wrong"), "article"),
        ("lmms-eval", "Closed", OPEN, B, ("right", "unreadable"), "no_letter"),
        ("lmms-eval", "both are closed or open", OPEN, B, ("unreadable", "right"), "first_character"),
        ("lmms-eval-shared", "(b)", OPEN, B, ("right", "unreadable"), "no_letter"),
        ("lmms-eval-shared", "A butterfly, so (B)", OPEN, B, ("right", "wrong"), "start"),
        ("lmms-eval-shared", "Black", ("White", "Black"), B, ("right", "right"), ""),
        ("lmms-eval-shared", "Blue", ("White", "Black"), B, ("unreadable", "right"), "fallback"),
        ("vlmevalkit", "(b)", OPEN, B, ("right", "unreadable"), "no_letter"),
        ("vlmevalkit", "b", OPEN, B, ("right", "unreadable"), "no_letter"),
        ("vlmevalkit", "(b) Closed", OPEN, B, ("right", "right"), ""),
        ("vlmevalkit", "I think A or B", OPEN, B, ("unreadable", "unreadable"), ""),
        ("vlmevalkit", "Not sure", YES, B, ("unreadable", "right"), "text_in_word"),
        ("vlmevalkit", "B is what I would say here", OPEN, B, ("right", "unreadable"), "letter_too_early"),
        ("vlmevalkit", "A big dog", ("cat", "dog"), B, ("right", "wrong"), "article"),
        ("vlmevalkit", "None", ("One", "None"), B, ("right", "unreadable"), "no_letter"),
        ("vlmevalkit", "It is closed, as far as anyone could say", OPEN, B, ("right", "unreadable"), "too_long"),
        ("cambrian", "(a) Open", OPEN, A, ("right", "unreadable"), "more_than_the_option"),
        ("cambrian", "The answer is: b.", OPEN, B, ("right", "unreadable"), "more_than_the_option"),
        ("cambrian", "**B**", OPEN, B, ("right", "unreadable"), "more_than_the_option"),
        ("cambrian", "a", ("T", "A"), A, ("unreadable", "right"), "letter"),
        ("cambrian", "a", ("T", "A"), B, ("unreadable", "right"), "text"),
        ("naturalbench", "A dog facing right, so B", RIGHT, B, ("right", "wrong"), "article"),
        ("naturalbench", "There is no doubt: yes", YES, A, ("unreadable", "wrong"), "first_of_both"),
        ("mediconfusion", "(B)", OPEN, B, ("right", "unreadable"), "no_letter"),
        ("mediconfusion", "A wing. B", OPEN, B, ("right", "unreadable"), "both_letters"),
    ],
)
def test_defect_of_another_reader_is_reproduced_and_is_none_of_ours(
    reader: str, text: str, options: tuple[str, str], truth: int, outcomes: tuple[str, str], reason: str
) -> None:
    benchmark, answers = one_answer(text, options, truth)
    got = [(one.ours.outcome, one.theirs.outcome, one.reason) for one in explain(reader, benchmark, answers)]
    (verdict,) = read_with(reader, benchmark, answers).verdicts.values()
    assert verdict.outcome == outcomes[1]
    assert got == ([(*outcomes, reason)] if reason else [])


def test_official_judge_that_says_yes_with_a_full_stop_counts_as_wrong() -> None:
    benchmark = benchmark_of([OPEN] * 3)
    answers = answers_of(benchmark, "ababab")
    said = ("yes", "YES", "Yes.", "yes", "yes\n", "no")
    replies = {answer.key: reply for answer, reply in zip(answers, said, strict=True)}
    judging = Judging(lambda one, attempt: replies[one.key])
    got = read_with("official", benchmark, answers, judging)
    assert [one.outcome for one in got.verdicts.values()] == [
        *("right", "right", "unreadable", "right", "wrong", "wrong")
    ]
    assert got.headline == {"accuracy": 1 / 3}
    assert got.notes == ('2 replies are not the word yes or no alone, such as "Yes.", and count as wrong.',)
    assert read_with("ours", benchmark, answers).headline["pair_accuracy"] == 1.0
    assert [one.reason for one in explain("official", benchmark, answers, judging)] == [
        *("not_the_word_alone", "not_the_word_alone", "judge")
    ]
    with pytest.raises(InputError, match="need a judge's replies"):
        read_with("official", benchmark, answers)


def test_options_with_brackets_are_lost_by_lmms_eval_and_cambrian() -> None:
    assert mmvp_options("(a) 3 (three) (b) 4") == ["4"]
    assert mmvp_options("(a) T-shirt (red) (b) T-shirt (blue)") == []
    assert shown_options(("T-shirt (red)", "T-shirt (blue)")) == ["T-shirt", "", "T-shirt", ""]
    benchmark = benchmark_of([("T-shirt (red)", "T-shirt (blue)")])
    answers = answers_of(benchmark, ["T-shirt (red)", "T-shirt (blue)"])
    assert read_with("ours", benchmark, answers).headline["pair_accuracy"] == 1.0
    assert read_with("lmms-eval", benchmark, answers).notes == (
        "The prompt of mmvp shows other options for 1 pairs, such as [] for pair 0000000000000000.",
    )
    # An empty answer is what Cambrian takes for the text of (b).
    empty = read_with("cambrian", benchmark, answers_of(benchmark, ["", ""])).verdicts
    assert [verdict.outcome for verdict in empty.values()] == ["wrong", "right"]
    smiling = benchmark_of([("smile :(", "frown")])
    got = read_with("cambrian", smiling, answers_of(smiling, ["a", "b"]))
    assert (got.headline, got.notes) == (
        {},
        ("Cambrian stops with an error: it cannot cut the options of 2 questions.",),
    )


def test_lmms_eval_pairs_a_table_that_counts_from_0_wrongly() -> None:
    benchmark = benchmark_of([OPEN] * 3)
    pairs = tuple(
        replace(pair, source_id_a=str(2 * place), source_id_b=str(2 * place + 1))
        for place, pair in enumerate(benchmark.pairs)
    )
    from_zero = replace(benchmark, pairs=pairs)
    got = read_with("lmms-eval", from_zero, answers_of(benchmark, "aaabab"))
    # Its pairs are [0, 0, 0, 1, 1, 2]: only rows 3 and 4 are two, and they are of two pairs.
    assert got.headline == {"mmvp_accuracy": 5 / 6, "mmvp_pair_accuracy": 1.0}
    assert got.notes == (
        "lmms-eval drops 2 pairs that are not two rows, and divides by the others.",
        "lmms-eval pairs rows by their number: 2 of its pairs hold questions of several.",
    )


def test_lmms_eval_drops_half_pairs_from_its_denominator_and_ours_refuses() -> None:
    benchmark = benchmark_of([OPEN] * 3, sources=False)
    answers = answers_of(benchmark, "abab" + "a")
    got = read_with("lmms-eval", benchmark, answers)
    assert got.headline == {"mmvp_accuracy": 1.0, "mmvp_pair_accuracy": 1.0}
    assert got.notes == ("lmms-eval drops 1 pairs that are not two rows, and divides by the others.",)
    with pytest.raises(InputError, match="1 answers of 1 pairs are missing"):
        read_with("ours", benchmark, answers)


def test_cambrian_counts_parity_so_a_missing_line_shifts_all_pairs() -> None:
    benchmark = benchmark_of([OPEN] * 3)
    answers = answers_of(benchmark, "bbabab")  # the first is wrong, the others are right
    assert read_with("cambrian", benchmark, answers).headline == {"total": 6.0, "correct": 4.0, "accuracy": 400 / 6}
    shifted = read_with("cambrian", benchmark, [answers[0], *answers[2:]])
    assert shifted.headline == {"total": 5.0, "correct": 3.0, "accuracy": 60.0}
    assert shifted.notes == (
        "Cambrian takes two lines for a pair, and 2 of 2 such are of two pairs.",
        "Cambrian takes two lines for a pair, and the number of lines is odd.",
    )
    with pytest.raises(InputError, match="missing"):
        read_with("ours", benchmark, [answers[0], *answers[2:]])


def test_lines_are_those_of_the_questions_or_on_request_of_the_file() -> None:
    benchmark = benchmark_of([OPEN] * 2)
    a, b, c, d = answers_of(benchmark, ["a", "b", "b", "a"])  # right, right; wrong, wrong
    judging = Judging(lambda one, attempt: "yes" if one.text == "ab"[one.truth] else "no")
    for reader, whole, mixed in (("cambrian", 50.0, 0.0), ("official", 0.5, 0.0)):
        assert read_with(reader, benchmark, [a, c, b, d], judging).headline["accuracy"] == whole
        got = read_with(reader, benchmark, [a, c, b, d], judging, in_file_order=True)
        assert got.headline["accuracy"] == mixed
        assert "takes two lines for a pair, and 2 of 2 such are of two pairs." in got.notes[0]


def test_vlmevalkit_reports_question_accuracy_as_average_and_pairs_as_overall() -> None:
    benchmark = benchmark_of([OPEN] * 4)
    answers = answers_of(benchmark, ["A", "B", "A", "A", "Open", "B", "B", "A"])
    random.Random(1).shuffle(answers)  # it sorts by index
    assert read_with("vlmevalkit", benchmark, answers).headline == {"Average": 5 / 8, "Overall": 2 / 4}
    in_file_order = read_with("vlmevalkit", benchmark, answers, in_file_order=True)
    assert in_file_order.headline == {"Average": 5 / 8, "Overall": 2 / 4}


def test_vlmevalkit_reports_nothing_where_two_rows_are_of_two_questions() -> None:
    benchmark = benchmark_of([OPEN] * 3)
    answers = answers_of(benchmark, "ABABAB")
    nothing = ("VLMEvalKit reports nothing: its rows are not an even number of which each two ask the same question.",)
    for kept in ([], answers[:-1], [answers[0], *answers[3:]]):
        got = read_with("vlmevalkit", benchmark, kept)
        assert (got.headline, got.notes) == ({}, nothing)
    questions = {pair.pair_id: replace(pair.question, text="The same?") for pair in benchmark.pairs if pair.question}
    same = replace(benchmark, pairs=tuple(replace(one, question=questions[one.pair_id]) for one in benchmark.pairs))
    got = read_with("vlmevalkit", same, [answers[0], *answers[3:]])
    assert got.headline == {"Average": 1.0, "Overall": 1.0}
    assert got.notes == ("VLMEvalKit takes neighbouring rows for a pair: 1 of its pairs hold questions of two.",)


def test_questions_without_numbers_in_their_source_are_numbered_by_place() -> None:
    benchmark = benchmark_of([OPEN] * 2)
    renamed = replace(benchmark.pairs[1], source_id_a="controls/1", source_id_b="controls/2")
    assert harness_numbers(replace(benchmark, pairs=(renamed, benchmark.pairs[0]))) == {
        **{(renamed.pair_id, "a"): 1, (renamed.pair_id, "b"): 2},
        **{(benchmark.pairs[0].pair_id, "a"): 3, (benchmark.pairs[0].pair_id, "b"): 4},
    }
    assert harness_numbers(replace(benchmark, pairs=benchmark.pairs[::-1]))[renamed.pair_id, "b"] == 4


def test_vlmevalkit_draws_lots_where_its_judge_fails_and_they_are_marked() -> None:
    benchmark = benchmark_of([OPEN] * 100)
    answers = answers_of(benchmark, ["I cannot tell"] * 200)
    assert read_with("vlmevalkit", benchmark, answers).headline == {"Average": 0.0, "Overall": 0.0}
    got = read_with("vlmevalkit", benchmark, answers, Judging(seed=7))
    assert got == read_with("vlmevalkit", benchmark, answers, Judging(seed=7))
    assert got != read_with("vlmevalkit", benchmark, answers, Judging(seed=8))
    assert {verdict.reason for verdict in got.verdicts.values()} == {"random"}
    assert {verdict.option for verdict in got.verdicts.values()} == {0, 1, None}
    assert got.notes[0].startswith("200 of 200 answers were drawn by lot (seed 7)")
    assert {one.reason for one in explain("vlmevalkit", benchmark, answers, Judging(seed=7))} == {"random"}


def test_vlmevalkit_asks_its_judge_three_times_only_where_its_rules_find_nothing() -> None:
    benchmark = benchmark_of([OPEN])
    asked = []

    def reply(one: object, attempt: int) -> str:
        asked.append(attempt)
        return ["Failed to obtain answer via API", "who knows", "B"][attempt]

    got = read_with("vlmevalkit", benchmark, answers_of(benchmark, ["A", "b"]), Judging(reply))
    assert [(one.outcome, one.reason) for one in got.verdicts.values()] == [("right", "letter"), ("right", "judge")]
    assert asked == [0, 1, 2]


def test_naturalbench_needs_four_answers_of_each_pair() -> None:
    benchmark = benchmark_of([OPEN, OPEN], second=True)
    keys = [(pair.pair_id, side, which) for pair in benchmark.pairs for which in ("first", "second") for side in "ab"]
    answers = [Answer(key, text) for key, text in zip(keys, ["A", "B", "B", "A", "A", "B", "A", "A"], strict=True)]  # type: ignore[arg-type]
    got = read_with("naturalbench", benchmark, answers)
    assert got.headline == {"Q_Acc": 3 / 4, "I_Acc": 3 / 4, "Acc": 7 / 8, "G_Acc": 1 / 2}
    ours = read_with("ours", benchmark, answers).headline
    assert ours["group_accuracy"] == 1 / 2
    assert read_with("naturalbench", benchmark, answers[:-1]).headline == {}


def test_mediconfusion_counts_confusion_of_valid_pairs() -> None:
    benchmark = benchmark_of([OPEN] * 3)
    got = read_with("mediconfusion", benchmark, answers_of(benchmark, ["A", "B", "A", "A", "(a)", "B"]))
    assert got.headline == {
        "Set acc.": 33.33,
        "Individual acc.": 66.67,
        "Confused acc.": 50.0,
        "Invalid acc.": 16.67,
    }


def test_unknown_reader_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no reader 'gpt': choose one of ours, lmms-eval, "):
        read_with("gpt", benchmark_of([OPEN]), [])


def test_our_score_depends_on_no_order_and_a_doubled_answer_counts_once() -> None:
    benchmark = benchmark_of([OPEN] * 40)
    draw = random.Random(3)
    answers = answers_of(benchmark, [draw.choice(["a", "(b)", "closed", "?"]) for _ in range(80)])
    expected = read_with("ours", benchmark, answers).headline
    for _ in range(5):
        draw.shuffle(answers)
        others = [Answer(("f" * 16, "a", "first"), "a"), *answers[:7]]
        assert read_with("ours", benchmark, [*answers, *others]).headline == expected
    wrong = Answer(answers[3].key, answers[3].text + "!")
    with pytest.raises(InputError, match=f"lines 4 and 81 are different answers to .* of pair {answers[3].key[0]}"):
        read_with("ours", benchmark, [*answers, wrong])
    for missing in (0, 17, 79):
        with pytest.raises(InputError, match=answers[missing].key[0]):
            read_with("ours", benchmark, answers[:missing] + answers[missing + 1 :])


def test_no_text_stops_a_reader_or_is_read_in_two_ways() -> None:
    draw = random.Random(11)
    letters = [*"aAbBZ (){}[].,:;*#\"'\\\n\t<>", "answer is", "Yes", "no", "\x00", "\ud800", "İ", "左", "答案是", "😀"]
    texts = ["".join(draw.choices(letters, k=draw.randrange(30))) for _ in range(10_000)]
    options = [(draw.choice(texts)[:9] + "x", draw.choice(texts)[:9] + "y") for _ in range(5_000)]
    benchmark = benchmark_of(options)
    answers = answers_of(benchmark, texts)
    judging = Judging(lambda one, attempt: one.text[attempt:], seed=1)
    for reader in READERS:
        got = read_with(reader, benchmark, answers, judging)
        assert len(got.verdicts) == 10_000
        assert {one.outcome for one in got.verdicts.values()} <= {"right", "wrong", "unreadable"}
        assert {len(one.reason.split()) for one in got.verdicts.values()} == {1}
        # In another order, and without the others, it is the same.
        some = {one.answered.key: one.theirs for one in explain(reader, benchmark, answers[399::-1], judging)}
        assert some == {key: got.verdicts[key] for key in some}
