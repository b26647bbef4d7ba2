"""The demo's two reports agree: what its judge counts pair by pair is what mining wrote down."""

import re

import pytest
from demo_run import DemoRun


@pytest.mark.timeout(600)  # the whole demo corpus
def test_demo_prints_the_counts_that_mining_wrote_down(demo_run: DemoRun) -> None:
    assert demo_run.code == 0, demo_run.complaints
    counts = demo_run.record["counts"]
    # The judge looks at every image, mining at those that are neither blank nor another's twin: here all of them.
    assert (counts["low_information"], counts["identical"]) == (0, 0)
    printed = re.search(r"^(.*) pairs look the same to CLIP; (.*) of them look different", demo_run.printed, re.M)
    assert printed
    assert printed.groups() == (f"{counts['above_clip_min']:,}", f"{counts['blind']:,}")
