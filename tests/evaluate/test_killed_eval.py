"""An evaluation that is killed goes on where it ended, and ends in the answers of one that was not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from fake_endpoint import FakeEndpoint, Received, Response, completion
from pictured_pairs import benchmark_of
from typer.testing import CliRunner

from blindpairs.benchmark.hub import export_hub
from blindpairs.cli import app
from blindpairs.evaluate.results import answer_folders, recorded_answers

ROOT = Path(__file__).parents[2]
QUESTIONS = 60
AT_ONCE = 8  # requests that are under way when the process is killed


def by_image(received: Received) -> Response:
    """An answer that depends on the image alone."""
    address = received.body["messages"][0]["content"][0]["image_url"]["url"]
    return replace(completion("(a)" if sum(map(ord, address)) % 2 else "(b)"), pause=0.02)


def start(work: Path, spec: str) -> "subprocess.Popen[bytes]":
    options = ["--benchmark", str(work / "doors"), "--model", spec, "--work", str(work), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "blindpairs", "eval", *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def said(work: Path) -> dict[tuple[str, ...], str]:
    (folder,) = (one for results in (work / "results").iterdir() for one in answer_folders(results))
    return {one.key: one.text for one in recorded_answers(folder)}


def test_killed_evaluation_asks_only_what_was_under_way_again(tmp_path: Path) -> None:
    for name in ("killed", "whole"):
        export_hub(benchmark_of(QUESTIONS // 2, second=None), tmp_path / name / "doors")
    processes: list[subprocess.Popen[bytes]] = []

    def kills(number: int, received: Received) -> Response:
        if number == 25:
            processes[0].kill()
        return by_image(received)

    with FakeEndpoint(kills) as endpoint:
        processes.append(start(tmp_path / "killed", endpoint.spec))
        assert processes[0].wait(100) == -9
        again = start(tmp_path / "killed", endpoint.spec)
        printed, complaints = again.communicate(timeout=100)
        assert again.returncode == 0, complaints.decode()
        assert QUESTIONS <= len(endpoint.received) <= QUESTIONS + AT_ONCE
        arguments = [
            "--benchmark",
            tmp_path / "whole" / "doors",
            "--model",
            endpoint.spec,
            "--work",
            tmp_path / "whole",
        ]
        whole = CliRunner().invoke(app, ["eval", *map(str, arguments), "--json"])
    assert said(tmp_path / "killed") == said(tmp_path / "whole")
    assert len(said(tmp_path / "killed")) == QUESTIONS
    one, other = (json.loads(text)["models"][0] for text in (printed, whole.stdout))
    assert one["scores"] == other["scores"]
    assert 0 < one["scores"]["question_accuracy"]["hits"] < QUESTIONS
