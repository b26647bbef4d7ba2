"""An endpoint that misbehaves in a chosen way. What a working one does is tested against `transformers serve`."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from blindpairs.vlm import Ask, Picture, RetryPolicy

QUICK = RetryPolicy(
    attempts=3,
    connect_timeout=1,
    attempt_timeout=0.5,
    total_timeout=3,
    first_wait=0.01,
    longest_wait=0.02,
    consecutive_failures=1000,
)
PICTURE = Picture(b"\x89PNG not looked at by the client", "image/png")


@dataclass(frozen=True)
class Response:
    """What the endpoint sends: once, with its length, unless `stream` gives one chunk after another."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None  # the Content-Length, where it is not true
    stream: bytes = b""  # sent without end, after `body`
    pause: float = 0.0  # seconds before anything is sent


def completion(text: str | None = "yes", finish: str = "stop", **message: Any) -> Response:
    """A well-formed chat completion."""
    value = {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
    return Response(json.dumps(value).encode())


def error(status: int, message: str = "no", **headers: str) -> Response:
    """An error in OpenAI's form."""
    body = json.dumps({"error": {"message": message, "type": "test"}}).encode()
    return Response(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Received:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


Behaviour = Callable[[int, Received], Response]  # gets the number of the request, from 0


class FakeEndpoint:
    """Serves a behaviour on a free port while the block lasts."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.received: list[Received] = []
        self.most_at_once = 0
        self.at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                received = Received(
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(content),
                    time.monotonic(),
                )
                with endpoint._lock:
                    number = len(endpoint.received)
                    endpoint.received.append(received)
                    endpoint.at_once += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint.at_once)
                response = behaviour(number, received)
                endpoint._closing.wait(response.pause)
                with endpoint._lock:  # before the client can know that it is answered
                    endpoint.at_once -= 1
                try:
                    self._send(response)
                except OSError:
                    pass  # the client has given up

            def _send(self, response: Response) -> None:
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                if not response.stream:
                    length = len(response.body) if response.promised is None else response.promised
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(response.body)
                while response.stream and not endpoint._closing.is_set():
                    self.wfile.write(response.stream)
                    self.wfile.flush()
                    time.sleep(0.002)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def spec(self) -> str:
        """The spec of a model behind it."""
        return f"openai:tiny@{self.url}"

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "FakeEndpoint":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def some_asks(count: int) -> list[Ask]:
    """Different questions, each about an image."""
    return [Ask(f"key-{number}", (f"Question {number}?", PICTURE)) for number in range(count)]
