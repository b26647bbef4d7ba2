"""The pages of `study`: one question about one image at a time, without the key, behind the guard of `author`.

Promises: an answer is shown as saved only when it is in the answers file; what the browser gets says neither which pair
an image is of nor which side, and holds no answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from blindpairs.author.desk import seconds_of
from blindpairs.author.pictures import Pictures
from blindpairs.author.refusals import refusals
from blindpairs.author.security import Access, Guard
from blindpairs.author.shell import FOREVER, Shell, json_body, with_cookie
from blindpairs.benchmark import Benchmark
from blindpairs.errors import ConfigError, InputError, Undecodable
from blindpairs.evaluate.study import FEWER, LONG, Study, duration
from blindpairs.images import Limits

Result = TypeVar("Result")


class StudyPages:
    """The routes. `application` is the ASGI application; whoever made the study closes it.

    ConfigError for a benchmark none of whose images is there: people would only answer that they cannot tell.
    """

    def __init__(self, study: Study, benchmark: Benchmark, access: Access) -> None:
        self._study = study
        self._pictures = Pictures(_reader(benchmark), Limits())
        self._shown = frozenset(study.image_ids)
        _check_images(benchmark, self._shown)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="study")
        self._shell = Shell("study")
        routes = [
            Route("/", self._page),
            Route("/static/{name}", self._shell.static),
            Route("/image/{key:path}", self._image),
            Route("/api/items", self._items),
            Route("/api/answer", self._answer, methods=["POST"]),
        ]
        errors: Mapping[Any, Any] = refusals(self._shell.problem)
        guard = [Middleware(Guard, access=access)]
        self.application: ASGIApp = Starlette(
            routes=routes, middleware=guard, exception_handlers=errors, lifespan=self._lifespan
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._pool.shutdown()

    async def _run(self, action: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, action)

    async def _page(self, request: Request) -> Response:
        if request.scope["state"]["arrived"]:
            return with_cookie(request, "/")
        return self._shell.render(request, "study.html", "/", {})

    async def _image(self, request: Request) -> Response:
        key = request.path_params["key"]
        if key not in self._shown:
            raise Undecodable("unknown", "the study has no image with this id")
        picture = await self._run(lambda: self._pictures.picture(key))
        return Response(picture.data, media_type=picture.media_type, headers={"cache-control": FOREVER})

    async def _items(self, request: Request) -> Response:
        person = request.scope["state"]["person"]

        def found() -> dict[str, Any]:
            items = [asdict(item) for item in self._study.next_items(person)]
            minutes = self._study.minutes_left(person)
            left = {"takes": duration(minutes), "fewer": FEWER if minutes > LONG else 0}
            return {"items": items, **asdict(self._study.participation(person)), **left}

        return JSONResponse(await self._run(found))

    async def _answer(self, request: Request) -> Response:
        person, body = request.scope["state"]["person"], await json_body(request)
        token, option, took = body.get("token"), body.get("option"), seconds_of(body)
        if not isinstance(token, str) or option not in (0, 1, None) or isinstance(option, bool | float):
            raise InputError("the request is not an answer: reload the page")
        return JSONResponse(asdict(await self._run(lambda: self._study.answer(person, token, option, took))))


def _check_images(benchmark: Benchmark, shown: frozenset[str]) -> None:
    why = "none is asked about"
    for _, data in benchmark.images(sorted(shown)):
        if not isinstance(data, Undecodable):
            return
        why = data.message
    raise ConfigError(f"{benchmark.name} cannot be shown to people: no image of it is there ({why})")


def _reader(benchmark: Benchmark) -> Callable[[str], bytes]:
    def read(key: str) -> bytes:
        _, data = next(iter(benchmark.images([key])))
        if isinstance(data, Undecodable):
            raise data
        return data

    return read
