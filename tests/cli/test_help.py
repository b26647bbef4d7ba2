"""Help is whole sentences in groups: plain where it is piped or NO_COLOR asks for it, in panels on a terminal."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from blindpairs.cli import app

COMMANDS: dict[str, Any] = dict(getattr(typer.main.get_command(app), "commands", {}))
PANELS = {"Corpus", "Encoders", "Machine", "Output", "Thresholds", "Selection"}
FRAME = re.compile("[\u2500-\u257f\x1b]")


def piped(*arguments: str, **environment: str) -> str:
    """What a command prints into a pipe, as plain words."""
    return CliRunner(env={"COLUMNS": "80", **environment}).invoke(app, arguments).output


def on_terminal(*arguments: str, **environment: str) -> str:
    """What a command prints on a terminal of 400 columns."""
    master, terminal = pty.openpty()
    changed = {"COLUMNS": "400", "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "blindpairs", *arguments]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=kept | changed) as process:
        os.close(terminal)
        shown = b""
        try:
            while block := os.read(master, 1 << 16):
                shown += block
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(master)
    assert process.returncode == 0
    return shown.decode()


def words(shown: str) -> str:
    """The words of a help page without colours, frames and line breaks."""
    return " ".join(FRAME.sub(" ", re.sub(r"\x1b\[[0-9;]*m", "", shown)).split())


def helps(name: str) -> list[str]:
    """The help texts of a command's options, as one line each."""
    return [" ".join(one.help.split()) for one in COMMANDS[name].params if getattr(one, "help", None)]


def test_list_of_commands_shows_whole_sentences() -> None:
    shown = words(piped("--help"))
    for name, command in COMMANDS.items():
        first = " ".join(command.help.partition("\n\n")[0].split())
        assert f"{name} {first}" in shown
        assert first.endswith(".")
    assert "..." not in shown.replace("[ARGS]...", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_piped_help_is_plain_and_tells_everything(name: str) -> None:
    shown = piped(name, "--help")
    assert not FRAME.search(shown)
    assert max(map(len, shown.splitlines())) <= 80
    missing = [text for text in helps(name) if text.replace(" ", "") not in words(shown).replace(" ", "")]
    assert missing == []


@pytest.mark.parametrize("name", COMMANDS)
def test_panels_tell_everything_too(name: str) -> None:
    shown = on_terminal(name, "--help")
    assert "\u256d" in shown  # the corner of a panel
    missing = [text for text in helps(name) if text.replace("`", "") not in words(shown)]  # brackets are no markup
    assert missing == []


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_that_wants_no_colour_gets_plain_help(environment: dict[str, str]) -> None:
    assert not FRAME.search(on_terminal("embed", "--help", **environment))


def test_options_of_embed_stand_in_their_groups() -> None:
    sections = re.findall(r"^(\w+):$", piped("embed", "--help"), re.MULTILINE)
    assert sections == ["Arguments", "Encoders", "Corpus", "Machine", "Output"]


def test_panels_have_the_agreed_names() -> None:
    used = {getattr(one, "rich_help_panel", None) for command in COMMANDS.values() for one in command.params}
    assert used - {None} <= PANELS
