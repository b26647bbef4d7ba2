"""`blindpairs --help` answers at once, because it loads nothing heavy; the time itself is measured by `make bench`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    *("torch", "torchvision", "torchcodec", "numpy", "PIL", "pyarrow", "safetensors"),
    *("transformers", "huggingface_hub", "open_clip", "timm", "faiss", "ray", "packaging"),
}
# Runs the command as `python -m blindpairs` does, then tells on stderr what the process has loaded.
SPY = """
import json, runpy, sys
arguments = sys.argv[1:]
sys.argv = ["blindpairs", *arguments]
try:
    runpy.run_module("blindpairs", run_name="__main__")
except SystemExit as end:
    code = end.code
sys.stderr.write("\\n" + json.dumps({"code": code, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def loaded_by(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and the packages that its process has loaded at the end."""
    done = subprocess.run([sys.executable, "-c", SPY, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stderr.splitlines()[-1])
    assert report["code"] in (0, None), done.stderr
    return done.stdout, set(report["modules"])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["embed", "--help"]])
def test_asking_for_help_loads_nothing_heavy(arguments: list[str]) -> None:
    shown, modules = loaded_by(*arguments)
    assert shown.strip()
    assert modules & HEAVY == set()


def test_the_spy_sees_what_a_process_loads(tmp_path: Path) -> None:
    (tmp_path / "blindpairs").mkdir()
    (tmp_path / "blindpairs" / "__init__.py").touch()
    (tmp_path / "blindpairs" / "__main__.py").write_text("import numpy\nraise SystemExit(0)\n")
    done = subprocess.run([sys.executable, "-c", SPY], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "numpy" in json.loads(done.stderr.splitlines()[-1])["modules"]
