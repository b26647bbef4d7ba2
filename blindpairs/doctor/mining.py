"""Checks of the two engines that make mining fast: compiled C on the CPU, Triton kernels on GPUs.

Both have a slower replacement that finds the same pairs, so nothing here is a problem.
"""

from collections.abc import Mapping
from typing import Any

from blindpairs.doctor.finding import Finding


def compiled_join(facts: Mapping[str, Any]) -> Finding:
    """Whether mining runs as compiled code, and with which instructions."""
    if "error" in facts:
        reason = facts["error"].removeprefix("NotCompiled: ")  # the class says what the sentence says already
        value = f"torch does it, at a half to a quarter of the speed: {reason}"
        return Finding("mining", "note", value, "apt-get install gcc (or set CC to another C compiler)")
    return Finding("mining", "ok", f"{facts['engine']}, built for this processor")


def gpu_join(facts: Mapping[str, Any]) -> list[Finding]:
    """Whether each GPU can mine, tested on a small join, and why not; nothing without a GPU."""
    if "error" in facts:
        return [Finding("mining on a gpu", "note", f"not possible, the CPU does it: {facts['error']}")]
    return [
        Finding(f"mining on {name}", "note", f"not possible, the CPU does it: {reason}")
        if reason
        else Finding(f"mining on {name}", "ok", "its kernels passed their test")
        for name, reason in facts.get("gpus", {}).items()
    ]
