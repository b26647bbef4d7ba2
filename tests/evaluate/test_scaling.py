"""Trends of accuracy with the size of a model are those of least squares, and say when there is nothing to say."""

import math

import numpy as np
import pytest

from blindpairs.evaluate.published import load_published, table_values
from blindpairs.evaluate.scaling import scaling_trends
from blindpairs.evaluate.table import ModelScores, published_models
from blindpairs.statistics import Rate


def model(hits: int, parameters: float | None, resolution: int | None) -> ModelScores:
    """A model that is right about so many of 100 pairs."""
    return ModelScores(f"{hits} {parameters}", Rate(hits, 100, (0.0, 1.0)), {}, parameters, resolution)


def test_papers_table_says_that_size_and_resolution_help_only_a_little() -> None:
    models = published_models(table_values(load_published(), "mmvp_vlm"))
    parameters, resolution = scaling_trends(models)
    for trend, sizes in (
        (parameters, [one.parameters for one in models]),
        (resolution, [one.resolution for one in models]),
    ):
        assert (trend.models, trend.rank is not None) == (10, True)
        x = np.log2(np.array(sizes, np.float64))
        y = np.array([one.overall.share for one in models])
        slope, cut = np.polyfit(x, y, 1)
        assert trend.gain == pytest.approx(slope)
        error = math.sqrt(((y - slope * x - cut) ** 2).sum() / 8 / ((x - x.mean()) ** 2).sum())
        assert trend.interval == pytest.approx((slope - 2.306 * error, slope + 2.306 * error), abs=1e-4)
        assert trend.interval
        assert trend.interval[0] < 0 < trend.interval[1]  # neither can be told from nothing
    assert parameters.against == "parameters"
    assert parameters.sentence.startswith("a doubling of parameters goes with +3.6 points (")
    assert "over 10 models; Spearman rho = " in parameters.sentence


def test_what_is_the_same_for_all_or_unknown_has_no_trend() -> None:
    assert scaling_trends([]) == []
    assert scaling_trends([model(10, 5.0, 224)]) == []
    assert scaling_trends([model(10, 5.0, 224), model(20, None, 336)])[0].against == "resolution"
    (only,) = scaling_trends([model(10, 5.0, 224), model(20, 10.0, 224)])
    assert (only.against, only.models, only.interval, only.rank) == ("parameters", 2, None, None)
    assert only.sentence == "a doubling of parameters goes with +10.0 points over 2 models"


def test_models_that_score_the_same_do_not_pretend_to_be_sure() -> None:
    (trend,) = scaling_trends([model(0, 5.0 * 2**place, 224) for place in range(4)])
    assert (trend.gain, trend.interval) == (0.0, None)
    assert "undefined" in trend.sentence


def test_models_without_a_score_do_not_count() -> None:
    unscored = ModelScores("none", Rate(0, 0, None), {}, 80.0, 384)
    (trend,) = scaling_trends([model(10, 5.0, 224), model(20, 10.0, 224), unscored])
    assert trend.models == 2
