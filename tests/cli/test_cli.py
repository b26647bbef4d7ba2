"""The command line: exit codes, streams, and what a user's first mistakes are answered with."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from embed_process import make_photos
from PIL import Image
from typer.testing import CliRunner, Result

from blindpairs.cli import app
from blindpairs.cli.app import progress_bar


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with 40 noise images embedded by the demo's encoders, two of them broken."""
    folder = tmp_path_factory.mktemp("cli")
    paths = make_photos(folder / "photos", 40)
    paths[0].write_bytes(b"")
    paths[1].write_bytes(b"<!doctype html><html>not found</html>")
    Image.new("RGB", (64, 64), (200, 200, 200)).save(paths[2])
    result = call("embed", folder / "photos", "--work", folder / "work", *DEMO)
    assert result.exit_code == 0, result.output
    return folder


ROOT = Path(__file__).parents[2]
DEMO = ("--encoder", "clip=demo:clip", "--encoder", "dino=demo:dino")


@pytest.mark.parametrize("arguments", [("embed", "photos"), ("embed", "/photos", "--work", "/work"), ("mine",)])
def test_a_current_folder_that_is_gone_is_told_in_a_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    script = f'cd "$1" && rmdir "$1" && shift && exec "{sys.executable}" -m blindpairs "$@"'
    (tmp_path / "gone").mkdir()
    run = ["sh", "-c", script, "sh", str(tmp_path / "gone"), *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(
        "error: the current folder cannot be used (No such file or directory)"
    )


def test_embed_says_what_became_of_every_image(work: Path) -> None:
    result = call("embed", work / "photos", "--work", work / "work", *DEMO)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{work / 'work' / 'embeddings'}: 38 were there already",
        "  failed: 1 empty, 1 not_image",
        "  flagged: 1 low_information",
        f"  {work / 'work' / 'embeddings' / 'failures'} lists the images that failed, and why",
    ]


def test_embed_as_json_is_one_object_on_stdout(work: Path) -> None:
    result = call("embed", work / "photos", "--work", work / "work", *DEMO, "--json")
    report = json.loads(result.stdout)
    assert report["schema_version"] == 1
    assert (report["rows"], report["failed"], report["embedded"]) == (38, 2, 0)
    assert report["failures_by_code"] == {"empty": 1, "not_image": 1}


def test_too_many_failures_is_exit_4_after_the_work_is_saved(tmp_path: Path) -> None:
    for path in make_photos(tmp_path / "photos", 4)[:2]:
        path.write_bytes(b"")
    result = call("embed", tmp_path / "photos", "--work", tmp_path / "work", *DEMO)
    assert result.exit_code == 4
    assert "2 of 4 images failed, more than --max-failure-rate 0.1" in result.stderr
    assert (tmp_path / "work" / "embeddings" / "part-00000.done.json").exists()


def test_embed_reads_what_it_is_allowed_to_and_leaves_the_rest_out(tmp_path: Path) -> None:
    (whole,) = make_photos(tmp_path / "photos", 1)
    cut = tmp_path / "photos" / "cut.jpg"
    Image.open(whole).resize((64, 64)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / "photos" / "link.png").symlink_to(whole)
    reports = [
        json.loads(call("embed", tmp_path / "photos", "--work", tmp_path / work, *DEMO, *allow, "--json").stdout)
        for work, allow in (("strict", ()), ("lenient", ("--allow", "truncated", "--allow", "symlinks")))
    ]
    assert [report["failures_by_code"] for report in reports] == [{"truncated": 1}, {}]
    assert [report["corpus_notes"] for report in reports] == [{"links not followed": 1}, {}]
    assert [(report["rows"], report["flags"]) for report in reports] == [(1, {}), (3, {"truncated": 1})]


def test_mine_writes_pairs_and_their_page(work: Path) -> None:
    result = call("mine", "--work", work / "work", "--clip-min", "0.2", "--dino-max", "0.5", "--top", "5")
    assert result.exit_code == 0, result.output
    assert "blind pairs among 38 images (clip_sim >= 0.2, dino_sim <= 0.5)" in result.stdout
    assert (work / "work" / "pairs" / "pairs.parquet").exists()
    assert "<title>" in (work / "work" / "pairs" / "gallery.html").read_text()


def test_mine_that_finds_nothing_says_which_thresholds_would(work: Path) -> None:
    result = call("mine", "--work", work / "work", "--clip-min", "1.0", "--dino-max", "-0.9", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["counts"]["kept"] == 0
    assert "--clip-min" in report["advice"] or "--dino-max" in report["advice"] or "No nearby" in report["advice"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["embed", "nowhere"], 3, "nowhere"),
        (["embed", ".", "--encoder", "clip"], 3, "--encoder 'clip' is not NAME=SPEC"),
        (["embed", ".", "--encoder", "a=demo:clip", "--encoder", "a=demo:dino"], 3, "names 'a' twice"),
        (["embed", ".", "--shard", "4/4"], 3, "--shard '4/4' is not i/n"),
        (
            ["embed", ".", "--device", "gpu"],
            3,
            "device 'gpu' is not available on this machine (unknown kind of device); try --device auto or cpu",
        ),
        (["embed", ".", "--batch", "0"], 2, "--batch"),
        (["mine", "--work", "empty"], 3, "no embeddings at empty/embeddings: run `blindpairs embed` first"),
        (["mine", "--clip-min", "7"], 3, "clip_min is a cosine"),
        (["mime"], 2, "No such command"),
    ],
)
def test_first_mistakes_are_answered_in_a_sentence(
    arguments: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path, 1)
    result = call(*arguments)
    assert result.exit_code == status, result.output
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert result.stdout == ""


COMMANDS = [["embed", "."], ["import", "."], ["mine"], ["index"], ["demo"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
@pytest.mark.parametrize("work", ["", "gone", "loop", "n" * 300, "/proc/none", "file", "file/below", "\udcff"])
def test_work_folder_that_cannot_be_made_is_a_sentence(
    command: list[str], work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path, 1)
    (tmp_path / "gone").symlink_to("/nonexistent/disk")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.iterdir())
    result = call(*command, "--work", work)
    assert result.exit_code == 3, result.exception
    assert any(line.startswith("error: ") for line in result.stderr.splitlines()[-2:])
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_work_variable_that_is_set_and_empty_is_told(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLINDPAIRS_WORK", "")
    result = call(*command)
    assert result.exit_code == 3, result.exception
    assert result.stderr == "error: BLINDPAIRS_WORK is set and empty: name a folder in it, or unset it\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[""], ["\udcff"], [".", "--second", "b="], [".", "--second", "b=\udcff"]])
def test_folder_to_import_that_has_no_usable_name_is_a_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("import", *arguments)
    assert result.exit_code == 3, result.exception
    assert result.stderr.startswith("error: ")


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which $B is the command."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "B": f"{sys.executable} -m blindpairs", **environment}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=folder, env=variables, check=False)


@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("$B mine --no-gallery > /dev/full", 3, "error: standard output failed (No space left on device)"),
        ("$B mine --no-gallery --json > /dev/full", 3, "error: standard output failed (No space left on device)"),
        ("$B mine --no-gallery >&-", 3, "error: standard output is closed"),
        ("$B --help > /dev/full", 3, "error: standard output failed (No space left on device)"),
        ("$B --help | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("$B mine --plan | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("$B mine --work nowhere 2> /dev/full", 3, ""),
        ("$B mine --work nowhere >&- 2>&- <&-", 3, ""),
    ],
)
def test_output_that_nobody_takes_is_no_traceback(
    work: Path, line: str, status: int, message: str, buffering: str
) -> None:
    done = shell(line, work, BLINDPAIRS_WORK=str(work / "work"), PYTHONUNBUFFERED=buffering)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.startswith(message) for line in errors] == [True] * bool(message), done.stderr


def test_names_that_the_terminal_cannot_show_become_escapes(tmp_path: Path) -> None:
    make_photos(tmp_path / "fotos-ü", 2)
    line = "$B embed fotos-ü --work wжrk --encoder clip=demo:clip --workers 1"
    western = shell(line, tmp_path, PYTHONIOENCODING="latin-1")
    assert western.returncode == 0, western.stderr
    assert western.stdout.startswith(r"w\u0436rk/embeddings: 2 images embedded")
    assert shell(line, tmp_path, PYTHONIOENCODING="ascii").returncode == 0
    ascii_only = shell(line, tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert ascii_only.returncode == 3, ascii_only.stderr
    assert "is not UTF-8 text in this locale" in ascii_only.stderr


def test_missing_model_offline_is_exit_5_and_names_it(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 1)
    result = call(
        "embed", tmp_path / "photos", "--work", tmp_path / "work", "--encoder", "dino=hf:facebook/dinov2-large"
    )
    assert result.exit_code == 5, result.output
    assert "facebook/dinov2-large" in result.stderr


def test_bug_of_ours_keeps_its_traceback_and_is_exit_1(tmp_path: Path) -> None:
    script = (
        "import blindpairs.store as store, sys\n"
        "def broken(folder): raise ZeroDivisionError('a bug')\n"
        "store.Store.open = broken\n"
        "sys.argv = ['blindpairs', 'mine']\n"
        "from blindpairs.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


def test_errors_go_to_stderr_without_colour_codes_where_nobody_wants_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blindpairs", "mine", "--work", "nowhere"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "error: no embeddings at nowhere/embeddings: run `blindpairs embed` first\n"


def test_time_left_is_that_of_the_work_and_not_of_what_came_before_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress_bar("mine", "tiles") as show:
        for seconds, done, failed in ((500, 0, 0), (20, 100, 10), (20, 200, 20)):  # 500 s of planning before the first
            clock[0] += seconds
            show(done, 330, failed)
    assert capsys.readouterr().err.splitlines() == [
        "mine: 0 of 330 tiles, 0/s, 0 failed",
        "mine: 100 of 330 tiles, 5/s, 10 failed, 40 s left",
        "mine: 200 of 330 tiles, 5/s, 20 failed, 20 s left",
    ]


def test_version_is_the_package_version() -> None:
    from blindpairs import __version__

    assert call("--version").stdout == f"blindpairs {__version__}\n"


def test_work_folder_inside_a_corpus_that_a_link_leads_to_is_not_part_of_it(tmp_path: Path) -> None:
    make_photos(tmp_path / "real", 4)
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        result = call("embed", tmp_path / "link", "--work", tmp_path / "link" / "work", *DEMO, "--json")
        report = json.loads(result.stdout)
        assert (result.exit_code, report["rows"], report["failed"], report["warnings"]) == (0, 4, 0, [])
        mined = call("mine", "--work", tmp_path / "link" / "work", "--clip-min", "-1", "--dino-max", "0.94")
        assert mined.exit_code == 0


def test_mine_says_how_many_images_of_its_page_are_not_where_they_were_and_embed_follows_them(tmp_path: Path) -> None:
    make_photos(tmp_path / "old", 4)
    work = tmp_path / "work"
    assert call("embed", tmp_path / "old", "--work", work, *DEMO).exit_code == 0
    mine = ("mine", "--work", work, "--clip-min", "-1", "--dino-max", "0.94")
    assert "could not be read" not in call(*mine).stderr
    (tmp_path / "old").rename(tmp_path / "new")

    lost = call(*mine)
    pairs = pq.read_table(work / "pairs" / "pairs.parquet").to_pydict()
    shown = len({*pairs["image_id_a"], *pairs["image_id_b"]})
    assert f"{shown} of the page's {shown} images could not be read ({shown} missing). Where is the" in lost.stderr
    assert f"blindpairs embed ITS-NEW-PLACE --work {work}" in lost.stderr
    assert json.loads(call(*mine, "--json").stdout)["unread"] == {"missing": shown}

    followed = call("embed", tmp_path / "new", "--work", work, *DEMO)
    assert f"the corpus has moved from {tmp_path / 'old'} to {tmp_path / 'new'}" in followed.stderr
    found = call(*mine, "--json")
    assert (json.loads(found.stdout)["unread"], "could not be read" in found.stderr) == ({}, False)
