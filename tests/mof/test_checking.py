"""The check before training: everything bad has a name, a number and a choice, and nothing is left out unasked."""

from pathlib import Path

import pytest
from instruction_files import caption, picture, row, save_rows
from PIL import Image
from trained_tokenizers import llama_like

from blindpairs.errors import InputError
from blindpairs.mof.checking import Check, Findings, Known, check_instructions
from blindpairs.mof.indexing import InstructionIndex, open_index
from blindpairs.mof.templates import TurnTokenizer

LONG = "word " * 300
ROWS = [
    caption("good", "good.png"),
    caption("missing", "absent/a.png"),
    caption("corrupt", "corrupt.png"),
    caption("html", "html.jpg"),
    row("empty", None, "", ""),
    {"id": "gpt first", "conversations": [{"from": who, "value": who} for who in ("gpt", "human", "gpt")]},
    row("long", "good.png", "<image>\nWhat?", LONG),
    row("long question", None, LONG, "Yes."),
    row("late image", "good.png", LONG, "Yes.", "<image>\nAnd this?", "Yes."),
    row("none", "good.png", "What?", "That."),
    row("two", "good.png", "<image> <image>", "That."),
    caption("gif", "gif.jpg"),
    caption("blank", "blank.png"),
    caption("same", "same.png"),
    caption("near", "near.jpg"),
    caption("shared", "same.png"),
    row("text", None, "Hello", "Hi"),
]
UNUSABLE = {
    (2, "missing", "missing"),
    (3, "corrupt", "truncated"),
    (4, "html", "not_image"),
    (5, "empty", "empty"),
    (8, "long question", "too_long"),
    (9, "late image", "too_long"),
    (11, "two", "two_placeholders"),
    (14, "same", "in_benchmark"),
    (16, "shared", "in_benchmark"),
}
ODD = {
    (6, "gpt first", "starts_with_gpt"),
    (7, "long", "too_long"),
    (10, "none", "no_placeholder"),
    (12, "gif", "other_kind"),
    (12, "gif", "animated"),
    (13, "blank", "blank"),
    (15, "near", "near_benchmark"),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[InstructionIndex, Findings]:
    folder = tmp_path_factory.mktemp("data")
    images = folder / "images"
    picture(images / "good.png", 1)
    whole = picture(images / "corrupt.png", 2, (300, 300)).read_bytes()
    (images / "corrupt.png").write_bytes(whole[: len(whole) // 2])
    (images / "html.jpg").write_text("<html><body>404</body></html>")
    frames = [Image.open(picture(images / f"frame{number}.png", number)).convert("P") for number in (3, 4)]
    frames[0].save(images / "gif.jpg", "GIF", save_all=True, append_images=frames[1:])
    Image.new("RGB", (30, 30), (10, 10, 10)).save(images / "blank.png")
    same = picture(images / "same.png", 5, (80, 80)).read_bytes()
    near = picture(folder / "near.png", 6, (160, 160))
    Image.open(near).resize((80, 80)).save(images / "near.jpg", quality=70)
    known = Known.of([same, near.read_bytes(), b"no image"])
    tokens = TurnTokenizer(llama_like(), "vicuna_v1")
    index = open_index(save_rows(folder / "rows.json", ROWS), tokens, folder / "index")
    seen: list[tuple[int, int, int]] = []
    check = Check(images, places=16, max_length=400, known=known, processes=1)
    findings = check_instructions(
        index, tokens, check, lambda done, total, failed=0: seen.append((done, total, failed))
    )
    assert seen[0] == (0, 8, 0)
    assert seen[-1] == (5, 8, 3)
    return index, findings


def named(findings: Findings, *, usable: bool) -> set[tuple[int, str, str]]:
    return {(each.number, each.id, each.code) for each in findings.found if bool(each.use) == usable}


def test_everything_bad_is_named_with_its_row(checked: tuple[InstructionIndex, Findings]) -> None:
    _, findings = checked
    assert named(findings, usable=False) == UNUSABLE
    assert named(findings, usable=True) == ODD
    assert findings.rows == len(ROWS)
    assert findings.images == 8


def test_training_stops_unless_the_user_chooses_to_skip(checked: tuple[InstructionIndex, Findings]) -> None:
    index, findings = checked
    with pytest.raises(
        InputError, match=r"9 of 17 rows cannot be used, the first: row 2 'missing': its image .*a\.png"
    ):
        findings.kept(index)
    usable = findings.kept(index, "unusable")
    assert [one.id for one in usable] == ["good", "gpt first", "long", "none", "gif", "blank", "near", "text"]
    assert [one.id for one in findings.kept(index, "odd")] == ["good", "text"]


def test_what_was_left_out_is_kept_with_reasons(checked: tuple[InstructionIndex, Findings]) -> None:
    _, findings = checked
    described = findings.describe("unusable")
    left_out = described["left_out"]
    assert isinstance(left_out, list)
    assert {each["number"] for each in left_out} == {number for number, *_ in UNUSABLE}
    assert described["skip"] == "unusable"
    assert findings.describe("nothing")["left_out"] == []


def test_lines_for_people_begin_with_what_cannot_be_used(checked: tuple[InstructionIndex, Findings]) -> None:
    _, findings = checked
    lines = findings.lines(shown=3)
    assert lines[0].startswith("17 rows and 8 images: 3 too_long, 2 in_benchmark, ")
    assert lines[1].startswith("row 2 'missing': its image ")
    assert lines[-1] == f"... and {len(findings.found) - 3} more"
    used = [line for line in findings.lines(shown=100) if "'gpt first'" in line]
    assert used == ["row 6 'gpt first': its conversation starts with gpt (used without its first turn)"]


def test_rows_alone_are_checked_without_a_folder_of_images(tmp_path: Path) -> None:
    tokens = TurnTokenizer(llama_like(), "vicuna_v1")
    index = open_index(save_rows(tmp_path / "rows.json", ROWS), tokens, tmp_path)
    findings = check_instructions(index, tokens, Check(None, places=16))
    assert findings.images == 0
    assert {each.code for each in findings.found} == {"empty", "starts_with_gpt", "no_placeholder", "two_placeholders"}


def test_good_data_has_nothing_to_tell(tmp_path: Path) -> None:
    tokens = TurnTokenizer(llama_like(), "vicuna_v1")
    picture(tmp_path / "good.png")
    index = open_index(save_rows(tmp_path / "rows.json", [ROWS[0], ROWS[-1]]), tokens, tmp_path / "index")
    findings = check_instructions(index, tokens, Check(tmp_path, places=16, processes=1))
    assert findings.lines() == ["2 rows and 1 images: nothing is wrong with them"]
    assert list(findings.kept(index)) == list(index)


def test_image_that_was_looked_at_is_not_decoded_again_and_its_findings_are_the_same(tmp_path: Path) -> None:
    picture(tmp_path / "good.png", 1)
    (tmp_path / "bad.png").write_text("no image")
    rows = [caption("good", "good.png"), caption("bad", "bad.png"), caption("again", "bad.png")]
    tokens = TurnTokenizer(llama_like(), "plain")
    index = open_index(save_rows(tmp_path / "rows.json", rows), tokens, tmp_path / "index")
    check, seen = Check(tmp_path, places=16, processes=1), list[tuple[int, int, int]]()

    def watch(done: int, total: int, failed: int = 0, /) -> None:
        seen.append((done, total, failed))

    first = check_instructions(index, tokens, check, watch)
    assert seen[-1] == (1, 2, 1)
    assert [each.id for each in first.found] == ["bad", "again"]
    seen.clear()
    (tmp_path / "good.png").unlink()
    assert check_instructions(index, tokens, check, watch) == first
    assert seen == []
