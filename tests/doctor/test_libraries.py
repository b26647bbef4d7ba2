"""A library is judged by the range that the package declares, and the finding names the command that fixes it."""

from typing import Any

import pytest
from packaging.requirements import Requirement

from blindpairs.doctor import Finding
from blindpairs.doctor import libraries as checks
from blindpairs.doctor.finding import GIB

PLAIN_TORCH: dict[str, Any] = {"gpus": [], "mps": False}


def test_library_in_range_and_importable_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: "2.15.0+cu132")
    assert checks.library(Requirement("torch>=2.6"), {}) == Finding("torch", "ok", "2.15.0+cu132")


def test_missing_library_is_installed_by_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: None)
    assert checks.library(Requirement("timm>=1.0.20"), {}) == Finding(
        "timm", "problem", "not installed", "python -m pip install 'timm>=1.0.20'"
    )


def test_missing_torchcodec_is_a_note_because_pillow_replaces_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: None)
    assert checks.library(Requirement("torchcodec>=0.17"), {}) == Finding(
        "torchcodec",
        "note",
        "not installed (Pillow reads JPEGs instead, at half the speed)",
        "python -m pip install 'torchcodec>=0.17'",
    )


def test_library_outside_the_range_that_was_tested_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: "0.18.1")
    assert checks.library(Requirement("torchcodec>=0.17,<0.18"), {}) == Finding(
        "torchcodec",
        "problem",
        "0.18.1, but blindpairs needs <0.18,>=0.17",
        "python -m pip install 'torchcodec<0.18,>=0.17'",
    )


def test_torchvision_made_for_another_torch_is_fixed_by_reinstalling_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: "0.29.2")
    facts = {"error": "RuntimeError: operator torchvision::nms does not exist"}
    assert checks.library(Requirement("torchvision>=0.21"), facts) == Finding(
        "torchvision",
        "problem",
        "0.29.2 cannot be used: RuntimeError: operator torchvision::nms does not exist",
        "python -m pip install --force-reinstall torch torchvision torchcodec",
    )


def test_both_builds_of_faiss_at_once_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: "1.15.1")
    (finding,) = checks.faiss_builds({"torch": PLAIN_TORCH, "faiss": {"gpus": 0}})
    assert (finding.state, finding.value) == ("problem", "faiss-cpu and faiss-gpu are both installed")
    assert finding.remedy.startswith("python -m pip uninstall -y faiss-cpu faiss-gpu")


def test_faiss_without_the_gpu_that_torch_sees_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "installed_version", lambda name: "1.15.1" if name == "faiss-cpu" else None)
    gpu = {"name": "H200", "memory": 139 * GIB, "bf16": True}
    (finding,) = checks.faiss_builds({"torch": {"gpus": [gpu], "mps": False}, "faiss": {"gpus": 0}})
    assert (finding.state, finding.value) == ("note", "sees no GPU though torch does: indexes are built on the CPU")


def test_pillow_without_webp_is_a_note() -> None:
    (finding,) = checks.image_formats({"webp": False, "avif": True})
    assert (finding.name, finding.state) == ("webp", "note")
