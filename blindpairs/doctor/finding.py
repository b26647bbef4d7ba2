"""The result of one check."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]  # note: works, but slower or with fewer features; problem: a command fails

GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """The result of one check, and the command that installs or fixes it ("" if nothing needs to be done)."""

    name: str
    state: State
    value: str
    remedy: str = ""
