"""A recipe survives its TOML, says what is wrong in one, and tells two apart setting by setting."""

from dataclasses import replace

import pytest

from blindpairs.errors import ConfigError
from blindpairs.mof.recipe import (
    NEUTRAL,
    Lora,
    Rates,
    Recipe,
    Stage,
    check,
    differences,
    full_name,
    parse_recipe,
    read_toml,
    settings,
    to_toml,
    with_setting,
)

SMALL = Recipe(clip="demo:clip", dino="demo:dino", language_model="demo:lm")
SMALL = replace(SMALL, stage1=Stage(rates=Rates(projectors=1e-3)), stage2=Stage(rates=Rates(2e-5, 2e-5)))

OTHER_WORDS = {"mode": "clip", "dino_normalization": "clip", "feature_norm": "l2", "projector": "linear"}
OTHER_WORDS |= {"template": "plain", "loss": "micro_batches", "skip": "odd"}
WHOLE = ("seed", "resolution", "clip_layer", "dino_layer", "batch", "micro_batch", "steps", "max_length", "save_every")
OTHER_NUMBERS = dict.fromkeys((*WHOLE, "rank", "alpha"), "77")


def parsed(text: str) -> Recipe:
    recipe = parse_recipe(read_toml(text.encode(), "mine.toml"), "mine.toml")
    check(recipe, "mine.toml")
    return recipe


@pytest.mark.parametrize(
    "recipe",
    [
        SMALL,
        replace(SMALL, language_model='a "quoted" \\ folder\t\x7f é 😀'),
        replace(SMALL, cache_features=True, stage2=Stage(epochs=0.5, rates=Rates(1e-30, 2e22), lora=Lora(8, 16, 0))),
    ],
)
def test_recipe_is_read_back_equal(recipe: Recipe) -> None:
    again = parsed(to_toml(recipe))
    assert again == recipe
    assert differences(again, recipe) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip = demo", "mine.toml is not TOML: Invalid value (at line 1, column 8)"),
        ("batch = 3", "mine.toml: batch is no setting; there are clip, "),
        ("[stage1]\nbach = 3", "mine.toml: stage1.bach is no setting: did you mean batch?"),
        ("[stage1]\nbatch = 3.5", "mine.toml: stage1.batch: 3.5 is not a whole number"),
        ("[stage1]\nbatch = true", "mine.toml: stage1.batch: True is not a whole number"),
        ('[stage1]\npad = "no"', "mine.toml: stage1.pad: 'no' is not true or false"),
        ('[stage1]\nloss = "samples"', "mine.toml: stage1.loss: 'samples' is not one of tokens, micro_batches"),
        ('[fusion]\nmode = "both"', "mine.toml: fusion.mode: 'both' is not one of clip, dino, additive, "),
        ("[fusion]\nresolution = 3.5", "mine.toml: fusion.resolution: 3.5 is not a whole number"),
        ("stage1 = 1", "mine.toml: stage1 is a table, [stage1]"),
        ('clip = "demo:clip"', "mine.toml: mode interleaved needs a tower `dino`: give --dino SPEC"),
    ],
)
def test_faults_of_a_file_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        parsed(text)
    assert str(fault.value).startswith(message)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("language_model", "", "here names no language model"),
        ("stage1.projectors", "0", "nothing would be trained"),
        ("stage1.lora.rank", "8", "here: stage1.lora needs a learning rate"),
        ("stage2.epochs", "0", "here: stage2 has no steps"),
        ("stage2.batch", "0", "here: stage2.batch is 0; it must be at least 1"),
        ("stage2.micro_batch", "0", "stage2.micro_batch is 0; it must be at least 1"),
        ("stage1.steps", "-1", "stage1.steps is -1; it must be at least 0"),
        (
            "stage1.warmup",
            "2",
            "stage1.warmup is 2; it must be at least 0 and below 1",
        ),  # the trainer would count steps
        ("stage2.rates.clip", "-1e-6", "stage2.rates.clip is -1e-06; it must be at least 0"),
        ("stage2.rates.clip", "nan", "stage2.rates.clip is nan; it must be at least 0"),
        ("stage2.epochs", "inf", "stage2.epochs is inf; it must be at least 0"),
        ("stage2.lora.rank", "-8", "stage2.lora.rank is -8; it must be at least 0"),
        ("stage2.lora.dropout", "1", "stage2.lora.dropout is 1; it must be at least 0 and below 1"),
        ("seed", "-1", "here: seed is -1; it must be at least 0 and below"),
        ("resolution", "-32", "fusion.resolution is -32; it must be at least 1"),
        ("mode", "dino", ""),
        ("cache_features", "true", ""),
    ],
)
def test_settings_that_do_not_go_together_are_refused(setting: str, value: str, message: str) -> None:
    name = {"stage1.projectors": "stage1.rates.projectors", "language_model": "language_model"}.get(setting, setting)
    recipe = with_setting(SMALL, name, value)
    if not message:
        check(recipe, "here")
        return
    with pytest.raises(ConfigError, match=message):
        check(recipe, "here")


def test_features_of_a_tower_that_a_stage_trains_are_not_kept() -> None:
    recipe = with_setting(with_setting(SMALL, "cache_features", "true"), "stage2.rates.clip", "1e-6")
    with pytest.raises(ConfigError, match=r"stage2.rates: the tower clip is trained, .*: set cache_features=false"):
        check(recipe, "here")
    check(with_setting(recipe, "mode", "dino"), "here")  # which does not use it


def test_setting_is_found_by_its_last_name_where_that_is_enough() -> None:
    assert full_name("clip_weight") == "fusion.clip_weight"
    assert full_name("seed") == "seed"
    assert full_name("clip") == "clip"  # not a learning rate of that name
    with pytest.raises(ConfigError, match=r"'batch' is a setting of several parts: give stage1.batch or stage2.batch"):
        full_name("batch")
    with pytest.raises(ConfigError, match=r"there is no setting 'clip_wait': did you mean fusion.clip_weight"):
        full_name("clip_wait")


def test_setting_is_replaced_by_the_type_it_has() -> None:
    assert with_setting(SMALL, "clip_weight", "1").fusion.clip_weight == 1.0
    assert with_setting(SMALL, "mode", "clip").fusion.mode == "clip"
    assert with_setting(SMALL, "clip", "hf:a/b?size=224").clip == "hf:a/b?size=224"
    assert with_setting(SMALL, "stage2.lora.rank", "8").stage2.lora.rank == 8
    with pytest.raises(ConfigError, match=r"clip_weight=half: 'half' is not a number"):
        with_setting(SMALL, "clip_weight", "half")


def test_every_setting_but_the_neutral_ones_makes_a_difference() -> None:
    for name, value in settings(SMALL).items():
        other = "x" if isinstance(value, str) else str(not value).lower() if isinstance(value, bool) else "0.77"
        other = {**OTHER_WORDS, **OTHER_NUMBERS}.get(name.rpartition(".")[2], other)
        found = differences(SMALL, with_setting(SMALL, name, other))
        assert [one.split()[0] for one in found] == ([] if name in NEUTRAL else [name])
    assert differences(SMALL, with_setting(SMALL, "stage2.batch", "64")) == ["stage2.batch was 128, is 64"]


def test_mode_decides_which_towers_are_used() -> None:
    assert with_setting(SMALL, "mode", "clip").towers() == ("demo:clip", "")
    assert with_setting(SMALL, "mode", "dino").towers() == ("", "demo:dino")
    assert with_setting(SMALL, "mode", "concat").towers() == ("demo:clip", "demo:dino")
