"""What the pages of `author` and `study` answer to what cannot be done: a sentence and a status, as JSON for scripts.

The status says whether sending a request again can help: 409 something newer is there, 404 nothing is, 413 and 422 the
request's fault, 503 and 507 the disk's. Who visits an address that leads nowhere reads the sentence on a page.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from blindpairs.author.desk import NoSuchPair
from blindpairs.author.edits import EditConflict
from blindpairs.author.revisions import Conflict
from blindpairs.author.security import TOO_LARGE, BodyTooLarge
from blindpairs.errors import BlindpairsError, Locked, Undecodable
from blindpairs.pages.safety import visible_text

Refusing = Callable[[Request, Exception], Awaitable[Response]]


def refusals(page: Callable[[Request, str], Response]) -> Mapping[Any, Refusing]:
    """The answer to each kind of error; `page` makes the one for a person from a sentence."""
    known: dict[Any, Refusing] = {
        BlindpairsError: _explained,
        BodyTooLarge: _too_large,
        Undecodable: _undecodable,
        404: _not_found,
    }

    def for_people(refusing: Refusing) -> Refusing:
        async def answer(request: Request, error: Exception) -> Response:
            told = await refusing(request, error)
            if request.headers.get("sec-fetch-mode") != "navigate":
                return told
            shown = page(request, json.loads(bytes(told.body))["error"])
            shown.status_code = told.status_code
            return shown

        return answer

    return {kind: for_people(refusing) for kind, refusing in known.items()}


async def _explained(_: Request, error: Exception) -> Response:
    """An expected error as JSON: 409 something newer is there, 404, 422 the request's fault, 503 and 507 the disk's."""
    body: dict[str, Any] = {"error": str(error)}
    status = 422
    if isinstance(error, Conflict):
        status, body["later"] = 409, {"revision": error.revision.id, "kind": error.revision.kind}
    elif isinstance(error, EditConflict):
        status, body["edit"] = 409, error.edit.id
    elif isinstance(error, NoSuchPair):
        status = 404
    elif isinstance(error, Locked):
        status = 503
    elif isinstance(error.__cause__, sqlite3.Error | OSError):  # no room, or no right to write
        status = 507
    return JSONResponse(body, status)


async def _undecodable(_: Request, error: Exception) -> Response:
    """Why an image cannot be shown."""
    assert isinstance(error, Undecodable)
    return JSONResponse({"error": f"{visible_text(error.message)} ({error.code})"}, 404)


async def _too_large(_: Request, __: Exception) -> Response:
    """The answer to a body without end."""
    return JSONResponse({"error": TOO_LARGE}, 413)


async def _not_found(_: Request, __: Exception) -> Response:
    """The answer to an address that leads nowhere."""
    return JSONResponse({"error": "there is nothing at this address"}, 404)
