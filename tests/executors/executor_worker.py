"""A worker for pools of actors that is quick to start, and whose tasks go wrong on demand."""

import os
import time
from pathlib import Path

from blindpairs.errors import InputError


class Attempts:
    """Notes each attempt at a task in a file; what happens then is in the task's name."""

    def __init__(self, log: Path, *, unlike: bool = False) -> None:
        self._log = log
        self._nature = str(os.getpid()) if unlike else "same"

    def describe(self) -> dict[str, str]:
        """The same in all actors, or not."""
        return {"nature": self._nature}

    def run_task(self, task: str) -> str:
        """`mortal` kills the process at the first attempt, `fatal` at all; `refuse` and `bug` raise, `slow` is slow."""
        before = self._log.read_text().split().count(task) if self._log.exists() else 0
        with self._log.open("a") as log:
            log.write(f"{task}\n")
        if task == "fatal" or (task == "mortal" and not before):
            time.sleep(0.3)  # the answer to the task before this one has to be out
            os._exit(1)
        if task == "refuse":
            raise InputError("the corpus is in another castle")
        if task == "bug":
            raise ZeroDivisionError
        if task == "slow":
            time.sleep(0.2)
        return task.upper()


def attempts(log: Path) -> dict[str, int]:
    """How often each task was begun."""
    tasks = log.read_text().split()
    return {task: tasks.count(task) for task in sorted(set(tasks))}
