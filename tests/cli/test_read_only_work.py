"""A work folder that may not be written: one line that names it and its owner, before any work is done."""

import os
import sys
from pathlib import Path

import pytest
from demo_run import ROOT
from unprivileged import bound_run


@pytest.mark.parametrize("command", ["embed", "eval", "train-mof", "study --no-browser"])
def test_a_read_only_work_folder_is_one_line(command: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    called = [sys.executable, "-m", "blindpairs", *command.split(), "--work", str(tmp_path)]
    done = bound_run(called, {**os.environ, "PYTHONPATH": str(ROOT)})
    tmp_path.chmod(0o755)
    assert done.returncode == 3, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error == done.stderr.splitlines()[-1]
    assert f"({tmp_path} belongs to " in error
    assert "choose another place with --work or --output" in error
    assert list(tmp_path.iterdir()) == []
