"""What all commands share: the app, exit codes of errors, progress, JSON output, and the common options."""

import errno
import functools
import inspect
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from blindpairs import __version__
from blindpairs.cli.help import GroupedCommand, markup
from blindpairs.defaults import WORK as WORK  # the commands have it from here, beside Work
from blindpairs.errors import BlindpairsError, ConfigError
from blindpairs.progress import Pace, Progress
from blindpairs.workspace import SCHEMA_VERSION

app = typer.Typer(
    help="Find what a vision encoder cannot see: pairs of images that CLIP calls the same and DINOv2 calls different.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=markup(),
)

PIPE_CLOSED = 141  # 128 + SIGPIPE: the code that a shell reports for a program that a closed pipe ended

WORK_VARIABLE = "BLINDPAIRS_WORK"
Work = Annotated[
    Path,
    typer.Option(
        "--work",
        envvar=WORK_VARIABLE,
        parser=lambda given: given,  # keep the text: Path('') would mean the current folder, without an error
        metavar="PATH",
        rich_help_panel="Output",
        help="Folder where commands write their results and read those of earlier commands.",
    ),
]
Json = Annotated[bool, typer.Option("--json", rich_help_panel="Output", help="Print one JSON object instead of text.")]


class Terminated(BaseException):
    """SIGTERM was received, as from a scheduler that needs the machine.

    A BaseException, like KeyboardInterrupt, so that no `except Exception` on the way catches it.
    """


def say(text: str) -> None:
    """Print to standard error. If it is closed, the text is dropped: messages are not the result."""
    try:
        typer.echo(text, err=True)
    except OSError:
        _silence(sys.stderr)


def print_json(fields: Mapping[str, object]) -> None:
    """Print the one JSON object of a command, on one line."""
    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **fields}))


def counted(counts: Mapping[str, int]) -> str:
    """`{"empty": 1, "truncated": 0}` -> "1 empty": counts of zero are left out."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def named_folder(option: str, given: object) -> Path:
    """The folder that an option names; ConfigError for an empty name and for one that is not UTF-8."""
    text = str(given)
    if not text:
        raise ConfigError(f"{option} is empty: name a folder, such as {WORK} (is a variable unset?)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{option} {text!a} is not UTF-8 text in this locale: name a folder that is") from None
    return Path(text)


def _work_folder(given: object) -> Path:
    # Only the default is a Path; what a user gives is text. Typer treats an empty variable as one that is not set.
    if isinstance(given, Path) and os.environ.get(WORK_VARIABLE) == "":
        raise ConfigError(f"{WORK_VARIABLE} is set and empty: name a folder in it, or unset it")
    return named_folder("--work", given)


def _check_current_folder() -> None:
    """ConfigError without a current folder: libraries ask for it when they are loaded, and some end the process."""
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(f"the current folder cannot be used ({error.strerror}): change to one that exists") from error


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command. Expected errors become a sentence and an exit code; a bug keeps its traceback."""

    @functools.wraps(function)  # typer reads the signature through it
    def run(*arguments: Any, **options: Any) -> None:
        try:
            if "work" in options:
                options["work"] = _work_folder(options["work"])
            _check_current_folder()
            print_anything()
            function(*arguments, **options)
            if sys.stdout is None:  # closed before Python started: typer.echo then prints nothing, without an error
                raise ConfigError(
                    "standard output is closed: the printed output is lost, result files are not affected"
                )
        except BlindpairsError as error:
            say(typer.style(f"error: {error}", fg="red"))
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            status = output_lost(error)
            if status is None:
                raise
            raise typer.Exit(status) from error
        except (KeyboardInterrupt, Terminated) as error:
            say("interrupted: run it again; embed, import, draft, eval and train-mof resume, the others start over")
            raise typer.Exit(143 if isinstance(error, Terminated) else 130) from error

    name = function.__name__.strip("_").replace("_", "-")  # `import_`: `import` is a keyword
    first_paragraph = inspect.getdoc(function) or ""  # given as short help, because Typer cuts a longer text there
    return app.command(name, cls=GroupedCommand, short_help=" ".join(first_paragraph.partition("\n\n")[0].split()))(run)


def print_anything() -> None:
    """Let standard output accept any file name: characters that its encoding lacks become escapes."""
    with suppress(AttributeError, ValueError):  # stdout is closed, or was replaced by another kind of stream
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def output_lost(error: OSError) -> int | None:
    """The exit code for an error of printing, with a line on stderr unless the reader closed the pipe; else None."""
    # An OSError raised anywhere else is a bug. The innermost frame is where it was raised.
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if frame.f_code is not typer.echo.__code__:
        return None
    _silence(sys.stdout)
    if error.errno == errno.EPIPE:  # `blindpairs ... | head`
        return PIPE_CLOSED
    message = (
        f"error: standard output failed ({error.strerror}): the printed output is lost, result files are not affected"
    )
    say(typer.style(message, fg="red"))
    return ConfigError.exit_code


def _silence(stream: TextIO) -> None:
    """Discard what is still buffered: Python would flush it at exit, and fail again."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"blindpairs {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@contextmanager
def progress_bar(label: str, unit: str = "images") -> Iterator[Progress]:
    """A callback that shows rate and time left: a bar on a terminal, a line every ten seconds in a log."""
    with progress_bars() as bar:
        yield bar(label, unit)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, str], Progress]]:
    """Gives a callback for each step of a command: `bar(label, unit)`. A step is shown from its first report on."""
    if sys.stderr is not None and sys.stderr.isatty():
        with _terminal_bars() as bar:
            yield bar
    else:
        yield _log_lines


@contextmanager
def _terminal_bars() -> Iterator[Callable[[str, str], Progress]]:
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    figures = TextColumn("{task.fields[rate]} {task.fields[unit]}/s, {task.fields[failed]} failed, left")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), figures, TimeRemainingColumn())
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as display:

        def bar(label: str, unit: str) -> Progress:
            task = display.add_task(label, total=None, visible=False, rate=_speed(0.0), failed=0, unit=unit)
            pace = Pace()

            def show(done: int, total: int, failed: int = 0, /) -> None:
                rate, _ = pace.at(time.monotonic(), done, total, failed)
                ended = done + failed
                display.update(task, visible=True, completed=ended, total=total, rate=_speed(rate), failed=failed)

            return show

        yield bar


def _speed(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _log_lines(label: str, unit: str) -> Progress:
    printed_at = time.monotonic()
    pace = Pace()

    def show(done: int, total: int, failed: int = 0, /) -> None:
        nonlocal printed_at
        now = time.monotonic()
        rate, left = pace.at(now, done, total, failed)  # before the return: the first report starts its clock
        if now - printed_at < 10:
            return
        printed_at = now
        seconds = "" if math.isinf(left) else f", {left:.0f} s left"
        say(f"{label}: {done:,} of {total:,} {unit}, {_speed(rate)}/s, {failed:,} failed{seconds}")

    return show
