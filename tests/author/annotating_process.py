"""A person at work, as a process of its own: takes pairs from the queue, writes, decides, and reports what is saved.

    python annotating_process.py DATABASE NAME OVERLAP LEASE_SECONDS [REPORTS]

Prints `edit PAIR NUMBER` and `decided PAIR REVISION` when each is saved, and ends when every pair is decided. With
REPORTS it kills itself within 20 ms after so many of them, wherever it is then.
"""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.edits import Edit, draft_of_form, save_edit
from blindpairs.author.queue import Queue, Rules
from blindpairs.author.revisions import Decision, shown_to

REPORTS: list[tuple[object, ...]] = []


def report(*words: object) -> None:
    """Tell whoever started this process, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()
    REPORTS.append(words)
    if len(sys.argv) > 5 and len(REPORTS) == int(sys.argv[5]):
        threading.Timer(random.random() / 50, os.kill, (os.getpid(), signal.SIGKILL)).start()


def work(database: AuthoringDatabase, name: str, pair_id: str) -> None:
    """Write about one pair and decide it, now and then twice as a double click does."""
    shown = shown_to(database.history(pair_id), name)
    assert shown is not None  # every pair is drafted
    form = shown.draft.as_json()
    for number in range(2):
        form["statement_a"] += f" {name}"
        save_edit(database, Edit(pair_id, name, form, shown.id, f"window of {name}", number))
        report("edit", pair_id, number)
    draft, _ = draft_of_form(form)
    decision = Decision(pair_id, name, True, draft, based_on=shown.id, seconds=1.0)
    made = database.decide(decision)
    if random.random() < 0.2:
        assert database.decide(decision) == made
    report("decided", pair_id, made.id)


def main() -> None:
    """Work until every pair is decided by as many people as shall decide it."""
    path, name, overlap, lease_seconds = sys.argv[1:5]
    rules = Rules(overlap=int(overlap), lease_seconds=float(lease_seconds))
    with AuthoringDatabase(Path(path), busy_seconds=60) as database:
        queue = Queue(database, rules)
        while database.read("SELECT 1 FROM listed WHERE deciders < ? LIMIT 1", (rules.overlap,)):
            if found := queue.next_pairs(name):
                work(database, name, found[0])
            else:
                time.sleep(0.05)  # others hold what is left


if __name__ == "__main__":
    main()
