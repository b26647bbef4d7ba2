"""What people read of a cosine or a threshold: 1 stands for 1 alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindpairs.cli.mine_report import _recall
from blindpairs.errors import ConfigError
from blindpairs.mine import MiningOptions
from blindpairs.pages.charts import _threshold, cosine_text
from blindpairs.selfjoin.rows import refuse_no_cosine
from blindpairs.selfjoin.shown import as_given, rounded

INSIDE = st.floats(-1, 1, exclude_min=True, exclude_max=True)
NEAR_ONE = st.integers(1, 1 << 40).map(lambda steps: 1 - steps * 2.0**-53)


@given(value=INSIDE | NEAR_ONE | NEAR_ONE.map(lambda value: -value), digits=st.integers(1, 6))
def test_nothing_within_reads_as_one(value: float, digits: int) -> None:
    assert abs(float(rounded(value, digits))) < 1
    assert abs(float(rounded(value, digits)) - value) <= 10.0**-digits
    assert abs(float(as_given(value))) < 1
    assert abs(float(as_given(value)) - value) <= 1e-6
    assert abs(float(_threshold(value))) < 1


@given(value=st.sampled_from([-1.0, 0.0, 1.0]), digits=st.integers(1, 6))
def test_what_is_one_reads_as_one(value: float, digits: int) -> None:
    assert float(rounded(value, digits)) == float(as_given(value)) == float(_threshold(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95, "0.95"),
        (1.0, "1"),
        (0.99999999, "0.99999999"),
        (0.9500001, "0.9500001"),
        (0.7312345678901234, "0.731235"),
        (math.nextafter(1, 0), "0.9999999999999999"),
        (math.nextafter(1, 2), "1.0000000000000002"),
        (-0.9999999999, "-0.9999999999"),
        (math.nan, "nan"),
    ],
)
def test_threshold_reads_as_it_was_typed(value: float, text: str) -> None:
    assert as_given(value) == text


@pytest.mark.parametrize(
    ("value", "shown"), [(0.99951, "0.999"), (0.9994, "0.999"), (1.0, "1.000"), (-0.99999, "\N{MINUS SIGN}0.999")]
)
def test_cosine_of_the_gallery_is_cut_off_below_one(value: float, shown: str) -> None:
    assert cosine_text(value) == shown


def test_refused_threshold_just_above_one_is_named_with_all_its_digits() -> None:
    with pytest.raises(ConfigError, match=r"1\.0000001 does not"):
        refuse_no_cosine(1.0000001)
    with pytest.raises(ConfigError, match=r"1\.0000001 is not"):
        MiningOptions(clip_min=1.0000001)
    with pytest.raises(ConfigError, match=r"1\.0000000001 is not"):
        MiningOptions(clip_quantile=1.0000000001)


def test_recall_that_missed_a_pair_is_not_shown_as_all_of_them() -> None:
    recall = {"recall": 0.99999, "recall_interval": [0.9999, 1.0], "found": 99_999, "pairs": 100_000, "queries": 1000}
    assert _recall({"method": "ivf", **recall}).startswith("ivf has a measured recall of 0.9999 (")
