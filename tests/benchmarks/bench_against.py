"""The join of this checkout against that of another, in processor seconds, by turns.

    git worktree add ../before COMMIT
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_against.py ../before --count 50000 --pairs 20

Two processes hold the same vectors and join them by turns, one waiting for the other, after a first join that loads
everything. On a machine that does other things, too, wall time says little, and processor seconds of runs that lie
minutes apart differ by half; those of neighbours on one thread can be compared. Printed is the mean ratio of two
neighbours, ours to the other's, with its 95 % interval by bootstrap.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from vectors import make_vectors

from blindpairs.statistics import bootstrap_interval

OURS = Path(__file__).parents[2]
RUN = """
import sys, time
import numpy as np, torch
from blindpairs.selfjoin import similar_pairs
vectors, minimum = torch.from_numpy(np.load(sys.argv[1])), float(sys.argv[2])
list(similar_pairs(vectors, minimum))
print("ready", flush=True)
for _ in sys.stdin:
    start = time.process_time()
    found = sum(map(len, similar_pairs(vectors, minimum)))
    print(time.process_time() - start, found, flush=True)
"""


class Joiner:
    """A process with the code of a checkout."""

    def __init__(self, checkout: Path, file: Path, minimum: float) -> None:
        command = [sys.executable, "-c", RUN, str(file), str(minimum)]
        environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
        self._process = subprocess.Popen(
            command, env=environment, cwd="/", text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._answer()

    def seconds(self) -> tuple[float, int]:
        """The processor seconds of one join, and how many pairs it found."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, found = self._answer().split()
        return float(seconds), int(found)

    def end(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the root of the other checkout")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--minimum", type=float, default=0.95)
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        np.save(file, make_vectors(arguments.count).numpy())
        ours, other = (Joiner(root, file, arguments.minimum) for root in (OURS, arguments.other))
        for turn in range(arguments.pairs):
            order = [ours, other] if turn % 2 else [other, ours]
            run = {joiner: joiner.seconds() for joiner in order}
            (here, found), (there, same) = run[ours], run[other]
            ratios.append(here / there)
            sys.stdout.write(f"{here:.3f} s here, {there:.3f} s there, ratio {ratios[-1]:.3f}; {found}, {same} pairs\n")
            sys.stdout.flush()
        ours.end()
        other.end()
    low, high = bootstrap_interval(np.array(ratios), resamples=10_000)
    sys.stdout.write(
        f"mean ratio {np.mean(ratios):.3f} (95 % interval {low:.3f} to {high:.3f}), median {np.median(ratios):.3f}\n"
    )


if __name__ == "__main__":
    main()
