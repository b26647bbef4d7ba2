"""The model card of a run."""

from blindpairs.mof.run import CARD, Run
from blindpairs.workspace import write_text


def write_card(run: Run) -> None:
    """Write README.md."""
    write_text(run.folder / CARD, "# A run\n")
