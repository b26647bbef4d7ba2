"""A run of `mine --differences` that can be killed while it reads tokens and right before each change of a file."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from blindpairs.mine import MiningOptions, Running, mine_store
from blindpairs.mine.maps import MAPS
from blindpairs.pages import write_mined_gallery
from blindpairs.progress import Progress, silent
from blindpairs.store import Store
from blindpairs.workspace import GALLERY, PAIRS

RECORD = "pairs.json"
FILES = (PAIRS, MAPS, RECORD, GALLERY)
OPTIONS = MiningOptions(top=5, differences=True, spread=True, controls=True)


def mine(embeddings: Path, folder: Path, options: MiningOptions = OPTIONS, progress: Progress = silent) -> None:
    """What the command does: pairs, maps, their record, and the page."""
    store = Store.open(embeddings)
    mined = mine_store(store, folder, options, running=Running(patch_progress=progress))
    write_mined_gallery(store, mined, folder / GALLERY, maps=mined.maps)


def mine_to(step: int | None, embeddings: Path, folder: Path, log: Path) -> None:
    """Mine in this process, which kills itself right before that step; without one, note all steps in the log."""
    steps: list[str] = []

    def reach(name: str) -> None:
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        steps.append(name)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove"):
            path = Path(str(arguments[event == "os.rename"]))  # the new name
            if path.parent == folder and path.name in FILES:
                reach(f"{event} {path.name}")

    sys.addaudithook(audit)
    torch.set_num_threads(1)
    mine(embeddings, folder, progress=lambda *done: reach("tokens"))
    if step is None:
        log.write_text(json.dumps(steps))
