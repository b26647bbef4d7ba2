"""Mined pairs, drafts and a database that holds them, for the tests of authoring."""

from pathlib import Path

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft, MinedPair
from blindpairs.benchmark import Question

DOOR = Question("Is the door open?", ("Open", "Closed"), (0, 1))
EXCHANGED = Question("Is the door closed?", ("Yes", "No"), (1, 0))
DRAFT = Draft(DOOR, None, ("State and Condition",), "an open door", "a closed door")


def mined(number: int, control_of: str | None = None) -> MinedPair:
    """Pair `pN` of rank N."""
    images = (f"a{number}", f"b{number}", f"/corpus/a{number}.jpg", f"/corpus/b{number}.jpg")
    return MinedPair(f"p{number}", *images, 0.97, 0.5, number % 3, control_of, number)


def authoring(folder: Path, pairs: int = 3, drafter: str = "model") -> AuthoringDatabase:
    """A database of that many pairs, each with the same draft; revision N is the draft of pair N - 1."""
    database = AuthoringDatabase(folder / "authoring.sqlite")
    database.add_pairs(mined(number) for number in range(pairs))
    for number in range(pairs if drafter else 0):
        database.add_draft(f"p{number}", drafter, DRAFT)
    return database
