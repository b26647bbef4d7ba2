"""Why a file cannot be read or written, as one sentence: no permission, a file in place of a folder, no room, missing.

Promises: a file that the system refuses to open is never treated as damaged or missing; the message names the file or
folder that denies access, its owner and its mode; no message advises deleting anything.
"""
# os.path, because in some releases of Python the same methods of Path raise OSError instead of returning False.
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
    """Whether `path` exists; Refused where the system does not say, and for a broken link."""
    try:
        path.stat()
    except OSError as error:
        # A broken link gives ENOENT, too. Its target may be on a disk that is not mounted, so it is not "absent".
        if error.errno in ABSENT and not os.path.islink(path):
            return False
        raise Refused(f"cannot read {path}: {_system_message(error)}{_reason(path, error)}") from error
    return True


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which reads `path`, into Refused, or InputError where it is missing or no file."""
    try:
        # Checked before the block opens it: opening a pipe waits for a writer, and reading a device may never end.
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path} is a pipe, socket or device where a file should be (move it away)")
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that could not be read."""
    # Refused is only for files that may be intact: callers rebuild what is missing, never what is refused.
    if error.errno in ABSENT and not os.path.islink(path):
        return InputError(f"{path} is missing")
    if error.errno == errno.EISDIR:
        return InputError(f"{path} is a folder where a file should be (move it away)")
    return Refused(f"cannot read {path}: {_system_message(error)}{_reason(path, error)}; nothing was changed")


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file or folder that could not be written."""
    if error.errno in NO_ROOM:
        return InputError(
            f"no room to write {path}: {_system_message(error)}; free space, then run the same command to resume"
        )
    why = _reason(path, error)
    return InputError(
        f"cannot write {path}: {_system_message(error)}{why}; choose another place with --work or --output"
    )


def sqlite_code(error: BaseException) -> int:
    """SQLite's number of an error, such as SQLITE_FULL; 0 of an error that is none of its own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the lowest byte is the error, the others say where


def listed(folder: Path) -> list[Path]:
    """The content of a folder in order of name; empty where there is no folder, Refused where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from error


def remove(path: Path) -> None:
    """Remove a file that blindpairs wrote, if it exists; InputError where that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot replace {path}: {_system_message(error)}{_reason(path, error)}") from error


def obstacle(path: Path) -> str:
    """What prevents the folder of `path` from being made, the outermost first; "" where nothing does."""
    whole = path.absolute()
    for place in (*reversed(whole.parents), whole):
        if os.path.islink(place) and not os.path.exists(place):
            return f"{place} is a link to {place.readlink()}, which leads nowhere"
        if os.path.isfile(place) and place != whole:
            return f"{place} is a file, not a folder"
    return f"{path} is a folder where a file should be" if os.path.isdir(whole) else ""


def _system_message(error: OSError) -> str:
    """The system's message for its error number. Arrow raises OSErrors without one, whose text has many lines."""
    return ((os.strerror(error.errno) if error.errno else str(error)).splitlines() or ["no reason given"])[0][:160]


def _reason(path: Path, error: OSError) -> str:
    why = _denying_place(path) if error.errno in DENIED else obstacle(path)
    return f" ({why})" if why else ""


def _denying_place(path: Path) -> str:
    """Owner and mode of the outermost folder or file on `path` that denies access, and the user of this process."""
    whole = path.absolute()
    places = [*reversed(whole.parents), whole]
    for place in places:
        # A folder on the way must be passable (x), the file itself readable.
        wanted = os.X_OK if os.path.isdir(place) and place != whole else os.R_OK
        if os.path.lexists(place) and not os.access(place, wanted):
            break
    else:  # Everything on the path can be read, so it is writing that was denied, to the file or to its folder.
        denying = [each for each in (whole, whole.parent) if _unwritable(each)]
        parent_readable = os.access(whole.parent, os.R_OK) or not os.path.exists(whole.parent)
        denying += [] if parent_readable else [whole.parent]  # fsync of a folder opens it for reading
        place = denying[0] if denying else _nearest(whole)
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
    except KeyError:  # no entry in the password file, as for the user of many containers
        return f"uid {uid}"
