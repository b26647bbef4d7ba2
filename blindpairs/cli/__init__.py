"""The command line: each command parses its options, calls one function and prints. Only cli/ imports typer and rich.

Promises: data goes to stdout, everything else to stderr; an expected error prints one or two lines and exits with the
code of its class; a bug keeps its traceback and exits with 1; `--help` loads no large library.
"""

import os
import signal
import sys

# Importing a module registers its command. Help lists them in this order, that of the pipeline.
# isort: off
import blindpairs.cli.embed
import blindpairs.cli.index
import blindpairs.cli.mine
import blindpairs.cli.draft
import blindpairs.cli.patterns
import blindpairs.cli.author
import blindpairs.cli.study
import blindpairs.cli.export
import blindpairs.cli.imports
import blindpairs.cli.benchmark
import blindpairs.cli.eval
import blindpairs.cli.report
import blindpairs.cli.train_mof
import blindpairs.cli.chat
import blindpairs.cli.demo
import blindpairs.cli.doctor  # noqa: F401

# isort: on
from blindpairs.cli.app import PIPE_CLOSED, Terminated, app, output_lost, print_anything

__all__ = ["app", "main"]


def main() -> None:
    """The `blindpairs` command."""
    signal.signal(signal.SIGTERM, _terminate)
    _keep_standard_streams()
    print_anything()
    try:
        app()
    except OSError as error:  # while printing help or usage, which happens outside of every command
        status = output_lost(error)
        if status is None:
            raise
        sys.exit(status)
    except SystemExit as ended:
        # For a closed pipe Typer exits with 1, which means a bug here. It also replaces stdout by this wrapper.
        pipe_closed = ended.code == 1 and type(sys.stdout).__name__ == "PacifyFlushWrapper"
        sys.exit(PIPE_CLOSED if pipe_closed else ended.code)


def _keep_standard_streams() -> None:
    """Open closed standard streams on /dev/null.

    Otherwise the next file that is opened gets the number of a closed stream, and what libraries print goes into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)


def _terminate(*_: object) -> None:
    raise Terminated
