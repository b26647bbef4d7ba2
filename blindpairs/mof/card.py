"""The model card of a run, as the Hugging Face hub shows it: how it was made, from what, and what it scored.

Promise: nothing on it is claimed that the run's folder does not record; scores are those that are handed in.
"""

import json
from collections.abc import Mapping
from typing import Any

from blindpairs.mof.recipe import Recipe, Stage, to_toml
from blindpairs.mof.run import CARD, Run
from blindpairs.mof.sweep import way_of
from blindpairs.workspace import write_text

MODES = {
    "clip": "CLIP alone",
    "dino": "the vision-only encoder alone",
    "additive": "a weighted sum of both encoders' features (A-MoF)",
    "interleaved": "the tokens of both encoders in turn (I-MoF)",
    "concat": "both encoders' features, channels joined",
}
HEADER = """\
---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [mixture-of-features, llava, blindpairs]
---
"""
USE = """\
```python
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("{folder}", trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained("{folder}", trust_remote_code=True)
```"""


def write_card(run: Run, scores: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write README.md into the folder of a run, and beside its model. `scores`: benchmark -> name -> value."""
    text = card(run, scores or {})
    write_text(run.folder / CARD, text)
    model = run.model()
    if model is not None:
        write_text(model / CARD, text)  # the folder that is pushed


def card(run: Run, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a card."""
    recipe, facts = run.recipe(), run.facts()
    clip, dino = recipe.towers()
    model = run.model()
    sections = [
        f"{HEADER}\n# {run.folder.name}\n",
        f"A LLaVA with {MODES[recipe.fusion.mode]}, trained with blindpairs {facts['blindpairs']}.\n",
        _list(
            {
                "CLIP tower": clip,
                "vision-only tower": dino,
                "language model": recipe.language_model,
                "features": way_of(recipe),
            }
        ),
        "## Use\n\n" + USE.format(folder=model.name if model else "FOLDER"),
        "## Training\n\n" + "\n".join(_stage(run, recipe, number) for number in (1, 2) if run.ended(number)),
        "## Scores\n\n"
        + (_scores(scores) or "Not evaluated yet: `blindpairs eval --model run:" + run.folder.name + "`"),
        f"## Recipe\n\n```toml\n{to_toml(recipe)}```",
        "## Data and weights\n\nsha256 of what it was made from:\n\n"
        + f"```json\n{json.dumps({key: facts.get(key, {}) for key in ('data', 'weights')}, indent=1)}\n```",
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n"


def _list(items: Mapping[str, str]) -> str:
    return "\n".join(f"* {name}: `{value}`" for name, value in items.items() if value)


def _stage(run: Run, recipe: Recipe, number: int) -> str:
    ended, stage = run.ended(number) or {}, recipe.stage(number)
    checked = run.facts().get("checked", {}).get(f"stage{number}", {})
    left_out = len(checked.get("left_out", []))
    data = f"{checked.get('rows', 0):,} rows" + (f", {left_out:,} of them left out" if left_out else "")
    steps = f"{ended['steps']:,} steps of {stage.batch}"
    return f"* stage {number}: {data}; {steps}; {_rates(stage)}; loss {ended['loss']:.4f}"


def _rates(stage: Stage) -> str:
    rates = [f"{name.replace('_', ' ')} at {rate:g}" for name, rate in vars(stage.rates).items() if rate]
    lora = f", by LoRA of rank {stage.lora.rank}" if stage.lora.rank else ""
    return " and ".join(rates) + lora


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        f"* {name}: " + ", ".join(f"{key} {value}" for key, value in some.items()) for name, some in scores.items()
    ]
    return "\n".join(lines)
