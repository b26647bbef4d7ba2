"""A library that crashes, hangs, exits or prints while it is imported does not keep the others from being probed."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from blindpairs.doctor.probes import PROBES, probe


def broken_library(folder: Path, name: str, body: str) -> None:
    """A module that stands before the real one on the path of the child process."""
    (folder / f"{name}.py").write_text(body, encoding="utf-8")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    # The package's own folder comes first in the child's path, then PYTHONPATH, then site-packages.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda name, body: broken_library(tmp_path, name, body)


def test_probe_reports_a_library_that_raises_and_goes_on(broken: Callable[[str, str], None]) -> None:
    broken("timm", "raise RuntimeError('operator torchvision::nms does not exist\\nmore lines')")
    assert probe(["timm", "numpy"]) == {
        "timm": {"error": "RuntimeError: operator torchvision::nms does not exist"},
        "numpy": {},
    }


def test_probe_survives_a_library_that_kills_the_process(broken: Callable[[str, str], None]) -> None:
    broken("timm", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert probe(["numpy", "timm", "PIL"]) == {
        "numpy": {},
        "timm": {"error": "importing it ends the process with SIGSEGV"},
        "PIL": {"webp": True, "avif": True},
    }


def test_probe_survives_a_library_that_exits_and_quotes_its_last_line(broken: Callable[[str, str], None]) -> None:
    broken("timm", "import os; os.write(2, b'first\\nno licence found'); os._exit(7)")
    assert probe(["timm"]) == {"timm": {"error": "importing it ends the process with exit code 7: no licence found"}}


def test_probe_gives_up_on_a_library_that_hangs(broken: Callable[[str, str], None]) -> None:
    broken("timm", "import time; time.sleep(60)")
    assert probe(["timm"], seconds=1.0) == {"timm": {"error": "no answer in 1 s"}}


def test_probe_is_not_confused_by_a_library_that_prints(broken: Callable[[str, str], None]) -> None:
    broken("timm", "print('{\"welcome\": 1}', end='')")
    assert probe(["timm"]) == {"timm": {}}


def test_probe_ignores_a_file_of_the_current_folder_that_is_named_like_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_library(tmp_path, "numpy", "raise RuntimeError('not numpy')")
    monkeypatch.chdir(tmp_path)
    assert probe(["numpy"]) == {"numpy": {}}


def test_gpu_whose_kernels_do_not_run_is_a_reason_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    card = SimpleNamespace(name="H100", major=9, minor=0, shared_memory_per_block_optin=232448)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "device", lambda device: (_ for _ in ()).throw(RuntimeError("no driver\nat all")))
    assert PROBES["selfjoin.gpu"]() == {"gpus": {"cuda:0": "the GPU's kernels do not run (no driver)"}}
