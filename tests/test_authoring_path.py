"""The whole path of the demo: mined pairs, drafts of which a fifth is wrong, a person's decisions, the benchmark.

The person of these tests knows the truth, accepts what is right and leaves the rest, as a careful one would.
"""

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from demo_run import DemoRun
from typer.testing import CliRunner, Result

from blindpairs.author.database import AuthoringDatabase
from blindpairs.benchmark import Benchmark, BenchmarkPair, Question
from blindpairs.benchmark.native import read_native
from blindpairs.cli import app
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import ATTRIBUTES, PATTERNS, Scene
from blindpairs.workspace import demo_folder

FORMATS = ("hf", "mmvp", "mmvp-vlm", "naturalbench", "vlmevalkit", "lmms-eval")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def truth() -> dict[str, Scene]:
    return dict(read_truth(demo_folder() / "scenes.parquet"))


def right(question: Question, pattern: str, one: Scene, other: Scene) -> bool:
    """Whether the question's answers are those of the two scenes, by the words that the world has for their values."""
    attribute = next(name for name in ATTRIBUTES if PATTERNS[name].name == pattern)
    words = [PATTERNS[attribute].answers, PATTERNS[attribute].second_answers]
    said = [question.options[answer] for answer in question.answers]
    values = [getattr(one, attribute), getattr(other, attribute)]
    return values[0] != values[1] and any(said == [answers[value] for value in values] for answers in words)


def faultless(row: dict[str, str], one: Scene, other: Scene) -> bool:
    """Whether a person who sees both images would accept a row as it stands."""
    options = (row["option_1"], row["option_2"])
    question = Question(row["question"], options, (options.index(row["answer_a"]), options.index(row["answer_b"])))
    attribute = next(name for name in ATTRIBUTES if PATTERNS[name].name == row["pattern"])
    a, b = (PATTERNS[attribute].statements[getattr(scene, attribute)].partition("{")[2] for scene in (one, other))
    end = [text.rpartition("}")[2] for text in (a, b)]
    statements = row["statement_a"].endswith(end[0]) and row["statement_b"].endswith(end[1])
    return right(question, row["pattern"], one, other) and statements


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, demo_run: DemoRun, truth: dict[str, Scene]) -> Path:
    """A work folder after mine, draft, a person's decisions as CSV, and the export of the benchmark."""
    folder = tmp_path_factory.mktemp("path") / "work"
    folder.mkdir()
    (folder / "embeddings").symlink_to(demo_run.folder / "blindpairs-work" / "embeddings")
    shutil.copytree(demo_run.pairs, folder / "pairs")
    drafted = call("draft", "--model", "demo?wrong=0.2&seed=1", "--second", "--work", folder)
    assert drafted.exit_code == 0, drafted.output
    early = call("export", "--work", folder)
    assert (early.exit_code, early.stdout) == (3, "")
    assert "unreviewed): decide on the drafts with" in early.stderr
    assert call("export", "--format", "csv", "--work", folder).exit_code == 0
    decide(folder / "decisions.csv", truth)
    assert call("import", folder / "decisions.csv", "--annotator", "ada", "--work", folder).exit_code == 0
    exported = call("export", "--license", "Apache-2.0", "--work", folder)
    assert exported.exit_code == 0, exported.output
    return folder


def decide(file: Path, truth: dict[str, Scene]) -> None:
    """Accept every row that is right, as a person does in a spreadsheet."""
    rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline="")))
    with AuthoringDatabase(file.parent / "authoring.sqlite") as database:
        images = {pair.pair_id: (pair.image_id_a, pair.image_id_b) for pair in database.pairs()}
    for row in rows:
        one, other = (truth[key] for key in images[row["pair_id"]])
        row["decision"] = "accept" if row["question"] and faultless(row, one, other) else ""
    with file.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def blind(benchmark: Benchmark) -> list[BenchmarkPair]:
    return [pair for pair in benchmark.pairs if pair.control_of is None]


def test_benchmark_has_enough_right_pairs_of_every_pattern(work: Path, truth: dict[str, Scene]) -> None:
    pairs = blind(read_native(work / "benchmark"))
    scenes = {pair.pair_id: (truth[pair.image_id_a], truth[pair.image_id_b]) for pair in pairs}
    single = sum(
        sum(getattr(one, name) != getattr(other, name) for name in ATTRIBUTES) == 1 for one, other in scenes.values()
    )
    assert len(pairs) >= 135
    assert single / len(pairs) >= 0.6
    assert set(Counter(name for pair in pairs for name in pair.patterns)) == {
        one.name.value for one in PATTERNS.values()
    }
    for pair in pairs:
        assert pair.question
        assert pair.second
        assert right(pair.question, pair.patterns[0], *scenes[pair.pair_id])
        assert right(pair.second, pair.patterns[0], *scenes[pair.pair_id])
        assert pair.annotators == ("ada",)
        assert pair.license == "Apache-2.0"


def test_wrong_draft_that_nobody_accepted_is_absent_and_listed(work: Path) -> None:
    shown = json.loads(call("export", "--json", "--work", work).stdout)
    unreviewed = {one["pair_id"] for one in shown["findings"] if one["check"] == "unreviewed"}
    inside = {pair.pair_id for pair in read_native(work / "benchmark").pairs}
    with AuthoringDatabase(work / "authoring.sqlite") as database:
        drafted = {pair.pair_id for pair, history in database.histories() if history}
    named = {one["pair_id"] for one in shown["findings"] if one["refuses"]}
    assert 0.1 * len(drafted) < len(unreviewed) < 0.3 * len(drafted)
    assert drafted - inside == named


def test_other_taxonomy_is_refused_with_what_helps(work: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Doors\n")
    done = call("export", "--patterns", tmp_path / "mine.txt", "--output", tmp_path / "made", "--work", work)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "unknown_pattern" in done.stderr
    assert "name the taxonomy that they were drafted with, --patterns FILE" in done.stderr


def test_each_refused_pair_is_listed_once_and_what_is_rare_comes_first(work: Path, tmp_path: Path) -> None:
    lines = call("export", "--output", tmp_path / "made", "--work", work).stdout.splitlines()
    assert not [line for line in lines if "cannot carry" in line]
    (heading,) = [line for line in lines if line.startswith("  refused:")]
    words = [line.split(":")[0].split()[1] for line in lines[lines.index(heading) + 1 :] if line[:4] == "    "]
    shown = json.loads(call("export", "--json", "--output", tmp_path / "made", "--work", work).stdout)
    counts = Counter(one["check"] for one in shown["findings"] if one["refuses"])
    assert all(f"{count} {check}" in heading for check, count in counts.items())
    refusing = [word for word in words if word in counts]
    assert [counts[word] for word in refusing] == sorted(counts[word] for word in refusing)


def test_controls_are_exported_with_their_blind_pairs(work: Path) -> None:
    benchmark = read_native(work / "benchmark")
    ids = {pair.pair_id for pair in blind(benchmark)}
    controls = [pair for pair in benchmark.pairs if pair.control_of]
    assert len(controls) > 100
    assert {pair.control_of for pair in controls} <= ids


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_written_and_a_second_export_gives_the_same_bytes(
    work: Path, tmp_path: Path, format_: str
) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}

    seen = []
    for name in ("one", "other"):
        done = call("export", "--format", format_, "--output", tmp_path / name / "made", "--work", work)
        assert done.exit_code == 0, done.output
        seen.append(files(tmp_path / name / "made"))
    assert seen[0] == seen[1]
    assert seen[0]


def test_export_and_import_of_mmvp_keep_pairs_questions_and_images(work: Path, tmp_path: Path) -> None:
    assert call("export", "--format", "mmvp", "--output", tmp_path / "mmvp", "--work", work).exit_code == 0
    done = call("import", tmp_path / "mmvp", "--work", tmp_path / "other")
    assert done.exit_code == 0, done.output
    before = {pair.pair_id: pair for pair in read_native(work / "benchmark").pairs}
    after = {pair.pair_id: pair for pair in read_native(tmp_path / "other" / "benchmark").pairs}
    assert after.keys() == before.keys()
    assert all(
        after[key].question == before[key].question and after[key].image_ids == before[key].image_ids for key in after
    )


def test_drafting_again_drafts_nothing_and_importing_again_adds_nothing(work: Path) -> None:
    again = json.loads(call("draft", "--model", "demo?wrong=0.2&seed=1", "--second", "--json", "--work", work).stdout)
    assert again["drafted"] == 0
    before = read_native(work / "benchmark").fingerprint
    assert call("import", work / "decisions.csv", "--annotator", "ada", "--work", work).exit_code == 0
    assert json.loads(call("export", "--json", "--work", work).stdout)["fingerprint"] == before


def test_benchmark_command_says_what_is_in_it_and_what_changed(work: Path, tmp_path: Path) -> None:
    shown = json.loads(call("benchmark", "check", "--json", "--work", work).stdout)
    benchmark = read_native(work / "benchmark")
    assert (shown["fingerprint"], shown["pairs"]) == (benchmark.fingerprint, len(benchmark.pairs))
    assert sum(shown["patterns"].values()) == len(blind(benchmark))
    difference = call("benchmark", "diff", work / "benchmark", work / "benchmark", "--json")
    same = json.loads(difference.stdout)
    assert (same["added"], same["removed"], same["changed"]) == ([], [], {})
    merged = call("benchmark", "merge", work / "benchmark", work / "benchmark", "--output", tmp_path / "merged")
    assert merged.exit_code == 0, merged.output
    assert read_native(tmp_path / "merged").pairs == benchmark.pairs
