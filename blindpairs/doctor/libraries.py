"""Checks of the libraries: each dependency is present, in the range that the package declares, and importable."""

import shlex
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from blindpairs.doctor.finding import Finding, State

# Where the name to import is not the name to install.
MODULE_OF = {"open-clip-torch": "open_clip", "pillow": "PIL", "faiss-gpu": "faiss", "faiss-cpu": "faiss"}
REPLACEABLE = {"torchcodec": "Pillow reads JPEGs instead, at half the speed"}


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


def library(requirement: Requirement, facts: Mapping[str, Any]) -> Finding:
    """Judge one dependency: present, in range, and importable."""
    name, wanted = requirement.name, f"{requirement.name}{requirement.specifier}"
    install = f"python -m pip install {shlex.quote(wanted)}"
    instead = REPLACEABLE.get(name, "")
    state: State = "note" if instead else "problem"
    version = installed_version(name)
    if version is None:
        return Finding(name, state, f"not installed {instead and f'({instead})'}".strip(), install)
    # A range excludes pre-releases by default, and vendors' builds of torch (2.9.0a0+...) are pre-releases.
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(name, "problem", f"{version}, but blindpairs needs {requirement.specifier}", install)
    if "error" in facts:
        value = f"{version} cannot be used: {facts['error']} {instead and f'({instead})'}".strip()
        return Finding(name, state, value, _reinstall(name, wanted))
    return Finding(name, "ok", version)


def _reinstall(name: str, wanted: str) -> str:
    # "operator torchvision::nms does not exist": each was built for another torch; only a matching set works.
    built_for_torch = name in ("torch", "torchvision", "torchcodec")
    packages = "torch torchvision torchcodec" if built_for_torch else shlex.quote(wanted)
    return f"python -m pip install --force-reinstall {packages}"


def _declared_requirements(extra: str = "") -> list[Requirement]:
    """What the package needs on this platform: always, or (with the name of an extra) for that extra only."""
    try:
        lines = metadata.requires("blindpairs") or []
    except metadata.PackageNotFoundError:
        return []
    # A marker such as `extra == "ray"` is how the metadata says that a requirement belongs to an extra.
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
        if extra != "dev" and installed_version(one.name) is None
    ]


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, read from its metadata without importing it; None if there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def faiss_builds(probed: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """FAISS comes as two distributions of one module, which overwrite each other if both are installed."""
    found = []
    if installed_version("faiss-cpu") and installed_version("faiss-gpu"):
        # Both are removed first: uninstalling one deletes files that the other needs.
        remedy = "python -m pip uninstall -y faiss-cpu faiss-gpu && python -m pip install --force-reinstall blindpairs"
        found.append(Finding("faiss", "problem", "faiss-cpu and faiss-gpu are both installed", remedy))
    if probed["torch"].get("gpus") and probed["faiss"].get("gpus") == 0:
        remedy = "python -m pip uninstall -y faiss-cpu && python -m pip install faiss-gpu"
        found.append(Finding("faiss", "note", "sees no GPU though torch does: indexes are built on the CPU", remedy))
    return found


def image_formats(pillow: Mapping[str, Any]) -> list[Finding]:
    """The formats that some builds of Pillow lack."""
    # `is False`: a Pillow that could not be probed is already a finding, and lacks the keys.
    lacking = [name for name in ("webp", "avif") if pillow.get(name) is False]
    remedy = "python -m pip install --force-reinstall --only-binary :all: pillow"
    return [
        Finding(name, "note", f"this Pillow cannot read {name}: such images become failures", remedy)
        for name in lacking
    ]
