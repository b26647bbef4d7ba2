"""A sweep is runs with names of their own; capacity and necessity compare runs that were trained, seed by seed."""

import pytest

from blindpairs.errors import ConfigError
from blindpairs.mof.presets import load_preset
from blindpairs.mof.recipe import Recipe, with_setting
from blindpairs.mof.sweep import Worth, planned, points_of, spread, worth

DEMO = load_preset("demo").recipe


def test_options_make_a_grid_whose_last_one_changes_fastest() -> None:
    points = points_of(["mode=clip,dino", "seed=1,2"])
    runs = planned("mine", DEMO, points)
    assert [run.name for run in runs] == ["mine-clip-seed1", "mine-clip-seed2", "mine-dino-seed1", "mine-dino-seed2"]
    assert [(run.recipe.fusion.mode, run.recipe.seed) for run in runs] == [
        ("clip", 1),
        ("clip", 2),
        ("dino", 1),
        ("dino", 2),
    ]


def test_weights_are_swept_in_the_one_mode_that_has_them() -> None:
    additive = with_setting(DEMO, "mode", "additive")
    runs = planned("a", additive, points_of(["clip_weight=1,0.75,0"]))
    assert [(run.name, run.recipe.fusion.clip_weight) for run in runs] == [("a-1", 1.0), ("a-0.75", 0.75), ("a-0", 0.0)]
    with pytest.raises(ConfigError, match="clip_weight means something in mode additive alone, not in interleaved"):
        planned("a", DEMO, points_of(["clip_weight=1,0"]))


@pytest.mark.parametrize("option", ["mode", "mode=", "=clip", "modus=clip", "batch=3"])
def test_option_that_is_no_sweep_is_refused(option: str) -> None:
    with pytest.raises(ConfigError):
        points_of([option])


def test_two_runs_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two runs would be called a-clip"):
        planned("a", DEMO, points_of(["mode=clip,clip"]))


def test_capacity_is_the_score_alone_and_necessity_what_is_lost_without_it() -> None:
    def run(mode: str, seed: int, weight: float = 0.5) -> Recipe:
        recipe = with_setting(with_setting(DEMO, "mode", mode), "seed", str(seed))
        return with_setting(recipe, "clip_weight", str(weight))

    scores = {
        "a": (run("clip", 1), 0.2),
        "b": (run("clip", 2), 0.3),
        "c": (run("dino", 1), 0.4),
        "d": (run("interleaved", 1), 0.6),
        "e": (run("interleaved", 2), 0.7),
        "f": (run("additive", 1, 0.25), 0.5),
    }
    clip, dino = worth(scores)
    assert clip == Worth("clip", (0.2, 0.3), {"interleaved": (0.6 - 0.4,), "additive 0.25": (0.5 - 0.4,)})
    assert dino.capacity == (0.4,)
    assert dino.necessity == {"interleaved": (0.6 - 0.2, 0.7 - 0.3), "additive 0.25": (0.5 - 0.2,)}


def test_few_values_are_told_with_their_range_and_not_with_an_interval() -> None:
    assert spread([0.5]) == "0.500"
    assert spread([0.4, 0.6, 0.5]) == "0.500 (0.400 to 0.600)"
