"""`python -m blindpairs.demo FOLDER`: build the corpus and train both encoders, as was done for those in data/demo."""

import sys
from pathlib import Path

from blindpairs.demo.corpus import build_corpus
from blindpairs.demo.train import train_demo


def main(arguments: list[str]) -> None:
    """Fill the given folder, and print progress."""
    if len(arguments) != 1:
        raise SystemExit("usage: python -m blindpairs.demo FOLDER")
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    build_corpus(folder / "scenes.parquet")
    train_demo(folder, progress=_print_progress)


def _print_progress(done: int, total: int, failed: int = 0, /) -> None:
    sys.stderr.write(f"training: {done} of {total} evaluations\n")


if __name__ == "__main__":
    main(sys.argv[1:])
