"""The command line: each command parses, calls one function, prints. The only place that imports typer and rich.

Promises: data goes to stdout, everything else to stderr; a foreseen error is one or two lines and the exit code of its
class, a bug keeps its traceback and leaves with 1; `--help` loads nothing heavy.
"""

import signal

# For their commands, in the order in which help lists them: that of the pipeline.
# isort: off
import blindpairs.cli.embed
import blindpairs.cli.index
import blindpairs.cli.mine
import blindpairs.cli.imports
import blindpairs.cli.demo
import blindpairs.cli.doctor  # noqa: F401

# isort: on
from blindpairs.cli.app import Terminated, app

__all__ = ["app", "main"]


def main() -> None:
    """The `blindpairs` command."""
    signal.signal(signal.SIGTERM, _terminate)
    app()


def _terminate(*_: object) -> None:
    raise Terminated
