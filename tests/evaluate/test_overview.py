"""Tables show every number with its interval, and say what is incomplete and what the numbers rest on."""

from dataclasses import replace

from scripted_models import with_controls

from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import LMMS_EVAL, OURS
from blindpairs.evaluate.baselines import UNASKED
from blindpairs.evaluate.overview import aligned, control_table, endings, model_table, pattern_table, provenance, titles
from blindpairs.evaluate.results import Setup
from blindpairs.evaluate.scores import questions_of
from blindpairs.evaluate.summary import Summary, summarise

BENCHMARK = with_controls(4)
RIGHT = {key: question.answers["ab".index(key[1])] for key, question in questions_of(BENCHMARK).items()}


def summary(setup: Setup, wrong: int, *, missing: int = 0, complete_pairs: bool = False) -> Summary:
    """A model that is wrong about the first questions and has no answer to the last."""
    answers = [
        Answer(key, "ab"[1 - right if place < wrong else right]) for place, (key, right) in enumerate(RIGHT.items())
    ]
    return summarise(setup, BENCHMARK, answers[: len(answers) - missing], complete_pairs=complete_pairs)


FIRST = summary(Setup("first", {}, UNASKED), 3)
LLAVA = summary(Setup("org/llava@localhost:8000", {}, OURS), 0)
PARTIAL = summary(Setup("hf:/models/qwen", {}, LMMS_EVAL, exchanged=True), 1, missing=3)


def test_models_stand_below_what_guessing_gives() -> None:
    assert model_table([FIRST, LLAVA, PARTIAL]) == [
        "% of blind pairs                       pairs  questions   same answer   unreadable   first option",
        "guessing, on average                    25.0       50.0          50.0          0.0           50.0",
        "first                          50.0 [15, 85]       62.5  25.0 [5, 70]  0.0 [0, 49]   37.5 [9, 78]",
        "llava (ours)                 100.0 [51, 100]      100.0   0.0 [0, 49]  0.0 [0, 49]  50.0 [15, 85]",
        "qwen, exchanged (lmms-eval)  incomplete: 3 of 16 questions have no answer",
    ]


def test_complete_pairs_are_labelled() -> None:
    part = summary(Setup("hf:/models/qwen", {}, LMMS_EVAL), 1, missing=3, complete_pairs=True)
    assert model_table([part])[2].startswith("qwen (lmms-eval) (6 complete pairs)  75.0 [30, 95]")


def test_controls_stand_beside_blind_pairs_with_the_difference() -> None:
    assert control_table([FIRST, PARTIAL]) == [
        "% right about both images    blind pairs         controls  controls - blind",
        "first                      50.0 [15, 85]  100.0 [51, 100]   +50.0 [-10, 85]",
    ]
    alone = replace(FIRST, controls=None, difference=None)
    assert control_table([alone]) == []


def test_patterns_stand_with_their_counts() -> None:
    assert pattern_table([FIRST, LLAVA, PARTIAL]) == [
        "% of pairs by pattern  n          first     llava (ours)",
        "State and Condition    4  50.0 [15, 85]  100.0 [51, 100]",
    ]
    assert pattern_table([PARTIAL]) == []


def test_every_protocol_is_shown_once_with_its_decoding() -> None:
    assert provenance([FIRST, LLAVA, LLAVA, PARTIAL]) == [
        f"asked as ours ({OURS.hash[:8]}), greedy, at most 512 tokens",
        f"asked as lmms-eval ({LMMS_EVAL.hash[:8]}), greedy, at most 16 tokens",
        "read by blindpairs' own rule",
    ]


def test_columns_are_aligned_and_a_short_row_does_not_widen_them() -> None:
    rows = [("a", "bb", "c"), ("long", "1", "22"), ("x", "a long sentence about x")]
    assert aligned(rows) == ["a     bb   c", "long   1  22", "x     a long sentence about x"]


def test_models_of_one_name_are_told_apart_by_their_folders() -> None:
    other = replace(LLAVA, setup=replace(LLAVA.setup, model="hf:/models/llava", settings={"weights": "others"}))
    names = [f"llava (ours) {one.setup.folder_name[-8:]}" for one in (LLAVA, other)]
    assert titles([FIRST, LLAVA, other]) == ["first", *names]
    assert [line.split("  ")[0] for line in model_table([FIRST, LLAVA, other])[3:]] == names


def test_names_of_models_neither_begin_rows_nor_command_a_terminal() -> None:
    hostile = replace(LLAVA, setup=replace(LLAVA.setup, model="x\nguessing 99.9 \x1b[31m\u202e"))
    assert titles([hostile]) == [r"x\nguessing 99.9 \x1b[31m\u202e (ours)"]
    assert len(model_table([hostile])) == 3


def test_every_table_says_which_scores_are_of_complete_pairs_alone() -> None:
    some = summary(Setup("m", {}, OURS), 0, missing=9, complete_pairs=True)  # no control, and one blind pair less
    part = "m (ours) (3 complete pairs)"
    assert model_table([some])[2].startswith(part)
    assert pattern_table([LLAVA, some])[0].endswith(f"llava (ours)  {part}")
    assert [line.split()[3:6] for line in pattern_table([LLAVA, some])[1:]] == [["3", "to", "4"]]
    few = summary(Setup("m", {}, OURS), 0, missing=1, complete_pairs=True)
    assert control_table([few])[1].startswith("m (ours) (7 complete pairs)")


def test_controls_alone_are_not_called_blind_pairs() -> None:
    alone = replace(BENCHMARK, pairs=BENCHMARK.pairs[4:])
    given = [Answer(key, "ab"[right]) for key, right in RIGHT.items()]
    assert model_table([summarise(Setup("m", {}, OURS), alone, given)])[0].startswith("% of controls  ")


def test_endings_are_said_in_words() -> None:
    counts = replace(FIRST.counts, endings={"length": 3, "refused": 1, "tool_calls": 1})
    assert endings(replace(FIRST, counts=counts)) == [
        "3 of 16 answers were cut at the limit of tokens",
        "1 of 16 answers are refusals",
        "1 of 16 answers ended with tool_calls",
    ]
    assert endings(FIRST) == []
