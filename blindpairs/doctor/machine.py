"""Checks of the machine: Python, the processor, and the GPUs that torch can use."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blindpairs.cores import usable_cores
from blindpairs.doctor.finding import GIB, Finding
from blindpairs.system import physical_memory


def machine() -> list[Finding]:
    """Python and the processor."""
    cores = usable_cores()
    memory = physical_memory() / GIB
    instructions = processor_instructions(Path("/proc/cpuinfo"))
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("processor", "ok", ", ".join([f"{cores} cores", f"{memory:.0f} GiB memory", *instructions])),
    ]


def processor_instructions(cpuinfo: Path) -> list[str]:
    """The instruction sets that decide how fast matrix products run; none outside Linux on x86-64."""
    if not cpuinfo.is_file():
        return []
    # Every core has the same line; ARM calls it "Features", so it is not found there.
    flags = next((set(line.split()) for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), set())
    names = {"amx_bf16": "AMX bf16", "avx512_bf16": "AVX512 bf16", "avx512f": "AVX512", "avx2": "AVX2"}
    return [name for flag, name in names.items() if flag in flags]


def devices(torch: Mapping[str, Any], driver: bool) -> list[Finding]:
    """The accelerators that torch can use; `driver` says whether the machine has NVIDIA's tools."""
    if "error" in torch:
        return [Finding("gpu", "note", "unknown: torch does not import")]
    found = [
        Finding("gpu", "ok", f"{gpu['name']}, {gpu['memory'] / GIB:.0f} GiB, {'bf16' if gpu['bf16'] else 'no bf16'}")
        for gpu in torch["gpus"]
    ]
    if torch["mps"]:
        found.append(Finding("gpu", "ok", "Apple Metal (mps)"))
    if not found and driver:
        remedy = "compare `nvidia-smi` with `python -c 'import torch; print(torch.version.cuda)'`: torch needs a build "
        return [Finding("gpu", "problem", "nvidia-smi is installed, but torch sees no GPU", remedy + "for this driver")]
    return found or [Finding("gpu", "note", "none: everything runs on the CPU")]
