"""Rate and time left are counted from the first report; earlier time does not count."""

import math

from blindpairs.progress import Pace, silent


def test_rate_and_time_left_are_counted_from_the_first_report() -> None:
    pace = Pace()
    assert pace.at(500.0, 40, 330) == (0.0, math.inf)
    assert pace.at(520.0, 140, 330) == (5.0, 38.0)


def test_failed_units_are_work_done_too() -> None:
    pace = Pace()
    pace.at(0.0, 0, 330)
    assert pace.at(20.0, 100, 330, 10) == (5.0, 40.0)


def test_progress_that_nobody_watches_costs_nothing() -> None:
    silent(1, 2)
    silent(1, 2, 1)
