"""What the operating system gives this process: its memory, and an environment for its child processes."""

import os
from pathlib import Path


def physical_memory() -> int:
    """The bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def child_environment() -> dict[str, str]:
    """This process's environment, in which a child finds the package too, from any current folder.

    The package may be a checkout that is not installed.
    """
    paths = [str(Path(__file__).resolve().parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
