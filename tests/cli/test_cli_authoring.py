"""First mistakes with drafts, decisions and benchmarks are answered with one or two lines, and nothing is lost."""

import json
from pathlib import Path

import pytest
from pictured_pairs import benchmark_of
from typer.testing import CliRunner, Result

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft, MinedPair
from blindpairs.author.revisions import Decision
from blindpairs.benchmark import Question
from blindpairs.benchmark.checks import Finding
from blindpairs.benchmark.hub import export_hub
from blindpairs.benchmark.native import read_native
from blindpairs.cli import app
from blindpairs.cli.app import say
from blindpairs.cli.export import why_nothing
from blindpairs.cli.serving import people_of
from blindpairs.errors import ConfigError


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def complaint(*arguments: object, code: int = 3) -> str:
    """What a command that must fail prints on stderr, as one text."""
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.strip().splitlines()) <= 2
    return result.stderr


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """The folder of a benchmark of three pairs."""
    export_hub(benchmark_of(3), tmp_path / "doors")
    return tmp_path / "doors"


@pytest.fixture
def drafted(tmp_path: Path) -> Path:
    """A work folder with one drafted pair, of images that no store has."""
    with AuthoringDatabase(tmp_path / "work" / "authoring.sqlite") as database:
        database.add_pairs([MinedPair("pair1", "a", "b", "/a.jpg", "/b.jpg")])
        question = Question("Open?", ("Yes", "No"), (0, 1))
        database.add_draft("pair1", "demo", Draft(question, statement_a="open", statement_b="shut"))
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("draft",), "no pairs at"),
        (("export", "--format", "csv"), "there are no drafts at"),
        (("patterns",), "name a model that reads the questions"),
        (("benchmark", "diff", "one"), "diff takes two benchmarks"),
        (("benchmark", "merge", "one", "two"), "merge needs --output FOLDER"),
        (("benchmark", "check", "nowhere"), "nowhere does not exist"),
        (("export", "--benchmark", "nowhere"), "nowhere does not exist"),
        (("import", "nowhere"), "nowhere does not exist"),
    ],
)
def test_command_without_what_it_needs_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in complaint(*arguments, "--work", tmp_path / "work")


def test_import_of_something_else_names_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to import")
    shown = complaint("import", tmp_path / "notes.txt", "--work", tmp_path / "work")
    assert "recognised are:" in shown
    assert "NaturalBench" in shown
    assert not (tmp_path / "work").exists()


def test_unknown_ground_truth_lists_the_known_ones(benchmark: Path, tmp_path: Path) -> None:
    shown = complaint("export", "--benchmark", benchmark, "--ground-truth", "fixed", "--work", tmp_path / "work")
    assert "has no ground truth 'fixed': choose one of original" in shown


OPTIONS = {
    "annotator": ("--annotator", "ada"),
    "patterns": ("--patterns", "mine.txt"),
    "name": ("--name", "mine"),
    "license": ("--license", "CC0"),
    "per-pattern": ("--per-pattern", "15"),
    "no-images": ("--no-images",),
    "ground-truth": ("--ground-truth", "original"),
    "benchmark": ("--benchmark", "folder"),
}
BENCHMARKS = {"hf", "mmvp", "mmvp-vlm", "naturalbench", "vlmevalkit", "lmms-eval"}
READ_BY = {
    "annotator": {"csv", "label-studio"},
    "patterns": {"label-studio"},
    "name": set(),
    "license": set(),
    "per-pattern": {"mmvp-vlm"},
    "no-images": {"hf"},
    "ground-truth": BENCHMARKS,
    "benchmark": BENCHMARKS,
}


@pytest.mark.parametrize("format_", [*sorted(BENCHMARKS), "csv", "label-studio"])
@pytest.mark.parametrize("option", OPTIONS)
def test_option_that_a_format_does_not_read_is_refused(tmp_path: Path, option: str, format_: str) -> None:
    """A work folder without drafts: what people accepted does not name, license or classify the demo's benchmark."""
    (tmp_path / "mine.txt").write_text("Shape\n")
    given = [str(tmp_path / one) if one == "mine.txt" else one for one in OPTIONS[option]]
    space = ("--work", tmp_path / "work", "--output", tmp_path / "out")
    shown = call("export", "--format", format_, *given, *space).stderr
    assert (f"--{option} changes nothing here: " in shown) == (format_ not in READ_BY[option]), shown


def test_name_licence_and_patterns_are_read_where_people_accepted_pairs(drafted: Path) -> None:
    for option in ("name", "license"):
        assert "changes nothing" not in call("export", *OPTIONS[option], "--work", drafted).stderr


def test_licence_without_a_name_is_refused(drafted: Path) -> None:
    assert "--license '/photos=' names no licence" in complaint("export", "--license", "/photos=", "--work", drafted)


def test_decisions_with_a_fault_name_the_line_and_change_nothing(drafted: Path) -> None:
    file = drafted / "decisions.csv"
    assert call("export", "--format", "csv", "--work", drafted).exit_code == 0
    text = file.read_text("utf-8-sig")
    header, row = text.splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True)) | {"decision": "maybe"}
    file.write_text(header + "\n" + ",".join(cells.values()) + "\n", encoding="utf-8")
    shown = complaint("import", file, "--annotator", "ada", "--work", drafted)
    assert "line 2" in shown
    assert "pair1" in shown
    with AuthoringDatabase(drafted / "authoring.sqlite") as database:
        assert [revision.kind for revision in database.history("pair1")] == ["draft"]


def test_second_person_gets_the_drafts_and_not_the_decisions_of_the_first(drafted: Path, tmp_path: Path) -> None:
    with AuthoringDatabase(drafted / "authoring.sqlite") as database:
        seen = database.history("pair1")[-1]
        database.decide(Decision("pair1", "ada", accepted=True, draft=seen.draft, based_on=seen.id))
    for person, open_ in (("ada", 0), ("bob", 1)):
        file = tmp_path / f"{person}.csv"
        options = ("--format", "csv", "--annotator", person, "--output", file, "--work", drafted, "--json")
        shown = json.loads(call("export", *options).stdout)
        assert (shown["pairs"], shown["undecided"]) == (1, open_)
        assert file.read_text("utf-8-sig").count("accept") == 1 - open_


def test_patterns_as_a_person_edited_them_are_recorded_without_a_model(drafted: Path) -> None:
    file = drafted / "patterns.json"
    assert "name a model that proposes patterns" in complaint("patterns", "--accept", "ada", "--work", drafted)
    with AuthoringDatabase(drafted / "authoring.sqlite") as database:
        seen = database.history("pair1")[-1]
        database.decide(Decision("pair1", "ada", accepted=True, draft=seen.draft, based_on=seen.id))
    proposal = {"taxonomy": {"Doors": "open or shut"}, "assignment": {"pair1": "Door"}}
    file.write_text(json.dumps(proposal))
    shown = complaint("patterns", "--accept", "ada", "--work", drafted)
    assert "assigns 'Door' to pair pair1, which is not in its taxonomy" in shown
    file.write_text(json.dumps(proposal | {"assignment": {"pair1": "Doors"}}))
    for added in (1, 0):
        done = json.loads(call("patterns", "--accept", "ada", "--json", "--work", drafted).stdout)
        assert done["accepted"] == added
    with AuthoringDatabase(drafted / "authoring.sqlite") as database:
        last = database.history("pair1")[-1]
    assert (last.kind, last.author, last.draft.patterns, last.source) == ("accepted", "ada", ("Doors",), "demo")


@pytest.mark.parametrize(
    ("checks", "advice"),
    [
        ((), "(nothing was drafted): run `blindpairs draft` first"),
        (("unreviewed",), "(1 unreviewed): decide on the drafts"),
        (("unreviewed", "unreadable_image"), "embed NEW-PATH` finds them again"),
        (("unreviewed", "unknown_pattern"), "name the taxonomy that they were drafted with"),
        (("same_answer",), "(1 same_answer): correct them with"),
    ],
)
def test_export_of_nothing_advises_what_helps_accepted_pairs_first(checks: tuple[str, ...], advice: str) -> None:
    assert advice in why_nothing([Finding(f"pair{number}", one, "") for number, one in enumerate(checks)])


def test_imported_benchmark_goes_to_the_work_folder_and_again_changes_nothing(benchmark: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = call("import", benchmark, "--work", tmp_path / "work")
        assert done.exit_code == 0, done.output
    assert read_native(tmp_path / "work" / "benchmark").fingerprint == read_native(benchmark).fingerprint


def test_other_benchmark_in_the_work_folder_is_not_replaced(benchmark: Path, tmp_path: Path) -> None:
    export_hub(benchmark_of(2, name="other"), tmp_path / "work" / "benchmark")
    shown = complaint("import", benchmark, "--work", tmp_path / "work")
    assert "holds another benchmark (other, 2 pairs)" in shown
    assert read_native(tmp_path / "work" / "benchmark").name == "other"


def test_export_does_not_replace_an_imported_benchmark(benchmark: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert call("import", benchmark, "--work", work).exit_code == 0
    export_hub(benchmark_of(2, name="other"), tmp_path / "other")
    shown = complaint("export", "--benchmark", tmp_path / "other", "--work", work)
    assert "holds another benchmark (doors, 3 pairs), which was imported: give --output" in shown
    assert read_native(work / "benchmark").name == "doors"
    assert call("export", "--work", work).exit_code == 0  # the same benchmark again
    assert call("export", "--work", tmp_path / "new").exit_code == 0  # the demo's, as nothing else is there
    assert call("export", "--benchmark", tmp_path / "other", "--work", tmp_path / "new").exit_code == 0


def test_bare_check_uses_the_demos_benchmark_and_says_so(tmp_path: Path) -> None:
    done = call("benchmark", "--json", "--work", tmp_path / "work")
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert (shown["name"], len(shown["patterns"])) == ("blindpairs-demo", 9)
    assert "this is the demo's, which ships" in done.stderr


def test_diff_shows_what_changed_and_whether_scores_can_be_compared(benchmark: Path, tmp_path: Path) -> None:
    export_hub(benchmark_of(4, annotators=("bob",)), tmp_path / "more")
    shown = call("benchmark", "diff", benchmark, tmp_path / "more").stdout
    assert "added 1:" in shown
    assert "annotators: ada -> bob" in shown
    assert "scores of the two cannot be compared pair by pair" in shown


def test_a_name_that_is_typed_in_two_ways_is_one_person() -> None:
    composed, decomposed = "Ren\u00e9", "Rene\u0301"
    assert people_of([decomposed]) == people_of([composed]) == [composed]
    with pytest.raises(ConfigError, match="is named twice: everybody gets one address"):
        people_of([composed, decomposed], "participant")


def told_on_serving(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """What stands on stderr once a page is served: the hint last."""
    command = str(arguments[0])
    monkeypatch.setattr(f"blindpairs.cli.{command}.serve", lambda *_, hint, **__: say(hint))
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done.stderr


def test_study_says_how_many_questions_how_long_and_how_to_ask_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = told_on_serving(monkeypatch, "study", "--work", tmp_path)
    assert "1,152 questions, about 1 h 36 min at 5 s each; --limit 50 asks about 50 pairs only" in bare
    limited = told_on_serving(monkeypatch, "study", "--limit", 9, "--work", tmp_path)
    assert "36 questions, about 3 min at 5 s each\n" in limited


def test_overlap_of_more_people_than_there_are_is_said_in_a_line(
    drafted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = told_on_serving(monkeypatch, "author", "--overlap", 5, "--annotator", "ada", "--work", drafted)
    asks = "note: --overlap 5 asks 5 people about each pair, and 1 can: give --annotator once for each of them\n"
    assert asks in told
