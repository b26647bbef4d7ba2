"""The join of this checkout against that of another, in processor seconds, by turns in fresh processes.

    git worktree add ../before COMMIT
    python tests/benchmarks/bench_against.py ../before --count 50000 --pairs 20

Each process joins the same vectors some times after a small join that loads everything. On a machine that does other
things, too, wall time says little; processor seconds by turns do. Printed is the mean ratio of a pair of processes,
ours to the other's, with its 95 % interval by bootstrap.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from vectors import make_vectors

OURS = Path(__file__).parents[2]
RUN = """
import sys, time
import numpy as np, torch
from blindpairs.selfjoin import similar_pairs
file, minimum, repeats = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
vectors = torch.from_numpy(np.load(file))
list(similar_pairs(vectors[:2000], minimum))
start = time.process_time()
for _ in range(repeats):
    found = sum(map(len, similar_pairs(vectors, minimum)))
print((time.process_time() - start) / repeats, found)
"""


def processor_seconds(checkout: Path, file: Path, minimum: float, repeats: int) -> tuple[float, int]:
    """Of one join, and how many pairs it found, by a fresh process."""
    command = [sys.executable, "-c", RUN, str(file), str(minimum), str(repeats)]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True)
    seconds, found = done.stdout.split()
    return float(seconds), int(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the root of the other checkout")
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--minimum", type=float, default=0.95)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3, help="joins in a process")
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        np.save(file, make_vectors(arguments.count).numpy())
        for turn in range(arguments.pairs):
            order = [OURS, arguments.other] if turn % 2 else [arguments.other, OURS]
            run = {root: processor_seconds(root, file, arguments.minimum, arguments.repeats) for root in order}
            (ours, found), (theirs, same) = run[OURS], run[arguments.other]
            ratios.append(ours / theirs)
            sys.stdout.write(
                f"{ours:.3f} s here, {theirs:.3f} s there, ratio {ratios[-1]:.3f}; {found} and {same} pairs\n"
            )
    means = np.random.default_rng(0).choice(ratios, (10_000, len(ratios))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    sys.stdout.write(
        f"mean ratio {np.mean(ratios):.3f} (95 % interval {low:.3f} to {high:.3f}), median {np.median(ratios):.3f}\n"
    )


if __name__ == "__main__":
    main()
