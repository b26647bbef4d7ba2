"""Commands as a reader types them, and the one run of the demo that the tests of its output share."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEMO = "blindpairs demo --work blindpairs-work"


@dataclass(frozen=True)
class DemoRun:
    """What `DEMO` gave in `folder`. Later commands there replace its pairs, so their record is kept here."""

    folder: Path
    code: int
    printed: str
    complaints: str
    record: dict[str, Any]  # pairs.json


def execute(command: str, folder: Path) -> tuple[int, str, str]:
    """Run a `blindpairs` line with this interpreter; (exit code, stdout, stderr)."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", *shlex.split(command, comments=True)]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
