"""Instruction files of LLaVA's kinds for tests, with the pictures that they name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blindpairs.mof.indexing import InstructionIndex, open_index
from blindpairs.mof.templates import TurnTokenizer

Row = dict[str, Any]


def row(name: str, image: str | None, *texts: str) -> Row:
    """One row; the texts are of a person and of the model by turns."""
    turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
    return {"id": name} | ({"image": image} if image else {}) | {"conversations": turns}


def caption(name: str, image: str) -> Row:
    """A row of the 558k: an instruction, then a caption."""
    return row(name, image, "Render a clear summary.\n<image>", f"the picture {name}")


def save_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write JSON, or JSONL where the name says so."""
    lines = [json.dumps(one) for one in rows]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n")
    return path


def indexed(rows: Sequence[Any], tokens: TurnTokenizer, folder: Path) -> InstructionIndex:
    """The index of rows, as training reads them."""
    return open_index(save_rows(folder / "rows.json", rows), tokens, folder / "index")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 24), **options: Any) -> Path:
    """A picture of coarse noise, in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path, **options)
    return path
