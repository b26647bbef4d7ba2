"""The machine's processor and GPUs are named, and a GPU that torch cannot see is a problem."""

from pathlib import Path
from typing import Any

from blindpairs.doctor import Finding
from blindpairs.doctor.finding import GIB
from blindpairs.doctor.machine import devices, processor_instructions

PLAIN_TORCH: dict[str, Any] = {"gpus": [], "mps": False}


def test_devices_names_each_gpu_with_its_memory_and_number_formats() -> None:
    gpus = [
        {"name": "NVIDIA H200", "memory": 139 * GIB, "bf16": True},
        {"name": "Tesla T4", "memory": 15 * GIB, "bf16": False},
    ]
    assert devices({"gpus": gpus, "mps": False}, driver=True) == [
        Finding("gpu", "ok", "NVIDIA H200, 139 GiB, bf16"),
        Finding("gpu", "ok", "Tesla T4, 15 GiB, no bf16"),
    ]


def test_devices_without_any_are_a_note_and_with_a_driver_but_no_torch_build_a_problem() -> None:
    assert [finding.state for finding in devices(PLAIN_TORCH, driver=False)] == ["note"]
    assert [finding.state for finding in devices(PLAIN_TORCH, driver=True)] == ["problem"]
    assert [finding.state for finding in devices({"error": "ImportError: x"}, driver=True)] == ["note"]


def test_processor_instructions_are_read_from_the_first_core(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu avx2 amx_bf16 avx512f\nprocessor : 1\nflags : fpu\n")
    assert processor_instructions(cpuinfo) == ["AMX bf16", "AVX512", "AVX2"]
    assert processor_instructions(tmp_path / "absent") == []
