"""The same work on many machines: as one of n independent shards, or as tasks for actors of a Ray cluster.

`cluster` finds out which shard this process is; `crew` shares tasks out to Ray actors, for `embedding` and `joining`.
Importing any of those last three needs Ray; nothing else in the package imports it.
"""

from blindpairs.errors import ConfigError


class RayMissing(ConfigError):
    """Ray was asked for and is not installed: a matter of how the command was called, as a wrong option is."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__('Ray is not installed, and --executor ray needs it: pip install "blindpairs[ray]"')
