"""Checks the machine and the installation, and names the command that fixes each problem.

Promises: nothing here changes anything; every library is imported in a child process, so that one that crashes, hangs
or is incompatible with another is a finding and never ends the checks; each finding that can be fixed says how.
"""

import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blindpairs.cores import usable_cores
from blindpairs.errors import BlindpairsError
from blindpairs.workspace import demo_folder

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "note", "problem"]  # note: works, but slower or with fewer features; problem: a command fails

GIB = 1 << 30
LEAST_FREE = 2 * GIB  # embeddings of a million images by the default encoders take 3.6 GB
PROBE_SECONDS = 180.0  # torch alone takes a minute from a cold network disk
ANSWER = "blindpairs-probe:"  # libraries print while they are imported: only lines that begin so are ours

MODULE_OF = {"open-clip-torch": "open_clip", "pillow": "PIL", "faiss-gpu": "faiss", "faiss-cpu": "faiss"}
DEMO_PARTS = ("scenes.parquet", "clip/*.safetensors", "dino/*.safetensors")
REPLACEABLE = {"torchcodec": "Pillow reads JPEGs instead, at half the speed"}
# Where the default encoders' weights come from, as the libraries that load them resolve the names.
DEFAULT_WEIGHTS = {
    "open_clip:ViT-L-14/openai": "timm/vit_large_patch14_clip_224.openai",
    "hf:facebook/dinov2-large": "facebook/dinov2-large",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check, and the command that installs or fixes it ("" if nothing needs to be done)."""

    name: str
    state: State
    value: str
    remedy: str = ""


def examine(work: Path = Path("blindpairs-work")) -> list[Finding]:
    """Check libraries, devices, assets, weights and the work folder; takes as long as importing every library."""
    probed = probe(tuple(PROBES))
    return [
        *machine(),
        *devices(probed["torch"], driver=shutil.which("nvidia-smi") is not None),
        *libraries(probed),
        *faiss_builds(probed),
        *image_formats(probed["PIL"]),
        compiled_join(probed["selfjoin"]),
        *gpu_join(probed["selfjoin.gpu"]),
        demo_assets(),
        *weights(os.environ),
        work_folder(work),
    ]


# --- what each library is asked, in the child process


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

    # A torchvision built for another torch imports in some releases and fails at its first operator.
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

    return {"kind": build().kind}


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
        sys.stdout.write(f"\n{ANSWER}{json.dumps([module, facts])}\n")
        sys.stdout.flush()


def probe(modules: Sequence[str], seconds: float = PROBE_SECONDS) -> dict[str, dict[str, Any]]:
    """The facts of each module, or `{"error": ...}`. If one kills the child, the modules after it get a new child."""
    found: dict[str, dict[str, Any]] = {}
    while waiting := [module for module in modules if module not in found]:
        said, ended = _child(waiting, seconds)
        lines = (line for line in said.splitlines() if line.startswith(ANSWER))
        found.update(json.loads(line.removeprefix(ANSWER)) for line in lines)
        # Answers come in order, so the first without one is what the child was busy with when it ended.
        culprit = next((module for module in waiting if module not in found), None)
        if culprit is not None:
            found[culprit] = {"error": ended}
    return found


def _child(modules: Sequence[str], seconds: float) -> tuple[str, str]:
    """The child's output, and how it ended if it died early."""
    code = "import sys; from blindpairs import doctor; doctor.answer_probes(sys.argv[1:])"
    here = str(Path(__file__).resolve().parents[1])  # found from any folder, also in a checkout that is not installed
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    # -P: a `torch.py` in the folder that the user happens to be in is not the library
    command = [sys.executable, "-P", "-c", code, *modules]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        return (said.decode() if isinstance(said, bytes) else said), f"no answer in {seconds:.0f} s"
    if done.returncode < 0:
        return done.stdout, f"importing it ends the process with {signal.Signals(-done.returncode).name}"
    last = (done.stderr.strip() or "no message").splitlines()[-1]
    return done.stdout, f"importing it ends the process with exit code {done.returncode}: {last}"


# --- the machine


def machine() -> list[Finding]:
    """Python and the processor."""
    cores = usable_cores()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    instructions = processor_instructions(Path("/proc/cpuinfo"))
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("processor", "ok", ", ".join([f"{cores} cores", f"{memory:.0f} GiB memory", *instructions])),
    ]


def processor_instructions(cpuinfo: Path) -> list[str]:
    """The instruction sets that decide how fast products run; none outside Linux on x86-64."""
    if not cpuinfo.is_file():
        return []
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


# --- the libraries


def libraries(probed: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """One finding per dependency of the package, judged by the ranges that the package itself declares."""
    declared = _declared_requirements()
    if not declared:
        remedy = "python -m pip install -e ."
        return [Finding("blindpairs", "problem", "runs from its source without being installed", remedy)]
    return [
        *(library(one, probed.get(MODULE_OF.get(one.name, one.name), {})) for one in declared),
        *_absent_extras(),
    ]


def library(requirement: "Requirement", facts: Mapping[str, Any]) -> Finding:
    """Judge one dependency: present, in range, and importable."""
    name, wanted = requirement.name, f"{requirement.name}{requirement.specifier}"
    install = f"python -m pip install {shlex.quote(wanted)}"
    instead = REPLACEABLE.get(name, "")
    state: State = "note" if instead else "problem"
    version = _version(name)
    if version is None:
        return Finding(name, state, f"not installed {instead and f'({instead})'}".strip(), install)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(name, "problem", f"{version}, but blindpairs needs {requirement.specifier}", install)
    if "error" in facts:
        value = f"{version} cannot be used: {facts['error']} {instead and f'({instead})'}".strip()
        return Finding(name, state, value, _reinstall(name, wanted))
    return Finding(name, "ok", version)


def _reinstall(name: str, wanted: str) -> str:
    # "operator torchvision::nms does not exist": each was built for another torch; only a matching pair works.
    pair = name in ("torch", "torchvision", "torchcodec")
    packages = "torch torchvision torchcodec" if pair else shlex.quote(wanted)
    return f"python -m pip install --force-reinstall {packages}"


def _declared_requirements(extra: str = "") -> list["Requirement"]:
    """What the package needs on this platform: always, or (with the name of an extra) for that extra only."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("blindpairs") or []
    except metadata.PackageNotFoundError:
        return []
    mentions = [(one, "extra ==" in str(one.marker)) for one in map(Requirement, lines)]
    return [
        one
        for one, optional in mentions
        if optional == bool(extra) and (one.marker is None or one.marker.evaluate({"extra": extra}))
    ]


def _absent_extras() -> list[Finding]:
    offered = metadata.metadata("blindpairs").get_all("Provides-Extra") or []
    return [
        Finding(one.name, "note", "not installed (optional)", f"python -m pip install 'blindpairs[{extra}]'")
        for extra in offered
        for one in _declared_requirements(extra)
        if extra != "dev" and _version(one.name) is None
    ]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def faiss_builds(probed: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """FAISS comes as two distributions of one module: both at once overwrite each other."""
    found = []
    if _version("faiss-cpu") and _version("faiss-gpu"):
        remedy = "python -m pip uninstall -y faiss-cpu faiss-gpu && python -m pip install --force-reinstall blindpairs"
        found.append(Finding("faiss", "problem", "faiss-cpu and faiss-gpu are both installed", remedy))
    if probed["torch"].get("gpus") and probed["faiss"].get("gpus") == 0:
        remedy = "python -m pip uninstall -y faiss-cpu && python -m pip install faiss-gpu"
        found.append(Finding("faiss", "note", "sees no GPU though torch does: indexes are built on the CPU", remedy))
    return found


def image_formats(pillow: Mapping[str, Any]) -> list[Finding]:
    """The formats that some builds of Pillow lack."""
    lacking = [name for name in ("webp", "avif") if pillow.get(name) is False]
    remedy = "python -m pip install --force-reinstall --only-binary :all: pillow"
    return [
        Finding(name, "note", f"this Pillow cannot read {name}: such images become failures", remedy)
        for name in lacking
    ]


def compiled_join(facts: Mapping[str, Any]) -> Finding:
    """Whether mining runs as compiled code, and with which instructions."""
    if "error" in facts:
        reason = facts["error"].removeprefix("NotCompiled: ")
        value = f"torch does it, at a half to a quarter of the speed: {reason}"
        return Finding("mining", "note", value, "apt-get install gcc (or set CC to another C compiler)")
    products = {"amx": "AMX, bfloat16", "avx512-bf16": "AVX512, bfloat16", "float32": "float32"}
    return Finding("mining", "ok", f"compiled for this processor ({products[facts['kind']]})")


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


# --- assets, weights, folders


def demo_assets(find: Callable[[], Path] = demo_folder) -> Finding:
    """Whether the demo's corpus and both of its encoders came with the package."""
    remedy = "python -m pip install --force-reinstall blindpairs"
    try:
        folder = find()
    except BlindpairsError as error:
        return Finding("demo data", "problem", str(error), remedy)
    absent = [part for part in DEMO_PARTS if not any(path.stat().st_size for path in folder.glob(part))]
    if absent:
        return Finding("demo data", "problem", f"{folder} lacks {', '.join(absent)}", remedy)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    return Finding("demo data", "ok", f"{size:.1f} MB in {folder}")


def weights(environment: Mapping[str, str]) -> list[Finding]:
    """Where the libraries keep downloaded weights, and whether the default encoders' are there."""
    home = Path(environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser()
    offline = environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    absent = f"not in {cache}: " + ("and HF_HUB_OFFLINE forbids fetching" if offline else "fetched at first use")
    return [
        Finding(spec, "ok", f"in {cache}")
        if has_weights(cache, repository)
        else Finding(spec, "note", absent, f"HF_HUB_OFFLINE=0 hf download {repository}")
        for spec, repository in DEFAULT_WEIGHTS.items()
    ]


def has_weights(cache: Path, repository: str) -> bool:
    """Whether a hub cache holds a weight file of a repository; a download cut short leaves none under snapshots/."""
    snapshots = cache / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(path.is_file() for kind in ("*.safetensors", "*.bin") for path in snapshots.glob(f"*/{kind}"))


def work_folder(work: Path) -> Finding:
    """Whether results can be written to `work`, which need not exist yet."""
    folder = work.absolute()
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("work folder", "problem", f"{existing} cannot be written", "choose another with --work FOLDER")
    if len(os.fsencode(max(folder.parts, key=len))) > os.pathconf(existing, "PC_NAME_MAX"):
        return Finding("work folder", "problem", f"{folder} is too long a name", "choose another with --work FOLDER")
    free = shutil.disk_usage(existing).free
    value = f"{folder}, {free / GIB:.1f} GiB free"
    if free < LEAST_FREE:
        return Finding("work folder", "note", value, "free space, or choose another with --work FOLDER")
    return Finding("work folder", "ok", value)
