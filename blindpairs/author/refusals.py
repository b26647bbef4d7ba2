"""What the pages of `author` and `study` answer to what cannot be done: a sentence and a status, as JSON for scripts.

The status says whether sending a request again can help: 409 something newer is there, 404 nothing is, 413 and 422 the
request's fault, 503 and 507 the disk's. Who visits an address that leads nowhere reads the sentence on a page. A
sentence says what is wrong and where; what to do is said by the page, which knows what was typed and is sent again.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from blindpairs.access import NO_ROOM, sqlite_code
from blindpairs.author.desk import NoSuchPair
from blindpairs.author.edits import EditConflict
from blindpairs.author.revisions import Conflict
from blindpairs.author.security import TOO_LARGE, BodyTooLarge
from blindpairs.errors import BlindpairsError, Locked, Undecodable
from blindpairs.pages.safety import visible_text

Refusing = Callable[[Request, Exception], Awaitable[Response]]


def refusals(page: Callable[[Request, str], Response]) -> Mapping[Any, Refusing]:
    """The answer to each kind of error; `page` makes the one for a person from a sentence."""

    async def answer(request: Request, error: Exception) -> Response:
        status, body = _told(error)
        if request.headers.get("sec-fetch-mode") != "navigate":
            return JSONResponse(body, status)
        shown = page(request, body["error"])
        shown.status_code = status
        return shown

    return dict.fromkeys((BlindpairsError, BodyTooLarge, Undecodable, 404), answer)


def _told(error: Exception) -> tuple[int, dict[str, Any]]:
    """The status and the JSON for an error."""
    if isinstance(error, BodyTooLarge):
        return 413, {"error": TOO_LARGE}
    if isinstance(error, Undecodable):
        return 404, {"error": f"{visible_text(error.message)} ({error.code})"}
    if not isinstance(error, BlindpairsError):
        return 404, {"error": "there is nothing at this address"}
    told = str(error)
    if isinstance(error, Conflict):
        return 409, {"error": told, "later": {"revision": error.revision.id, "kind": error.revision.kind}}
    if isinstance(error, EditConflict):
        return 409, {"error": told, "edit": error.edit.id}
    if isinstance(error, NoSuchPair):
        return 404, {"error": told}
    if isinstance(error, Locked):
        return 503, {"error": _without_step(told)}
    if isinstance(error.__cause__, sqlite3.Error | OSError):
        return 507, {"error": _without_step(told) + ("; free space on that disk" if _is_full(error.__cause__) else "")}
    return 422, {"error": told}


def _without_step(told: str) -> str:
    # What stands after the last semicolon is a step for a terminal, such as the same command or another --work.
    return told.rpartition("; ")[0] or told


def _is_full(cause: sqlite3.Error | OSError) -> bool:
    if isinstance(cause, OSError):
        return cause.errno in NO_ROOM
    return sqlite_code(cause) == sqlite3.SQLITE_FULL
