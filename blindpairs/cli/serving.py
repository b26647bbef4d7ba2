"""What `author` and `study` share: where pages are served, who may see them, and how serving begins and ends."""

import getpass
import os
import secrets
import socket
import sys
import unicodedata
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindpairs.cli.app import print_json, say
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from blindpairs.author.security import Access

PORT = 8765
PORTS_TRIED = 10
EVERYWHERE = ("0.0.0.0", "::")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SECRET_BYTES = 32
SHUTDOWN_SECONDS = 3  # for answers that are on their way when Ctrl-C comes


@dataclass(frozen=True)
class Serving:
    """Where the pages are served."""

    host: Annotated[
        str,
        typer.Option(
            rich_help_panel="Machine",
            help="Address to listen at. 0.0.0.0 lets other machines in, without encryption: for networks that you "
            "trust.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            rich_help_panel="Machine",
            help=f"0 takes any. [default: {PORT}, or the next that is free]",
        ),
    ] = None
    browser: Annotated[
        bool, typer.Option(rich_help_panel="Machine", help="Open the page in a browser, from a terminal.")
    ] = True

    def listen(self) -> socket.socket:
        """The socket, which accepts connections from now on; ConfigError where there is none."""
        ports = range(PORT, PORT + PORTS_TRIED) if self.port is None else [self.port]
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        reason = ""
        for port in ports:
            try:
                return socket.create_server((self.host, port), family=family)
            except OSError as error:
                # The socket module repeats the address in the error of a taken one; the sentence has it already.
                reason = (error.strerror or str(error)).partition(" (while attempting")[0]
        tried = f"any port from {ports[0]} to {ports[-1]}" if len(ports) > 1 else f"port {ports[0]}"
        raise ConfigError(f"cannot listen at {self.host}, {tried} ({reason}): give another --port or --host")

    @property
    def hosts(self) -> frozenset[str]:
        """The names by which browsers may ask for the pages."""
        names = {*LOOPBACK}
        if self.host in EVERYWHERE:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower(), *_addresses()}
        else:
            names.add(f"[{self.host}]" if ":" in self.host else self.host.lower())
        return frozenset(names)

    @property
    def shown_host(self) -> str:
        """The name in the printed address: one that other machines can use, where they may."""
        if self.host in EVERYWHERE:
            return next((one for one in _addresses() if not one.startswith("127.")), socket.gethostname())
        return f"[{self.host}]" if ":" in self.host else self.host


def named_people(what: str) -> Any:
    """The option that names those who get an address; `what` they do there begins its help."""
    return typer.Option(
        rich_help_panel="Selection",
        metavar="NAME",
        help=f"{what}. Once for each person: everybody gets an address. [default: your user name]",
    )


def people_of(given: Sequence[str], role: str = "annotator") -> list[str]:
    """The names of those who get an address: the ones that were given, else the user of this machine."""
    from blindpairs.author.deciding import clean_name

    if given:
        # An accented letter can be typed as one character or as two, which look the same: one name, one address.
        names = [clean_name(unicodedata.normalize("NFC", name), role) for name in given]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{', '.join(repeated)} is named twice: everybody gets one address")
        return names
    try:
        return [clean_name(getpass.getuser(), role)]
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        return [role]


def access_for(serving: Serving, people: Sequence[str], space: Workspace, purpose: str) -> "Access":
    """The token of each person. They stay the same in a work folder, so that an open page goes on after a restart."""
    from blindpairs.author.security import Access, token_of

    secret = _secret(space)
    tokens = {token_of(secret, f"{purpose}:{name}"): name for name in people}
    return Access(serving.hosts, tokens, any_address=serving.host in EVERYWHERE)


def serve(application: "ASGIApp", access: "Access", serving: Serving, *, as_json: bool, hint: str) -> None:
    """Print the address of each person and serve until Ctrl-C. Answers that have begun are finished."""
    import uvicorn

    with serving.listen() as listening:
        port = listening.getsockname()[1]
        root = f"http://{serving.shown_host}:{port}/"
        addresses = {name: f"{root}?token={token}" for token, name in access.people.items()}
        _print_addresses(addresses, as_json=as_json)
        say(f"{hint}; Ctrl-C ends")
        if serving.browser and len(addresses) == 1 and _has_browser():
            webbrowser.open(next(iter(addresses.values())))
        config = uvicorn.Config(
            application,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        try:
            uvicorn.Server(config).run([listening])
        except KeyboardInterrupt:  # the usual end; uvicorn raises it again after it has shut down
            say("stopped: everything that was shown as saved is on the disk")


def _print_addresses(addresses: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"addresses": dict(addresses)})
    elif len(addresses) == 1:
        typer.echo(next(iter(addresses.values())))
    else:
        for name, address in addresses.items():
            typer.echo(f"{name}: {address}")
    if sys.stdout is not None:
        sys.stdout.flush()  # whoever reads this through a pipe waits for it


def _has_browser() -> bool:
    """Whether a person sits here with a browser that does not take over the terminal."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    terminal = all(stream is not None and stream.isatty() for stream in streams)
    return terminal and bool(sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _secret(space: Workspace) -> bytes:
    """The secret of the work folder, from which tokens are made; only its owner may read it."""
    from blindpairs.access import reading, remove, unwritable

    path = space.page_secret
    secret = secrets.token_bytes(SECRET_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only one of two commands that begin together makes the file; the other one reads it.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(secret)
    except FileExistsError:
        with reading(path):
            found = path.read_bytes()
        if len(found) >= SECRET_BYTES:
            return found
        remove(path)  # cut short by a kill or a full disk
        return _secret(space)
    except OSError as error:
        raise unwritable(path, error) from error
    return secret


def _addresses() -> list[str]:
    """The addresses of this machine, without asking the network."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, proto=socket.IPPROTO_TCP)
    except OSError:
        return []
    return list(dict.fromkeys(f"[{one[4][0]}]" if one[0] == socket.AF_INET6 else str(one[4][0]) for one in found))
