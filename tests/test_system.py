"""A child process finds the package, and an empty entry of PYTHONPATH never means the current folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blindpairs.system import child_environment, physical_memory


def test_child_imports_the_package_from_any_folder(tmp_path: Path) -> None:
    code = "import blindpairs; print(blindpairs.__file__)"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parents[1] == Path(__file__).parents[1]


def test_entries_of_pythonpath_stay_and_empty_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}/a{os.pathsep}{os.pathsep}/b")
    first, *others = child_environment()["PYTHONPATH"].split(os.pathsep)
    assert first == str(Path(__file__).parents[1])
    assert others == ["/a", "/b"]


def test_physical_memory_is_that_of_a_computer() -> None:
    assert 1 << 28 < physical_memory() < 1 << 50
