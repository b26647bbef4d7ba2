"""Errors: each class has its exit code, and a failure survives the way from a worker process."""

import pickle

import pytest

from blindpairs import errors
from blindpairs.errors import BlindpairsError, Undecodable


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("InputError", 3),
        ("ConfigError", 3),
        ("BudgetSpent", 3),
        ("TooManyFailures", 4),
        ("AssetMissing", 5),
        ("EndpointFailed", 6),
        ("Locked", 7),
    ],
)
def test_exit_code_belongs_to_the_class(name: str, status: int) -> None:
    kind: type[BlindpairsError] = getattr(errors, name)
    assert issubclass(kind, BlindpairsError)
    assert kind("why").exit_code == status
    assert str(kind("why")) == "why"


def test_undecodable_survives_pickling_with_code_and_message() -> None:
    back = pickle.loads(pickle.dumps(Undecodable("truncated", "it ends early")))
    assert (back.code, back.message) == ("truncated", "it ends early")


def test_undecodable_is_no_error_of_the_run() -> None:
    assert not issubclass(Undecodable, BlindpairsError)
