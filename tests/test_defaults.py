"""The defaults fit together."""

from blindpairs.defaults import COLUMNS, DEMO_ENCODERS, PAPER_ENCODERS


def test_default_encoders_fill_the_default_columns() -> None:
    assert tuple(PAPER_ENCODERS) == tuple(DEMO_ENCODERS) == COLUMNS
