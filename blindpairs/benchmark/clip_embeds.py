"""The additional questions of CLIP-Embeds (lst627/CLIP-Embeds), with which both benchmarks can be seen as 2 x 2.

In its folder additional_questions/:

    Questions-clip.csv     Question ID,Type,Statement               beside MMVP: a statement for each of its 300 images
    Questions-llava.csv    lndex,Question,Options,Correct Answer    beside MMVP-VLM: a question for each of its 270 rows

Rows are matched by their id. Where a file has no ids, and for the two rows that carry wrong ones (277 and 278 in the
place of 225 and 226), the number of the line is used, and a note says so. Quotes that are doubled in cells without
quotes around them (`(a) ""0"" (b) ""80""`) are single ones.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from blindpairs.benchmark.model import Question
from blindpairs.benchmark.questions import answer_of, options_of, question_or_refusal
from blindpairs.benchmark.tables import by_number, entry_named, number_of, plain_name, read_table

STATEMENTS = "Questions-clip.csv"
QUESTIONS = "Questions-llava.csv"
ID = {"Question ID": ("Index", "lndex", "id")}
# Of pair 37/38: its options are pink and violet, those of another pair.
WRONG_OPTIONS = ("are there any bars of chocolates", {"pink", "violet"})


def statements(folder: Path, notes: list[str]) -> dict[int, str]:
    """The statement of each image of MMVP by its Index; empty where the file is not there."""
    path = entry_named(folder, STATEMENTS)
    if not path:
        return {}
    rows = read_table(path, {**ID, "Statement": ("caption",)}, optional=ID)
    numbered = by_number(path, "Question ID", _numbered(path, rows, notes))
    notes.append(f"Statements of {len(numbered):,} images are those of {path.name}.")
    return {number: row["Statement"] for number, row in numbered.items()}


def questions(folder: Path, types: Mapping[int, str], notes: list[str]) -> dict[int, Question]:
    """The question of each pair of MMVP-VLM by the id of its image a; empty where the file is not there.

    `types` has the Type of each id of the benchmark, by which rows without ids are checked.
    """
    path = entry_named(folder, QUESTIONS)
    if not path:
        return {}
    names = {**ID, "Question": (), "Options": (), "Correct Answer": ("answer",), "Type": ("pattern",)}
    rows = read_table(path, names, optional=[*ID, "Type"])
    numbered = by_number(path, "Question ID", _numbered(path, rows, notes, types))
    found: dict[int, Question] = {}
    for number in sorted(types):
        # Image a of a pair has an odd id, and image b the next one.
        if number % 2 == 0 or number not in numbered or number + 1 not in numbered:
            continue
        question = _question(numbered[number], numbered[number + 1], (types[number], types.get(number + 1, "")))
        if isinstance(question, str):
            notes.append(f"The question for {number} and {number + 1} in {path.name} is left out: {question}.")
        else:
            found[number] = question
    notes.append(f"Questions of {len(found):,} pairs are those of {path.name}.")
    return found


def _numbered(
    path: Path, rows: Iterable[dict[str, str]], notes: list[str], known: Mapping[int, object] | None = None
) -> list[dict[str, str]]:
    """The rows, each with an id: its own, or the number of its line where it has none or one that nobody else knows."""
    taken = [{name: cell.replace('""', '"') for name, cell in row.items()} for row in rows]
    if not any(row["Question ID"].strip() for row in taken):
        notes.append(f"{path.name} has no ids: its rows are matched by line, so they must be in the order of the rows.")
        return [{**row, "Question ID": str(line)} for line, row in enumerate(taken, 1)]
    numbers = [number_of(path, "Question ID", row["Question ID"]) for row in taken]
    if known is not None:
        for place, number in enumerate(numbers):
            line = place + 1
            if number not in known and line in known and line not in numbers:
                notes.append(
                    f"{path.name}, row {line}: {number} is not an id of the benchmark, so it is taken for {line}."
                )
                numbers[place] = line
    return [{**row, "Question ID": str(number)} for row, number in zip(taken, numbers, strict=True)]


def _question(row_a: Mapping[str, str], row_b: Mapping[str, str], types: tuple[str, str]) -> Question | str:
    for row, kind in zip((row_a, row_b), types, strict=True):
        if row["Type"] and plain_name(row["Type"]) != plain_name(kind):
            return f"its type there is {row['Type']!r}, and here {kind!r}"
    options = options_of(row_a["Options"])
    if row_a["Question"].split() != row_b["Question"].split() or options != options_of(row_b["Options"]):
        return "its two rows ask different things"
    beginning, wrong = WRONG_OPTIONS
    if plain_name(row_a["Question"]).startswith(beginning) and {one.casefold() for one in options or ()} == wrong:
        return "its options are those of another question (a known error of the file)"
    answers = {"a": answer_of(row_a["Correct Answer"], options), "b": answer_of(row_b["Correct Answer"], options)}
    return question_or_refusal(row_a["Question"], options, answers)
