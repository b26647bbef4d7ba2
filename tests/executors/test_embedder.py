"""What an actor of `executors.embedding` does, without a cluster around it."""

import shutil
import socket
from pathlib import Path

import pytest
from embed_process import ToyEncoder, make_photos, run, tree

from blindpairs.embed import EmbedOptions
from blindpairs.errors import ConfigError, InputError
from blindpairs.executors.embedding import Embedder, Loading

OPTIONS = EmbedOptions(part_rows=16, batch=8, workers=1)


def load_toy(name: str, spec: str, device: str) -> ToyEncoder:
    return ToyEncoder(spec)


def load_wider_dino(name: str, spec: str, device: str) -> ToyEncoder:
    return ToyEncoder(spec, dimension=8 if name == "clip" else 9)


def damaged_store(folder: Path) -> Path:
    make_photos(folder / "photos", 20)
    run(folder / "photos", folder / "whole")
    shutil.copytree(folder / "whole", folder / "store")
    (folder / "store" / "part-00001.done.json").unlink()
    return folder / "store"


def test_actor_repairs_a_part_with_encoders_that_nobody_asked_for(tmp_path: Path) -> None:
    store = damaged_store(tmp_path)
    assert Embedder(store, Loading({"clip": "toy:a"}, load=load_toy), OPTIONS).run_task([0, 1]) == (20, 0)
    assert tree(store) == tree(tmp_path / "whole")


def test_actor_that_would_repair_a_part_with_other_weights_is_refused(tmp_path: Path) -> None:
    store = damaged_store(tmp_path)
    actor = Embedder(store, Loading({"clip": "toy:a"}, load=load_wider_dino), OPTIONS)
    with pytest.raises(ConfigError, match=r"encoder\.dino\.dimension is 8 there and 9 now"):
        actor.run_task([0, 1])
    assert not (store / "part-00001.done.json").exists()


def test_folder_that_this_machine_does_not_see_is_said_with_the_machine(tmp_path: Path) -> None:
    actor = Embedder(tmp_path / "store", Loading({"clip": "toy:a"}, load=load_toy), OPTIONS)
    with pytest.raises(InputError, match=f"cannot be read on {socket.gethostname()}: use a --work folder on a disk"):
        actor.run_task([0])
