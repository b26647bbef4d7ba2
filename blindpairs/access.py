"""Why a file cannot be read or written, as one sentence: permission denied, something in the way, no room, missing.

Promises: a file that the system refuses to open is never taken for damaged or missing; the message names the file or
folder that refuses, its owner and its mode; no message advises deleting anything.
"""
# os.path returns False where some releases of Python let a Path method raise.
# ruff: noqa: PTH110, PTH112, PTH113, PTH114

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blindpairs.errors import InputError, Refused

ABSENT = (errno.ENOENT, errno.ENOTDIR)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM)


def present(path: Path) -> bool:
    """Whether `path` exists; Refused where the system does not tell, and for a link to nothing."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in ABSENT and not os.path.islink(path):
            return False
        raise Refused(f"cannot read {path}: {_said(error)}{_whose_or_what(path, error)}") from error
    return True


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which reads `path`, into Refused, or InputError where it is missing or no file.

    A pipe is never opened, because that would wait for a writer. A device may never end.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path} is a pipe, socket or device where a file should be (move it away)")
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that could not be read."""
    if error.errno in ABSENT and not os.path.islink(path):
        return InputError(f"{path} is missing")
    if error.errno == errno.EISDIR:
        return InputError(f"{path} is a folder where a file should be (move it away)")
    return Refused(f"cannot read {path}: {_said(error)}{_whose_or_what(path, error)}; nothing was changed")


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file or folder that could not be written."""
    if error.errno in NO_ROOM:
        return InputError(f"no room to write {path}: {_said(error)}; free space, then run the same command to resume")
    why = _whose_or_what(path, error)
    return InputError(f"cannot write {path}: {_said(error)}{why}; choose another folder with --work")


def listed(folder: Path) -> list[Path]:
    """The content of a folder in order of name; empty where there is no folder, Refused where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def removed(path: Path) -> None:
    """Remove a file of ours if it exists; InputError where that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot replace {path}: {_said(error)}{_whose_or_what(path, error)}") from error


def obstacle(path: Path) -> str:
    """What prevents the folder of `path` from being made, the outermost first; empty where nothing does."""
    whole = path.absolute()
    for place in (*reversed(whole.parents), whole):
        if os.path.islink(place) and not os.path.exists(place):
            return f"{place} is a link to {place.readlink()}, which leads nowhere"
        if os.path.isfile(place) and place != whole:
            return f"{place} is a file, not a folder"
    return f"{path} is a folder where a file should be" if os.path.isdir(whole) else ""


def _said(error: OSError) -> str:
    """The system's message, first line only: those of Arrow have many."""
    return ((os.strerror(error.errno) if error.errno else str(error)).splitlines() or ["no reason given"])[0][:160]


def _whose_or_what(path: Path, error: OSError) -> str:
    why = _refusing(path) if error.errno in DENIED else obstacle(path)
    return f" ({why})" if why else ""


def _refusing(path: Path) -> str:
    """Owner and mode of the outermost folder or file on `path` that denies access, and the user of this process."""
    whole = path.absolute()
    places = [*reversed(whole.parents), whole]
    for place in places:
        wanted = os.X_OK if os.path.isdir(place) and place != whole else os.R_OK
        if os.path.lexists(place) and not os.access(place, wanted):
            break
    else:  # all can be read: writing is denied, to the file or its folder
        refusing = [each for each in (whole, whole.parent) if _unwritable(each)]
        refusing += [] if os.access(whole.parent, os.R_OK) else [whole.parent]  # flushing a folder reads it
        place = refusing[0] if refusing else _nearest(whole)
    status = place.stat()
    return (
        f"{place} belongs to {_name(status.st_uid)}, mode {status.st_mode & 0o7777:o}, "
        f"and this runs as {_name(os.geteuid())}"
    )


def _unwritable(place: Path) -> bool:
    return os.path.exists(place) and not os.access(place, os.W_OK)


def _nearest(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if os.path.exists(place))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
