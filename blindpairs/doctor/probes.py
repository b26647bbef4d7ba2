"""What a child process finds out about each library: `probe` asks, `answer_probes` answers in the child.

A child is needed because a library can end the process that imports it (a crash, `exit`), or never return. An answer is
one line of JSON on the child's standard output.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from blindpairs.system import child_environment

PROBE_SECONDS = 180.0  # torch alone takes a minute from a cold network disk
ANSWER = "blindpairs-probe:"  # libraries print while they are imported: only lines that begin so are answers


def _torch_devices() -> dict[str, Any]:
    import torch

    cuda = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory, "bf16": gpu.major >= 8} for gpu in cuda],
        "mps": torch.backends.mps.is_available(),
    }


def _torchvision_operators() -> dict[str, Any]:
    import torch
    import torchvision

    # A torchvision built for another torch imports in some releases, and fails at its first operator.
    return {"nms": str(torch.ops.torchvision.nms), "file": torchvision.__file__}


def _pillow_formats() -> dict[str, Any]:
    from PIL import features

    return {name: features.check(name) for name in ("webp", "avif")}


def _faiss_gpus() -> dict[str, Any]:
    import faiss

    return {"gpus": faiss.get_num_gpus()}


def _torchcodec_jpeg() -> dict[str, Any]:
    from torchcodec.decoders import decode_jpeg

    return {"function": decode_jpeg.__name__}


def _compiled_join() -> dict[str, Any]:
    from blindpairs.selfjoin.compiler import build
    from blindpairs.selfjoin.shown import ENGINE_NAMES

    return {"engine": ENGINE_NAMES[build().kind]}


def _gpu_join() -> dict[str, Any]:
    import torch

    from blindpairs.selfjoin.device import why_unusable

    reasons = {f"cuda:{index}": why_unusable(index) for index in range(torch.cuda.device_count())}
    for name in [name for name, reason in reasons.items() if not reason]:
        from blindpairs.selfjoin.gpu.selftest import why_kernels_fail  # late: it loads Triton, and compiles

        reasons[name] = why_kernels_fail(name)
    return {"gpus": reasons}


def _only_import(module: str) -> Callable[[], dict[str, Any]]:
    def imported() -> dict[str, Any]:
        __import__(module)
        return {}

    return imported


# In the order in which they depend on each other: the first that fails is the one to fix.
PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "numpy": _only_import("numpy"),
    "PIL": _pillow_formats,
    "pyarrow": _only_import("pyarrow"),
    "torch": _torch_devices,
    "torchvision": _torchvision_operators,
    "torchcodec": _torchcodec_jpeg,
    "timm": _only_import("timm"),
    "open_clip": _only_import("open_clip"),
    "transformers": _only_import("transformers"),
    "faiss": _faiss_gpus,
    "selfjoin": _compiled_join,
    "selfjoin.gpu": _gpu_join,
}


def answer_probes(modules: Sequence[str]) -> None:
    """In the child process: print one line per module, with its facts or its error."""
    for module in modules:
        try:
            facts = PROBES[module]()
        except Exception as error:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            facts = {"error": f"{type(error).__name__}: {reason}"}
        # The first \n ends a line that a library left open.
        sys.stdout.write(f"\n{ANSWER}{json.dumps([module, facts])}\n")
        sys.stdout.flush()


def probe(modules: Sequence[str], seconds: float = PROBE_SECONDS) -> dict[str, dict[str, Any]]:
    """The facts of each module, or `{"error": ...}`. If one kills the child, the modules after it get a new child."""
    found: dict[str, dict[str, Any]] = {}
    # Each turn settles at least one module, so this ends.
    while waiting := [module for module in modules if module not in found]:
        output, ending = _run_child(waiting, seconds)
        lines = (line for line in output.splitlines() if line.startswith(ANSWER))
        found.update(json.loads(line.removeprefix(ANSWER)) for line in lines)
        # Answers come in order, so the first without one is what the child was busy with when it ended.
        culprit = next((module for module in waiting if module not in found), None)
        if culprit is not None:
            found[culprit] = {"error": ending}
    return found


def _run_child(modules: Sequence[str], seconds: float) -> tuple[str, str]:
    """The child's standard output, and how it ended, in words for the first module without an answer."""
    code = "import sys; from blindpairs.doctor.probes import answer_probes; answer_probes(sys.argv[1:])"
    # -P: a `torch.py` in the user's current folder must not be imported in place of the library
    command = [sys.executable, "-P", "-c", code, *modules]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=child_environment(), check=False
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""  # bytes, even with text=True: what came before the time was over
        return (output.decode() if isinstance(output, bytes) else output), f"no answer in {seconds:.0f} s"
    if done.returncode < 0:  # ended by a signal
        return done.stdout, f"importing it ends the process with {signal.Signals(-done.returncode).name}"
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    return done.stdout, f"importing it ends the process with exit code {done.returncode}: {last}"
