"""Commands to which file permissions apply, even where the tests run as root."""

import os
import shutil
import subprocess
from collections.abc import Mapping

import pytest

# Root without its right to pass over permissions; other accounts are held by them anyway.
BOUND = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


def bound_run(command: list[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a command so; skips the test where root cannot give its rights up."""
    if BOUND and not shutil.which(BOUND[0]):
        pytest.skip("root, and no setpriv to give its rights up")
    done = subprocess.run([*BOUND, *command], capture_output=True, text=True, env=environment, check=False, timeout=300)
    if "setpriv:" in done.stderr:
        pytest.skip(done.stderr.strip())
    return done
