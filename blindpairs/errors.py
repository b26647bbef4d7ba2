"""Errors that a user can do something about.

Every expected error is one of these classes. Its message says in one or two lines what happened, with which value, and
what to do next; the command line prints it and exits with `exit_code`. Any other exception is a bug in blindpairs and
keeps its traceback.
"""

from collections.abc import Sequence


class BlindpairsError(Exception):
    """An expected error: the message is for the user, the exit code for the calling script."""

    # 0, 1 and 2 are taken: success, a bug (the interpreter's own code for a traceback), and usage (Typer's).
    exit_code = 3


class InputError(BlindpairsError):
    """The corpus, a file or a folder is not what the command needs."""


class Refused(InputError):
    """The system does not let us read a file. It may be intact, so nothing may be rebuilt or removed because of it."""


class ConfigError(BlindpairsError):
    """An option is wrong, or does not fit an artefact that was made with other options."""


class TooManyFailures(BlindpairsError):
    """The run finished, but more images failed than the user allows."""

    exit_code = 4


class AssetMissing(BlindpairsError):
    """Weights or another asset is not available on this machine and cannot be downloaded."""

    exit_code = 5


class EndpointFailed(BlindpairsError):
    """A remote endpoint stays down, or answers no request; what it answered so far is kept."""

    exit_code = 6


class BudgetSpent(BlindpairsError):
    """The user's limit on requests or tokens was reached before everything was asked; what was answered is kept."""


class Locked(BlindpairsError):
    """Another run is writing the same files."""

    exit_code = 7  # a code of its own, so that a script can wait and try again


class Undecodable(Exception):
    """One image that cannot be used: a row of the failures table, not the end of the run.

    `code` is a stable word for tables (`truncated`, `not_image`, ...); the message is for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both in args, so that it survives pickling between processes
        self.code = code
        self.message = message


def first_names(names: Sequence[str], most: int) -> str:
    """The first names of a list, and how many more there are: what a message has room for."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
