"""The commands that made what is in data/demo, so that anyone can make it again.

python -m blindpairs.demo FOLDER             the corpus and both encoders
python -m blindpairs.demo benchmark FOLDER   the benchmark, from the encoders in data/demo
python -m blindpairs.demo lm FOLDER          the language model
python -m blindpairs.demo sweep FOLDER       the log of the preset demo-sweep, a run a line, and its picture and table
"""

import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Fill the given folder, and print progress."""
    if len(arguments) == 2 and arguments[0] == "lm":
        _build_language_model(Path(arguments[1]))
    elif len(arguments) == 2 and arguments[0] == "sweep":
        _sweep(Path(arguments[1]))
    elif len(arguments) == 2 and arguments[0] == "benchmark":
        _build_benchmark(Path(arguments[1]))
    elif len(arguments) == 1:
        _build_encoders(Path(arguments[0]))
    else:
        raise SystemExit("usage: python -m blindpairs.demo [benchmark | lm | sweep] FOLDER")


def _build_encoders(folder: Path) -> None:
    from blindpairs.demo.corpus import build_corpus
    from blindpairs.demo.train import train_demo

    folder.mkdir(parents=True, exist_ok=True)
    build_corpus(folder / "scenes.parquet")
    train_demo(folder, progress=_print_progress)


def _build_benchmark(folder: Path) -> None:
    from blindpairs.demo.benchmark import CARD, FILE, build_benchmark

    benchmark = build_benchmark(folder)
    sys.stderr.write(f"{len(benchmark.pairs)} pairs: copy {folder / FILE} and {folder / CARD} to data/demo\n")


def _build_language_model(folder: Path) -> None:
    from blindpairs.demo.language_model import train_language_model

    train_language_model(folder, progress=_print_progress)


def _sweep(folder: Path) -> None:
    from blindpairs.demo.sweep import LOG, read_sweep, run_sweep
    from blindpairs.demo.sweep_report import PICTURE, picture, table
    from blindpairs.evaluate.figures import encoded

    for row in run_sweep(folder, _print_progress):
        sys.stderr.write(f"{row['run']}: {row['blind']['pair_accuracy']['share']:.1%} of blind pairs\n")
    rows = read_sweep(folder / LOG)
    (folder / PICTURE).write_bytes(encoded(picture(rows), "png"))
    sys.stdout.write(f"{table(rows)}\n")


def _print_progress(done: int, total: int, failed: int = 0, /) -> None:
    sys.stderr.write(f"training: {done} of {total}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
