"""The demo's instructions: LLaVA's rows, the same bytes again, fresh scenes, and no answer given away."""

import json
from pathlib import Path

import numpy as np
import pytest

from blindpairs.demo.benchmark import demo_benchmark, scene_of
from blindpairs.demo.instructions import Amounts, conversation, fresh_scenes, write_instructions
from blindpairs.demo.small_suites import demo_pope, suite_scenes
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import ATTRIBUTES, Scene
from blindpairs.workspace import demo_folder

FEW = Amounts(images=12)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_instructions(tmp_path_factory.mktemp("instructions"), amounts=FEW)


def rows(folder: Path, name: str) -> list[dict[str, object]]:
    loaded: list[dict[str, object]] = json.loads((folder / name).read_text(encoding="utf-8"))
    return loaded


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rows_are_those_of_llava(written: Path) -> None:
    assert len(rows(written, "captions.json")) == 12
    conversations = rows(written, "instructions.json")
    assert len({row["id"] for row in conversations}) == 24
    for row in conversations + rows(written, "captions.json"):
        assert (written / "images" / str(row["image"])).is_file()
        turns = row["conversations"]
        assert isinstance(turns, list)
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert [turn["value"].count("<image>") for turn in turns] == [1] + [0] * (len(turns) - 1)


def test_a_killed_call_is_finished_to_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_instructions(tmp_path, amounts=FEW)
    (tmp_path / "done.json").unlink()
    (tmp_path / "instructions.json").unlink()
    next((tmp_path / "images").iterdir()).unlink()
    write_instructions(tmp_path, amounts=FEW)
    assert files(tmp_path) == files(written)


def test_other_amounts_in_the_same_folder_do_not_mix(tmp_path: Path) -> None:
    other = Amounts(images=12, seed=FEW.seed + 1)
    write_instructions(tmp_path / "both", amounts=FEW)
    write_instructions(tmp_path / "both", amounts=other)
    write_instructions(tmp_path / "one", amounts=other)
    both, one = files(tmp_path / "both"), files(tmp_path / "one")
    assert {name: both[name] for name in one} == one


def test_no_scene_is_measured_on(tmp_path: Path) -> None:
    found = set(fresh_scenes(6000, FEW.seed))
    plans: dict[int, list[Scene]] = {}
    benchmark = {scene_of(pair.uri_a, plans) for pair in demo_benchmark().pairs}
    corpus = set(read_truth(demo_folder() / "scenes.parquet").values())
    assert found.isdisjoint(benchmark | corpus | set(suite_scenes()))
    assert {question.image for question in demo_pope(tmp_path)} == {f"scene-{n:05d}.jpg" for n in range(40)}


def test_a_conversation_gives_no_later_answer_away() -> None:
    rng = np.random.default_rng(2)
    for scene in fresh_scenes(300, 4):
        asked = conversation(scene, FEW, rng)
        about = [one.about for one in asked]
        assert len(set(about)) == len(about)
        # A question about the cat says that there is one: what asks for the category has to stand before it.
        assert all(one in ATTRIBUTES for one in about[1:])
