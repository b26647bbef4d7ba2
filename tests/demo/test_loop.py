"""The demo's two reports agree: what its judge counts pair by pair is what mining wrote down."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blindpairs.cli import app
from blindpairs.workspace import Workspace, read_json


@pytest.mark.timeout(600)  # the whole demo corpus
def test_demo_prints_the_counts_that_mining_wrote_down(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--work", str(tmp_path)])
    assert result.exit_code == 0, result.output
    counts = read_json(Workspace(tmp_path).pairs / "pairs.json")["counts"]
    # The judge looks at every image, mining at those that are neither blank nor another's twin: here all of them.
    assert (counts["low_information"], counts["identical"]) == (0, 0)
    printed = re.search(r"^(.*) pairs look the same to CLIP; (.*) of them look different", result.stdout, re.MULTILINE)
    assert printed
    assert printed.groups() == (f"{counts['above_clip_min']:,}", f"{counts['blind']:,}")
