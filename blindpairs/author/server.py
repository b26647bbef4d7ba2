"""The pages of `author` as a web application: thin routes over a `Desk`, behind the guard of `security.py`.

Promises: a change is answered with 200 only when it is on the disk; whatever cannot be done is a sentence as JSON, with
a status that says whether sending it again can help; the database has one thread that writes and one that reads, so
that a page of statistics holds no keystroke up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from blindpairs.author.clusters import cluster_number
from blindpairs.author.desk import REASONS, Desk, number_of
from blindpairs.author.pictures import LARGEST_SIDE, Maps, Pictures
from blindpairs.author.queue import Wish
from blindpairs.author.refusals import refusals
from blindpairs.author.security import Access, Guard
from blindpairs.author.shell import FOREVER, Shell, json_body, with_cookie
from blindpairs.errors import InputError

Result = TypeVar("Result")
Page = Callable[[Desk, Request], Mapping[str, Any]]


class DeskThread:
    """A thread with a desk of its own, because a connection to SQLite belongs to one thread."""

    def __init__(self, make: Callable[[], Desk], name: str) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._desk: Desk | None = None

    async def __call__(self, action: Callable[[Desk], Result]) -> Result:
        """What `action` gives, run on the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, action)

    def close(self) -> None:
        """Wait for what was begun, and close the desk."""
        self._pool.submit(self._close).result()
        self._pool.shutdown()

    def _run(self, action: Callable[[Desk], Result]) -> Result:
        if self._desk is None:
            self._desk = self._make()
        return action(self._desk)

    def _close(self) -> None:
        if self._desk is not None:
            self._desk.close()


@dataclass(frozen=True)
class Site:
    """What the pages are made of. `work` tells the work folders of one browser apart."""

    make_desk: Callable[[], Desk]
    pictures: Pictures
    maps: Maps
    work: str


class AuthorPages:
    """The routes. `application` is the ASGI application, which owns its threads while it runs."""

    def __init__(self, site: Site, access: Access) -> None:
        self._site = site
        self._writer, self._reader = (DeskThread(site.make_desk, name) for name in ("writing", "reading"))
        self._painter = ThreadPoolExecutor(2, thread_name_prefix="pictures")
        self._shell = Shell(site.work)
        self.application = self._application(access)

    def _application(self, access: Access) -> ASGIApp:
        from blindpairs.author.overviews import PAGES

        routes = [
            Route("/", self._edit),
            Route("/pair/{pair_id}", self._edit),
            *(Route(address, self._page(address, template, page)) for address, (template, page) in PAGES.items()),
            Route("/static/{name}", self._shell.static),
            Route("/image/{key:path}", self._image),
            Route("/map/{pair_id}/{side}", self._map),
            Route("/api/next", self._next),
            Route("/api/pair/{pair_id}", self._pair),
            Route("/api/progress", self._progress),
            Route("/api/edit", self._change(Desk.save_edit), methods=["PUT"]),
            Route("/api/decide", self._change(Desk.decide), methods=["POST"]),
            Route("/api/undo", self._change(lambda desk, person, _: {"pair": desk.undo(person)}), methods=["POST"]),
            Route("/api/skip", self._change(_skip), methods=["POST"]),
            Route("/api/cluster", self._change(_name_cluster), methods=["PUT"]),
        ]
        errors: Mapping[Any, Any] = refusals(self._shell.problem)
        guard = [Middleware(Guard, access=access)]
        return Starlette(routes=routes, middleware=guard, exception_handlers=errors, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._writer.close()
            self._reader.close()
            self._painter.shutdown(cancel_futures=True)

    # ---- pages ----

    async def _edit(self, request: Request) -> Response:
        if request.scope["state"]["arrived"]:
            return with_cookie(request, "/")
        pair_id = request.path_params.get("pair_id", "")

        def content(desk: Desk) -> Mapping[str, Any]:
            if pair_id:
                desk.pair(request.scope["state"]["person"], pair_id)  # 404 for one that is not there
            values = {"patterns": desk.taxonomy, "clusters": desk.cluster_choices(), "reasons": REASONS}
            return {**values, "pair_id": pair_id, "target": desk.rules.per_pattern, "disputed": desk.disputed()}

        return self._shell.render(request, "edit.html", "/", await self._reader(content))

    def _page(self, address: str, template: str, page: Page) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            content = await self._reader(lambda desk: {"disputed": desk.disputed(), **page(desk, request)})
            return self._shell.render(request, template, address, content)

        return answer

    async def _image(self, request: Request) -> Response:
        side = request.query_params.get("side", str(LARGEST_SIDE))
        size = min(max(int(side), 16), LARGEST_SIDE) if side.isdecimal() and len(side) < 6 else LARGEST_SIDE
        return await self._picture(lambda: self._site.pictures.picture(request.path_params["key"], size))

    async def _map(self, request: Request) -> Response:
        pair_id, side = request.path_params["pair_id"], request.path_params["side"]
        if side not in ("a", "b"):
            return JSONResponse({"error": "a pair has the images a and b"}, 404)
        return await self._picture(lambda: self._site.maps.picture(pair_id, side))

    async def _picture(self, make: Callable[[], Any]) -> Response:
        picture = await asyncio.get_running_loop().run_in_executor(self._painter, make)
        return Response(picture.data, media_type=picture.media_type, headers={"cache-control": FOREVER})

    # ---- what the script of the edit page asks for ----

    async def _next(self, request: Request) -> Response:
        query = request.query_params
        wish = Wish(query.get("pattern", ""), cluster_number(query.get("cluster", "")))
        person, besides = request.scope["state"]["person"], query.getlist("besides")[:4]
        return JSONResponse({"pair": await self._writer(lambda desk: desk.next_pair(person, wish, besides))})

    async def _pair(self, request: Request) -> Response:
        person, pair_id = request.scope["state"]["person"], request.path_params["pair_id"]
        return JSONResponse(await self._reader(lambda desk: desk.pair(person, pair_id)))

    async def _progress(self, request: Request) -> Response:
        person = request.scope["state"]["person"]
        return JSONResponse(await self._reader(lambda desk: desk.progress(person)))

    def _change(self, action: Callable[[Desk, str, Mapping[str, Any]], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            person, body = request.scope["state"]["person"], await json_body(request)
            return JSONResponse(await self._writer(lambda desk: action(desk, person, body)))

        return answer


def _skip(desk: Desk, person: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    desk.skip(person, str(body.get("pair_id")))
    return {}


def _name_cluster(desk: Desk, person: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    number = number_of(body, "cluster")
    if number is None:
        raise InputError("the request names no cluster: reload the page")
    desk.name_cluster(person, number, str(body.get("name") or ""))
    return {}
