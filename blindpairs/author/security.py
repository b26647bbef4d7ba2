"""Who may ask the pages for what: one layer in front of every route, so that no route can forget it.

The pages run on a machine whose browser also shows hostile pages. These can send requests here (cross-site request
forgery), make a name of theirs resolve to this machine (DNS rebinding), and try to show our images as their own.
Against them: every request names a host that we are known by; whatever is not a plain visit comes from our own pages;
every answer needs the token that the command printed, every change needs it in a header, which no foreign page can
set; no answer may be used by another site, and no page runs a script that does not ship.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 1 << 20  # bytes; a draft has some thousands
SAFE = ("GET", "HEAD")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
TOO_LARGE = f"more than {LARGEST_BODY:,} bytes: nothing was saved"
NO_TOKEN = "Open the address that the command printed: it carries the token that this page asks for.\n"


@dataclass(frozen=True)
class Access:
    """The names under which this server may be asked, and the person behind each token."""

    hosts: frozenset[str]
    people: Mapping[str, str]  # token -> name
    any_address: bool = False  # also by any number: only names can be made to resolve to this machine by others

    def knows(self, host: str) -> bool:
        """Whether the server is known by the name in a Host header."""
        name = _name_of(host)
        return name in self.hosts or (self.any_address and _is_address(name.strip("[]")))

    def person(self, token: str) -> str | None:
        """The person with this token; every token is compared, in the same time."""
        given = token.encode(errors="replace")
        found = [name for known, name in self.people.items() if hmac.compare_digest(known.encode(), given)]
        return found[0] if found else None


def token_of(secret: bytes, person: str) -> str:
    """The token of a person: 128 bits that nobody without the secret can tell."""
    return hmac.new(secret, person.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:32]


def cookie_name(host: str) -> str:
    """The name of the token's cookie. Browsers share cookies between the ports of a host, so the name has the port."""
    return f"blindpairs-{host.rpartition(':')[2]}"


class Guard:
    """The layer: refuses a request, or passes it on with `scope["state"]` knowing `person` and `token`."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, _with_headers(send))
        # Anything else, such as a websocket, gets no answer.

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _Bounded(receive), send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that is not passed on."""
        method, host = scope["method"], headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._access.knows(host):
            return _refused(421, "this server is not known by that name")
        visit = method in SAFE and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not visit:
            return _refused(403, "requests from other sites are refused")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return _refused(403, "requests from other origins are refused")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return _refused(413, TOO_LARGE)
        return self._without_token(scope, headers, host)

    def _without_token(self, scope: Scope, headers: Headers, host: str) -> Response | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            # Browsers send the cookie with any request; the header only our own pages can set.
            if scope["method"] not in SAFE:
                return _refused(403, "a change needs the token in its Authorization header")
            token = _cookie(headers, host)
        in_address = _token_in_address(scope) if scope["path"] == "/" else ""
        person = self._access.person(in_address or token)
        if person is None:
            return PlainTextResponse(NO_TOKEN, 401)
        scope.setdefault("state", {}).update(person=person, token=in_address or token, arrived=bool(in_address))
        return None


class BodyTooLarge(Exception):
    """The body of a request has more than LARGEST_BODY bytes; the application answers with 413 and TOO_LARGE."""


class _Bounded:
    """Passes a body on until it is too large, whatever its header says of its length."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._seen = receive, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > LARGEST_BODY:
            raise BodyTooLarge
        return message


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending


def _refused(status: int, reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", status)


def _name_of(host: str) -> str:
    """`[::1]:8765` -> `[::1]`, `Localhost:8765` -> `localhost`."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(headers: Headers, host: str) -> str:
    # Split by hand: http.cookies drops all cookies where another program on this host has set an odd one.
    pairs = (one.strip().partition("=") for one in headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == cookie_name(host)), "")


def _token_in_address(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]
