"""Asks 60 questions of an endpoint and is killed half way, at the question that the test names."""

import os
import signal
import sys
from pathlib import Path

from fake_endpoint import some_asks

from blindpairs.vlm import RetryPolicy, ask_all, open_cache, open_model


def main(spec: str, cache: str, kill_after: int) -> None:
    """Ask everything; kill this process when `kill_after` outcomes have been taken."""
    model = open_model(spec, work=Path(cache).parent, retry_policy=RetryPolicy(concurrency=4))
    with open_cache(Path(cache)) as opened:
        for number, _ in enumerate(ask_all(model, some_asks(60), cache=opened), 1):
            if number == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
