"""`transformers serve`: a real OpenAI-compatible endpoint for the tests, which needs no network and no GPU."""

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

EXTRA = ("fastapi", "uvicorn", "openai", "accelerate")  # what transformers[serving] adds


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """The spec of a model folder behind a server that runs for the block; skips the test without the extra."""
    if any(importlib.util.find_spec(name) is None for name in EXTRA):
        pytest.skip("no server: install transformers[serving] to ask a real endpoint")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([*command, *options, "--device", "cpu"], stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 120
            while server.poll() is None and not answers(port) and time.monotonic() < deadline:
                time.sleep(0.2)
            log.seek(0)
            assert server.poll() is None, log.read().decode()
            # A folder's path is the name of a model, which the server loads at the first request.
            yield f"openai:{folder}@http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(30)


def answers(port: int) -> bool:
    """Whether the server is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except OSError:
        return False
