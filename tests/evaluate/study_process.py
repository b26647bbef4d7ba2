"""A participant of a study, as a process of its own: answers what is asked and reports each answer when it is saved.

    python study_process.py RESULTS PAIRS NAME

The benchmark is that of `pictured_pairs.benchmark_of(PAIRS)`; the answer is always the first option.
"""

import sys
from pathlib import Path

from pictured_pairs import benchmark_of

from blindpairs.evaluate.study import Study


def main() -> None:
    """Answer until nothing is left."""
    results, pairs, name = sys.argv[1:]
    with Study(Path(results), benchmark_of(int(pairs))) as study:
        while items := study.next_items(name, 1):
            study.answer(name, items[0].token, 0, 1.5)
            sys.stdout.write(f"{items[0].token}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
