"""Drafting by an endpoint on the command line, as real processes: killed, planned, given up, and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_endpoint import FakeEndpoint, Received, Response, completion, error
from typer.testing import CliRunner, Result

from blindpairs.author.database import AuthoringDatabase
from blindpairs.cli import app
from blindpairs.mine import read_pairs

CONCURRENCY = 8  # requests at once, which a killed run may have to repeat
PROPOSED = {
    "found": True,
    "question": 'Is it =HYPERLINK("x")?',
    **{"option_1": "Yes", "option_2": "No", "answer_a": 1, "answer_b": 2},
    **{"pattern": "Text", "statement_a": "it is \u202eopen", "statement_b": "it is shut"},
}


def drafted(number: int, _: Received) -> Response:
    return completion(json.dumps(PROPOSED | {"question": f"{PROPOSED['question']} {number}"}))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def report(*arguments: object) -> dict[str, object]:
    """The one JSON object of a command that succeeds."""
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    value: dict[str, object] = json.loads(line)
    return value


@pytest.fixture
def work(tmp_path: Path, scenes: Path) -> Path:
    """A work folder of 60 mined pairs without drafts, at a path with a space and other letters."""
    folder = tmp_path / "the wörk"
    folder.mkdir()
    (folder / "embeddings").symlink_to(scenes / "embeddings")
    loose = ("--clip-min", 0.3, "--dino-max", 0.9, "--max-per-image", 10, "--top", 60)
    report("mine", *loose, "--work", folder)
    assert len(read_pairs(folder / "pairs")) == 60
    return folder


def test_killed_draft_is_resumed_without_asking_what_was_answered(work: Path) -> None:
    def slowly(number: int, received: Received) -> Response:
        return Response(drafted(number, received).body, pause=0.05)

    with FakeEndpoint(slowly) as endpoint:
        command = ("draft", "--model", endpoint.spec, "--work", str(work))
        process = subprocess.Popen([sys.executable, "-m", "blindpairs", *command])
        deadline = time.monotonic() + 60
        while len(endpoint.received) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert 30 <= len(endpoint.received) < 60
        done, count = report(*command), 60
        assert int(str(done["drafted"])) + int(str(done["kept"])) == count
        assert len(endpoint.received) <= count + CONCURRENCY
        before = len(endpoint.received)
        assert report(*command)["kept"] == count
        assert len(endpoint.received) == before
    with AuthoringDatabase(work / "authoring.sqlite") as database:
        histories = [len(history) for _, history in database.histories()]
    assert histories == [1] * count


def test_plan_counts_only_what_would_be_asked(work: Path) -> None:
    with FakeEndpoint(drafted) as endpoint:
        model = ("--model", endpoint.spec, "--work", work)
        whole = report("draft", "--top", 20, "--plan", *model)
        assert not (work / "authoring.sqlite").exists()
        some = report("draft", "--top", 5, *model)
        left = report("draft", "--top", 20, "--plan", *model)
    assert (left["kept"], left["requests"]) == (
        some["drafted"],
        int(str(whole["requests"])) - int(str(some["drafted"])),
    )


def test_spent_budget_keeps_what_was_drafted_and_says_how_to_go_on(work: Path) -> None:
    with FakeEndpoint(drafted) as endpoint:
        command = ("draft", "--top", 10, "--model", endpoint.spec, "--work", work)
        stopped = call(*command, "--max-requests", 4)
        assert (stopped.exit_code, stopped.stdout, len(endpoint.received)) == (3, "", 4)
        assert "run the same command again to go on, with a larger budget or the same" in stopped.stderr
        assert report(*command)["kept"] == 4


def test_endpoint_that_stops_half_way_is_named_with_its_cause_and_costs_no_draft(work: Path) -> None:
    def expiring(number: int, received: Received) -> Response:
        return drafted(number, received) if number < 10 else error(401, "the key expired")

    with FakeEndpoint(expiring) as endpoint:
        failed = call("draft", "--top", 30, "--model", endpoint.spec, "--work", work)
    assert (failed.exit_code, failed.stdout) == (6, "")
    assert "last with unauthorised: HTTP 401: the key expired" in failed.stderr
    with AuthoringDatabase(work / "authoring.sqlite") as database:
        assert sum(len(history) for _, history in database.histories()) == 10
