"""A work folder that may not be written: one line that names it and its owner, before any work is done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from demo_run import ROOT

# Root without its right to pass over permissions; other accounts are held by them anyway.
BOUND = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("command", ["embed", "eval", "train-mof", "study --no-browser"])
def test_a_read_only_work_folder_is_one_line(command: str, tmp_path: Path) -> None:
    if BOUND and not shutil.which(BOUND[0]):
        pytest.skip("root, and no setpriv to give its rights up")
    tmp_path.chmod(0o555)
    called = [*BOUND, sys.executable, "-m", "blindpairs", *command.split(), "--work", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(called, capture_output=True, text=True, env=environment, check=False, timeout=300)
    tmp_path.chmod(0o755)
    if "setpriv:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 3, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error == done.stderr.splitlines()[-1]
    assert f"({tmp_path} belongs to " in error
    assert "choose another place with --work or --output" in error
    assert list(tmp_path.iterdir()) == []
