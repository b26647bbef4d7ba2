"""What a user can do about what went wrong.

Every foreseen error is one of these classes, says what happened, with which value, and what to do next, in one or two
lines; the command line prints it and leaves with `exit_code`. Any other exception is our bug and keeps its traceback.
"""


class BlindpairsError(Exception):
    """A foreseen error: the sentence is for the user, the exit code for the script that called us."""

    exit_code = 3


class InputError(BlindpairsError):
    """The corpus, a file or a folder is not what the command needs."""


class Refused(InputError):
    """The system would not let us read a file, which may be sound: nothing may be rebuilt or removed over it."""


class ConfigError(BlindpairsError):
    """An option, or an artefact made with other options, does not fit this run."""


class TooManyFailures(BlindpairsError):
    """The run finished, but more images failed than the user allows."""

    exit_code = 4


class AssetMissing(BlindpairsError):
    """Weights or another asset is not on this machine and cannot be fetched."""

    exit_code = 5


class Locked(BlindpairsError):
    """Another run is writing the same files."""

    exit_code = 7


class Undecodable(Exception):
    """One image that cannot be used: a row of the failures table, not the end of the run.

    `code` is a stable word for tables (`truncated`, `not_image`, ...); the message is for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both in args, so that it survives pickling between processes
        self.code = code
        self.message = message
