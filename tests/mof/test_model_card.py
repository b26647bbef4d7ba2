"""The model card says how a run was made, from what, and what it scored; and nothing that is not known."""

from dataclasses import replace
from pathlib import Path

from blindpairs.mof.card import card, write_card
from blindpairs.mof.recipe import Lora, Rates, Recipe, Stage, parse_recipe, read_toml
from blindpairs.mof.run import Run

STAGE = Stage(batch=128, rates=Rates(projectors=2e-5, language_model=2e-4), lora=Lora(8, 16))
RECIPE = Recipe("hf:a/clip", "hf:b/dino", "org/lm", stage1=replace(STAGE, lora=Lora()), stage2=STAGE)


def run_of(folder: Path) -> Run:
    run = Run(folder / "mine")
    run.start(RECIPE, {"data": {"stage2": "aa11"}, "weights": {"clip": "bb22"}})
    run.record({"checked": {"stage2": {"rows": 1000, "left_out": [{"number": 3}]}}})
    run.end(2, {"steps": 77, "loss": 0.5})
    with run.saving(run.folder / "checkpoint-77"):
        pass
    return run


def test_card_tells_parts_training_hashes_and_the_whole_recipe(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    text = card(run, {"blindpairs-demo": {"pair accuracy": "24.3 [18, 32]"}})
    assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\n")
    assert "the tokens of both encoders in turn (I-MoF)" in text
    assert "* CLIP tower: `hf:a/clip`\n* vision-only tower: `hf:b/dino`\n* language model: `org/lm`" in text
    trained = "projectors at 2e-05 and language model at 0.0002, by LoRA of rank 8"
    assert f"* stage 2: 1,000 rows, 1 of them left out; 77 steps of 128; {trained}; loss 0.5000" in text
    assert "stage 1:" not in text  # it has not ended
    assert "* blindpairs-demo: pair accuracy 24.3 [18, 32]" in text
    assert '"stage2": "aa11"' in text
    assert '"clip": "bb22"' in text
    toml = text.partition("```toml\n")[2].partition("```")[0]
    assert parse_recipe(read_toml(toml.encode(), "card"), "card") == RECIPE


def test_card_without_scores_says_how_to_get_them(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    write_card(run)
    text = (run.folder / "README.md").read_text()
    assert "Not evaluated yet: `blindpairs eval --model run:mine`" in text
    assert (run.folder / "checkpoint-77" / "README.md").read_text() == text  # the folder that is pushed
