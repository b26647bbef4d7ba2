"""The promised power is what a simulation of the exact test finds; the number of pairs and the gain invert it."""

from functools import cache

import numpy as np
import pytest

from blindpairs.errors import ConfigError
from blindpairs.evaluate.power import detectable_gain, pairs_needed, power
from blindpairs.statistics import binomial_test


@cache
def rejects(fewer: int, count: int) -> bool:
    return binomial_test(fewer, count) < 0.05


def simulated(pairs: int, gain: float, discordance: float, draws: int = 20_000) -> float:
    """How often the exact test rejects."""
    draw = np.random.default_rng(0)
    counts = draw.binomial(pairs, discordance, draws)
    gained = draw.binomial(counts, (1 + gain / discordance) / 2)
    return float(np.mean([rejects(int(min(hits, n - hits)), int(n)) for hits, n in zip(gained, counts, strict=True)]))


@pytest.mark.parametrize(
    ("pairs", "gain", "discordance"),
    [
        (20, 0.2, 0.4),
        (135, 0.05, 0.1),
        (135, 0.1, 0.2),
        (135, 0.2, 0.2),
        (150, 0.1, 0.3),
        (1000, 0.03, 0.15),
        (1000, 0.05, 1.0),
    ],
)
def test_power_is_what_a_simulation_finds(pairs: int, gain: float, discordance: float) -> None:
    assert power(pairs, gain, discordance) == pytest.approx(simulated(pairs, gain, discordance), abs=0.012)


def test_power_without_a_gain_is_the_rate_of_false_alarms() -> None:
    for pairs in (10, 135, 150, 1000, 20_000):
        assert 0 <= power(pairs, 0.0, 0.2) <= 0.05


@pytest.mark.parametrize(("gain", "discordance"), [(0.05, 0.1), (0.1, 0.2), (0.02, 0.15)])
def test_needed_pairs_have_the_wanted_power_in_a_simulation(gain: float, discordance: float) -> None:
    pairs = pairs_needed(gain, discordance)
    assert simulated(pairs, gain, discordance) == pytest.approx(0.8, abs=0.03)
    assert power(pairs, gain, discordance) >= 0.8 > power(int(0.97 * pairs), gain, discordance)


def test_needed_pairs_and_told_gain_invert_each_other() -> None:
    assert pairs_needed(0.05, 0.2) == 658
    assert detectable_gain(658, 0.2) == pytest.approx(0.05, abs=2e-4)
    assert detectable_gain(135, 0.2) == pytest.approx(0.1114, abs=2e-4)


def test_no_gain_is_told_where_five_pairs_cannot_reject() -> None:
    assert detectable_gain(5, 1.0) is None  # one in 32, twice: 0.06
    assert detectable_gain(135, 0.0) is None
    assert power(0, 0.1, 0.2) == 0.0
    assert power(6, 1.0, 1.0) == 1.0


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a gain of 0\.3 needs a discordance from 0\.3 to 1, not 0\.2"):
        power(100, 0.3, 0.2)
    with pytest.raises(ConfigError, match="give one above 0"):
        pairs_needed(0.0, 0.2)
    with pytest.raises(ConfigError, match=r"needed for a gain of 0\.001 points: look for a larger one"):
        pairs_needed(0.00001, 0.2)
