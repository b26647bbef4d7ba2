"""A process killed while it asks: what it was answered is never asked again."""

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fake_endpoint import FakeEndpoint, Received, Response, completion

HERE = Path(__file__).parents[1]


def ask(spec: str, cache: Path, kill_after: int) -> int:
    command = [sys.executable, str(HERE / "asking_process.py"), spec, str(cache), str(kill_after)]
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=False, timeout=100).returncode


def stored(cache: Path) -> int:
    with sqlite3.connect(cache) as database:
        return int(database.execute("SELECT count(*) FROM replies").fetchone()[0])


def test_run_killed_twice_is_answered_once_and_only_what_was_under_way_is_asked_again(tmp_path: Path) -> None:
    def slow(number: int, received: Received) -> Response:
        return Response(completion(f"answer {number}").body, pause=0.01)

    cache = tmp_path / "replies.sqlite"
    with FakeEndpoint(slow) as endpoint:
        kept: list[int] = []
        for kill_after in (10, 35):
            assert ask(endpoint.spec, cache, kill_after) == -9
            kept.append(stored(cache))
            # Each stored reply was one request; beyond these, only what the four places of the process held.
            assert kept[-1] >= kill_after
            assert len(endpoint.received) - kept[-1] <= 4 * len(kept)
        assert ask(endpoint.spec, cache, 0) == 0
    asked = Counter(received.body["messages"][0]["content"][0]["text"] for received in endpoint.received)
    assert len(asked) == 60
    assert sum(asked.values()) <= 60 + 2 * 4
    assert stored(cache) == 60
