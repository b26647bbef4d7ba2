"""Work on many machines: as one of n independent shards, or as tasks of actors in a Ray cluster.

`shard` reads from the environment which shard this process is. `actors` is a pool of Ray actors; `embedding` and
`joining` run on it. Importing one of these three needs Ray. Importing `executors` or `shard` does not.
"""

from blindpairs.errors import ConfigError


class RayMissing(ConfigError):
    """Ray was asked for and is not installed."""

    exit_code = 2  # as for an unknown option: without Ray this installation does not have `--executor ray`

    def __init__(self) -> None:
        super().__init__('Ray is not installed, and --executor ray needs it: pip install "blindpairs[ray]"')
