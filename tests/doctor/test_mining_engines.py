"""Mining that falls back to a slower engine is a note that says why."""

import shutil

import pytest

from blindpairs.doctor import Finding
from blindpairs.doctor.mining import compiled_join, gpu_join
from blindpairs.doctor.probes import probe
from blindpairs.selfjoin.shown import ENGINE_NAMES


def test_doctor_says_whether_mining_is_compiled_and_what_to_install_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc"):
        finding = compiled_join(probe(["selfjoin"])["selfjoin"])
        assert finding.state == "ok"
        assert finding.value in {f"{name}, built for this processor" for name in ENGINE_NAMES.values()}
    monkeypatch.setenv("CC", "no-such-compiler")
    finding = compiled_join(probe(["selfjoin"])["selfjoin"])
    assert finding.state == "note"
    assert "no C compiler (no-such-compiler)" in finding.value
    assert "gcc" in finding.remedy


def test_every_gpu_is_said_to_mine_or_why_not() -> None:
    old = "cuda:1 (Tesla T4) has compute capability 7.5, and bfloat16 needs 8.0"
    assert gpu_join({"gpus": {"cuda:0": "", "cuda:1": old}}) == [
        Finding("mining on cuda:0", "ok", "its kernels passed their test"),
        Finding("mining on cuda:1", "note", f"not possible, the CPU does it: {old}"),
    ]
    assert gpu_join({"gpus": {}}) == []
    assert gpu_join({"error": "no answer in 180 s"})[0].state == "note"
