"""The form of `--help`: Rich's panels on a terminal, otherwise plain text with the same groups of options.

Promises: the list of commands shows whole sentences; plain help has no colour and no frame, so that it suits pipes,
`grep` and screen readers. Rich is loaded only if its panels are shown.
"""

import os
import sys
from typing import Any, Literal

from typer.core import TyperCommand


def markup() -> Literal["markdown"] | None:
    """Typer's markup mode: None, which gives plain text, with NO_COLOR, with TERM=dumb or without a terminal.

    Markdown, not Rich's own markup, which would read `[default: ...]` in a help text as a style and drop it.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
    return "markdown" if terminal and not plain else None


class GroupedCommand(TyperCommand):
    """A command whose plain help has a section for each `rich_help_panel` of its options."""

    def get_help_option(self, ctx: Any) -> Any:
        """Typer's `--help`, in the panel of the options that every command has."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = "Output"  # by default it would be alone in a panel "Options"
        return option

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by panel, in the order in which the command has them."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                without_panel = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = getattr(parameter, "rich_help_panel", None) or without_panel
                sections.setdefault(panel, []).append(record)
        # Arguments first, options without a panel last; sorting is stable, so the panels between keep their order.
        for panel in sorted(sections, key=lambda name: (name != "Arguments", name == "Options")):
            with formatter.section(panel):
                formatter.write_dl(sections[panel])
