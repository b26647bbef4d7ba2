"""The presets that ship hold the published figures; a user's file may build on them."""

from pathlib import Path

import pytest

from blindpairs.errors import ConfigError, InputError
from blindpairs.mof.presets import Preset, load_preset, preset_names
from blindpairs.mof.recipe import Rates, Recipe, Stage, check, with_setting

# The table of schedules, as in the authors' scripts: batch, peak rates, epochs, template, padding, grouping of each
# stage; then projector, pixels, CLIP.
LARGE, LARGE_336 = "hf:openai/clip-vit-large-patch14", "hf:openai/clip-vit-large-patch14-336"
FIRST = ((128, Rates(2e-3), 1, "plain", False, False), (32, Rates(2e-5, 2e-5), 3, "vicuna_v1", False, False))
SECOND = ((256, Rates(1e-3), 1, "plain", False, False), (128, Rates(2e-5, 2e-5), 1, "vicuna_v1", True, True))
LORA = (SECOND[0], (128, Rates(2e-5, 2e-4), 1, "vicuna_v1", True, True))
MOF = (SECOND[0], (176, Rates(2e-5, 2e-5), 1, "vicuna_v1", True, False))
PUBLISHED = {
    "llava-7b-224": (*FIRST, "linear", 224, LARGE, "lmsys/vicuna-7b-v1.3"),
    "llava-7b-336": (*FIRST, "linear", 336, LARGE_336, "lmsys/vicuna-7b-v1.3"),
    "llava-13b-224": (*FIRST, "linear", 224, LARGE, "lmsys/vicuna-13b-v1.3"),
    "llava-13b-336": (*FIRST, "linear", 336, LARGE_336, "lmsys/vicuna-13b-v1.3"),
    "llava-1.5-7b-224": (*SECOND, "mlp2x_gelu", 224, LARGE, "lmsys/vicuna-7b-v1.5"),
    "llava-1.5-7b-336": (*SECOND, "mlp2x_gelu", 336, LARGE_336, "lmsys/vicuna-7b-v1.5"),
    "llava-1.5-13b-224": (*SECOND, "mlp2x_gelu", 224, LARGE, "lmsys/vicuna-13b-v1.5"),
    "llava-1.5-13b-336": (*SECOND, "mlp2x_gelu", 336, LARGE_336, "lmsys/vicuna-13b-v1.5"),
    "llava-1.5-7b-336-lora": (*LORA, "mlp2x_gelu", 336, LARGE_336, "lmsys/vicuna-7b-v1.5"),
    "mmvp-interleaved": (*MOF, "mlp2x_gelu", 336, LARGE_336, "lmsys/vicuna-13b-v1.5"),
}


def schedule(stage: Stage) -> tuple[object, ...]:
    return stage.batch, stage.rates, stage.epochs, stage.template, stage.pad, stage.group_by_length


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe_has_the_published_figures(name: str) -> None:
    recipe = load_preset(name).recipe
    fusion = recipe.fusion
    found = (schedule(recipe.stage1), schedule(recipe.stage2), fusion.projector, fusion.resolution)
    assert (*found, recipe.clip, recipe.language_model) == PUBLISHED[name]
    for stage in (recipe.stage1, recipe.stage2):
        assert (stage.warmup, stage.weight_decay, stage.max_length, stage.steps) == (0.03, 0, 2048, 0)
        assert stage.loss == "micro_batches"
        assert stage.batch % stage.micro_batch == 0
    assert fusion.clip_layer == -2
    assert recipe.seed == 42  # the default of the trainer that the scripts ran on


def test_lora_and_interleaved_have_what_the_others_do_not() -> None:
    lora = load_preset("llava-1.5-7b-336-lora").recipe
    assert vars(lora.stage2.lora) == {"rank": 128, "alpha": 256, "dropout": 0.05}
    assert lora.stage1.lora.rank == 0
    mof = load_preset("mmvp-interleaved").recipe
    assert (mof.dino, mof.fusion.mode, mof.fusion.dino_layer) == ("hf:facebook/dinov2-large", "interleaved", -1)
    assert (mof.fusion.dino_norm, mof.fusion.dino_normalization) == (False, "clip")


def test_every_other_preset_is_the_demos_or_waits_for_parts() -> None:
    with pytest.raises(ConfigError, match="own: mode interleaved needs a tower `clip`: give --clip SPEC"):
        check(load_preset("own").recipe, "own")
    assert set(preset_names()) - set(PUBLISHED) == {"demo", "demo-sweep", "own"}


@pytest.mark.parametrize("name", ["demo", "demo-sweep"])
def test_every_run_of_a_demo_preset_is_a_recipe(name: str) -> None:
    found = load_preset(name)
    recipes = [replaced(found, run) for run in found.runs]
    kinds = [(one.fusion.mode, one.fusion.clip_weight if one.fusion.mode == "additive" else 1) for one in recipes]
    if name == "demo":
        assert [mode for mode, _ in kinds] == ["clip", "interleaved"]
        return
    ways = [("clip", 1), ("dino", 1), *(("additive", w) for w in (0.75, 0.5, 0.25)), ("concat", 1), ("interleaved", 1)]
    assert kinds == ways * 3
    assert [one.seed for one in recipes] == [1] * 7 + [2] * 7 + [3] * 7


def replaced(preset: Preset, run: dict[str, str]) -> Recipe:
    recipe = preset.recipe
    for name, value in run.items():
        recipe = with_setting(recipe, name, value)
    check(recipe, preset.name)
    return recipe


def test_file_may_build_on_a_preset_and_on_another_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "llava-1.5-7b-336"\n[stage2]\nbatch = 64\n')
    (tmp_path / "other.toml").write_text('base = "mine.toml"\nseed = 3\nseeds = [1, 2]\n[[runs]]\nresolution = 224\n')
    found = load_preset(str(tmp_path / "other.toml"))
    assert (found.name, found.recipe.seed, found.recipe.stage2.batch) == ("other", 3, 64)
    assert found.recipe.stage2.rates == Rates(2e-5, 2e-5)
    assert found.runs == ({"resolution": "224", "seed": "1"}, {"resolution": "224", "seed": "2"})


def test_runs_of_a_file_replace_settings_as_toml_writes_them(tmp_path: Path) -> None:
    parts = 'base = "own"\nclip = "c"\ndino = "d"\nlanguage_model = "l"\n[[runs]]\n'
    lines = ["stage2.batch = 64", "stage2.pad = false", "cache_features = true", "clip_weight = 0.75"]
    (tmp_path / "mine.toml").write_text(parts + "\n".join(lines))
    found = load_preset(str(tmp_path / "mine.toml"))
    recipe = replaced(found, found.runs[0])
    assert (recipe.stage2.batch, recipe.stage2.pad, recipe.stage1.batch) == (64, False, 256)
    assert (recipe.cache_features, recipe.fusion.clip_weight) == (True, 0.75)


def test_what_is_no_preset_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no preset 'llava': there are demo, demo-sweep, llava-1.5-13b-224"):
        load_preset("llava")
    with pytest.raises(InputError, match=r"nothing.toml is missing"):
        load_preset(str(tmp_path / "nothing.toml"))
    (tmp_path / "seeds.toml").write_text('base = "own"\nseeds = 5\n')
    with pytest.raises(ConfigError, match=r"seeds.toml: seeds is a list of whole numbers, seeds = \[1, 2, 3\]"):
        load_preset(str(tmp_path / "seeds.toml"))
    (tmp_path / "wide.toml").write_bytes('base = "own"'.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"wide.toml is not TOML: 'utf-8' codec can't decode byte 0xff in position 0"):
        load_preset(str(tmp_path / "wide.toml"))
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n')
    with pytest.raises(ConfigError, match=r"a.toml builds on itself, by way of a.toml and b.toml"):
        load_preset(str(tmp_path / "a.toml"))
