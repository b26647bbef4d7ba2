"""Which of n shards this process is, as a scheduler tells it: Slurm, Kubernetes, torchrun.

Shards know nothing of each other, so there is no coordinator to start, to reach or to lose: each takes every n-th part.
Promise: a scheduler that says half of what is needed is an error that names the variable, never a guess; two processes
that guessed the same shard would lock each other out, and one that nobody guessed would be missing.
"""

from collections.abc import Mapping

from blindpairs.errors import ConfigError

# Kubernetes gives an indexed job its index and nowhere the count, so that the job's own file has to.
KUBERNETES_COUNTS = ("BLINDPAIRS_SHARDS", "JOB_COMPLETIONS")


def choose_shard(text: str, environ: Mapping[str, str]) -> tuple[int, int]:
    """What --shard means: `i/n` says it, `auto` asks the environment, nothing is the whole. Returns (index, count).

    Raises ConfigError for anything else, and for `auto` where no scheduler says anything.
    """
    if not text:
        return 0, 1
    if text != "auto":
        return parse_shard(text)
    found = shard_from_environment(environ)
    if found is None:
        raise ConfigError(
            "--shard auto found no Slurm array, Kubernetes indexed job or torchrun in the environment: "
            "give the shard yourself, such as --shard 0/4"
        )
    return found


def parse_shard(text: str) -> tuple[int, int]:
    """`3/64` -> (3, 64): the index counts from 0. Raises ConfigError for what is not i/n with 0 <= i < n."""
    index, _, count = text.partition("/")
    if not (_is_count(index) and _is_count(count) and int(index) < int(count)):
        raise ConfigError(f"--shard {text!r} is not i/n with 0 <= i < n, such as 0/4, nor auto")
    return int(index), int(count)


def shard_from_environment(environ: Mapping[str, str]) -> tuple[int, int] | None:
    """(index, count) from the first of these that speaks: a Slurm array, a Kubernetes indexed job, RANK, a Slurm step.

    None where none does. Raises ConfigError, with variable and value, where one says too little or nonsense.
    """
    if "SLURM_ARRAY_TASK_ID" in environ:
        return _slurm_array(environ)
    if "JOB_COMPLETION_INDEX" in environ:
        count = next((name for name in KUBERNETES_COUNTS if name in environ), "")
        if not count:
            raise ConfigError(
                "JOB_COMPLETION_INDEX is set, but Kubernetes does not say how many there are: "
                f"set {KUBERNETES_COUNTS[0]} to the job's completions in its env"
            )
        return _within(environ, "JOB_COMPLETION_INDEX", count)
    if "RANK" in environ:
        return _within(environ, "RANK", "WORLD_SIZE")
    # A single task has these, too: a whole job then, not one of its shards.
    if "SLURM_PROCID" in environ and _number(environ, "SLURM_NTASKS", default=1) > 1:
        return _within(environ, "SLURM_PROCID", "SLURM_NTASKS")
    return None


def _slurm_array(environ: Mapping[str, str]) -> tuple[int, int]:
    """`--array=10-40:10` numbers its tasks 10, 20, 30, 40: shards 0 to 3 of 4."""
    task, count = _number(environ, "SLURM_ARRAY_TASK_ID"), _number(environ, "SLURM_ARRAY_TASK_COUNT")
    first = _number(environ, "SLURM_ARRAY_TASK_MIN", default=0)
    step = _number(environ, "SLURM_ARRAY_TASK_STEP", default=1) or 1  # Slurm says 0 of a list such as 1,2,7
    index, between = divmod(task - first, step)
    if between or not 0 <= index < count:
        raise ConfigError(
            f"SLURM_ARRAY_TASK_ID={task} is none of {count} ids from {first} in steps of {step}: "
            f"submit with --array=0-{max(count, 1) - 1}, or give --shard i/n"
        )
    return index, count


def _within(environ: Mapping[str, str], index_name: str, count_name: str) -> tuple[int, int]:
    index, count = _number(environ, index_name), _number(environ, count_name)
    if index >= count:
        raise ConfigError(f"{index_name}={index} does not lie below {count_name}={count}: shards are counted from 0")
    return index, count


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    if name not in environ:
        if default is None:
            raise ConfigError(f"{name} is not set, so the shard cannot be told: set it, or give --shard i/n")
        return default
    if not _is_count(environ[name]):
        raise ConfigError(f"{name}={environ[name]!r} is not a number from 0 on: give --shard i/n")
    return int(environ[name])


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()
