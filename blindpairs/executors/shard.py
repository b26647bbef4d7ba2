"""Which of n shards this process is, read from the variables of a scheduler: Slurm, Kubernetes, torchrun.

Shards are independent and need no coordinator: each takes every n-th part. Promise: if a scheduler sets only some of
the variables, that is an error that names the missing one. Nothing is guessed: two processes with the same shard would
lock each other out, and a shard that no process took would be missing.
"""

from collections.abc import Mapping

from blindpairs.errors import ConfigError

# Kubernetes sets the index of an indexed job, but not its count, which the job's manifest must set.
KUBERNETES_COUNTS = ("BLINDPAIRS_SHARDS", "JOB_COMPLETIONS")


def choose_shard(text: str, environ: Mapping[str, str]) -> tuple[int, int]:
    """(index, count) for the value of --shard: `i/n`, `auto` for the environment, or empty for 0/1.

    Raises ConfigError for anything else, and for `auto` if no scheduler sets its variables.
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
    """(index, count) from the first of these that is set: a Slurm array, a Kubernetes indexed job, RANK, a Slurm step.

    None if none is. Raises ConfigError with the variable and its value if one is incomplete or invalid.
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
    # Slurm sets these variables for a job of one task too, which is not one of several shards.
    if "SLURM_PROCID" in environ and _number(environ, "SLURM_NTASKS", default=1) > 1:
        return _within(environ, "SLURM_PROCID", "SLURM_NTASKS")
    return None


def _slurm_array(environ: Mapping[str, str]) -> tuple[int, int]:
    """`--array=10-40:10` numbers its tasks 10, 20, 30, 40: shards 0 to 3 of 4."""
    task, count = _number(environ, "SLURM_ARRAY_TASK_ID"), _number(environ, "SLURM_ARRAY_TASK_COUNT")
    # Slurm's ids may start anywhere and have gaps; a shard's index does not.
    first = _number(environ, "SLURM_ARRAY_TASK_MIN", default=0)
    step = _number(environ, "SLURM_ARRAY_TASK_STEP", default=1) or 1  # 0 for a list such as 1,2,7
    index, remainder = divmod(task - first, step)
    if remainder or not 0 <= index < count:
        raise ConfigError(
            f"SLURM_ARRAY_TASK_ID={task} is none of {count} ids from {first} in steps of {step}: "
            f"submit with --array=0-{max(count, 1) - 1}, or give --shard i/n"
        )
    return index, count


def _within(environ: Mapping[str, str], index_name: str, count_name: str) -> tuple[int, int]:
    index, count = _number(environ, index_name), _number(environ, count_name)
    if index >= count:
        raise ConfigError(f"{index_name}={index} is not less than {count_name}={count}: shards are counted from 0")
    return index, count


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    if name not in environ:
        if default is None:
            raise ConfigError(f"{name} is not set, so the shard is unknown: set it, or give --shard i/n")
        return default
    if not _is_count(environ[name]):
        raise ConfigError(f"{name}={environ[name]!r} is not a non-negative integer: give --shard i/n")
    return int(environ[name])


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()  # isdigit alone accepts "²", which int() does not
