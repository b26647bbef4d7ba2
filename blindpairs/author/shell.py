"""What the pages of `author` and `study` are set in: templates, files of the browser, and the way in with a token.

Promises: text is escaped in every template, and characters that hide or reorder others are shown; a file that has
changed is loaded again, whatever the browser keeps.
"""

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from blindpairs.author.security import cookie_name
from blindpairs.errors import InputError
from blindpairs.pages.safety import visible_text

COOKIE_SECONDS = 30 * 24 * 3600
FOREVER = "private, max-age=86400, immutable"  # images are addressed by their content
MEDIA_TYPES = {"css": "text/css", "js": "text/javascript"}


class Shell:
    """The templates and files. `work` tells the work folders of one browser apart."""

    def __init__(self, work: str) -> None:
        self._work = work
        self._files = _files()
        self._templates = Environment(loader=PackageLoader("blindpairs.author", "web/templates"), autoescape=True)
        self._templates.filters["visible"] = visible_text

    def render(self, request: Request, template: str, here: str, content: Mapping[str, Any]) -> Response:
        """A page for whoever asks; `here` is its address in the menu."""
        state = request.scope["state"]
        shared = {"person": state["person"], "token": state["token"], "work": self._work, "here": here}
        return HTMLResponse(self._templates.get_template(template).render(**shared, **content))

    def problem(self, request: Request, sentence: str) -> Response:
        """A page that says why there is none."""
        return self.render(request, "problem.html", "", {"sentence": sentence})

    async def static(self, request: Request) -> Response:
        """A style or a script, or that the browser has it already."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            return JSONResponse({"error": "there is no such file"}, 404)
        data, kind, tag = found
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=kind, headers=headers)


def _files() -> Mapping[str, tuple[bytes, str, str]]:
    """The files of the pages by name: content, media type, and a tag of the content."""
    folder = resources.files("blindpairs.author").joinpath("web", "static")
    found = {}
    for one in folder.iterdir():
        kind, data = MEDIA_TYPES.get(one.name.rpartition(".")[2]), one.read_bytes()
        if kind:
            found[one.name] = (data, f"{kind}; charset=utf-8", f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return found


def with_cookie(request: Request, address: str) -> Response:
    """The way from the printed address, which has the token, to one that has it in a cookie."""
    answer = RedirectResponse(address, 303)
    name, token = cookie_name(request.headers["host"]), request.scope["state"]["token"]
    # Lax, so that a link in a chat leads here; changes need the header anyway, which no other site can set.
    answer.set_cookie(name, token, COOKIE_SECONDS, httponly=True, samesite="lax")
    return answer


async def json_body(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request; InputError for anything else."""
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise InputError("the request is no JSON: reload the page") from error
    if not isinstance(body, Mapping):
        raise InputError("the request is no JSON object: reload the page")
    return body
