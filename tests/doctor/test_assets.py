"""Missing weights, an incomplete demo and a work folder that cannot be written are found before a command fails."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

from blindpairs.defaults import PAPER_ENCODERS
from blindpairs.doctor import Finding
from blindpairs.doctor.assets import DEFAULT_WEIGHTS, demo_assets, has_weights, weights, work_folder


def test_weights_are_found_in_the_hub_cache_only_when_their_file_is_complete(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--facebook--dinov2-large" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(tmp_path / "absent-blob")
    assert not has_weights(tmp_path, "facebook/dinov2-large")
    (tmp_path / "absent-blob").write_bytes(b"weights")
    assert has_weights(tmp_path, "facebook/dinov2-large")
    clip, dino = weights({"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert dino == Finding("hf:facebook/dinov2-large", "ok", f"in {tmp_path}")
    assert clip == Finding(
        "open_clip:ViT-L-14/openai",
        "note",
        f"not in {tmp_path}: and HF_HUB_OFFLINE forbids fetching",
        "HF_HUB_OFFLINE=0 hf download timm/vit_large_patch14_clip_224.openai",
    )


def test_default_weights_are_the_ones_that_open_clip_itself_would_fetch() -> None:
    found = importlib.util.find_spec("open_clip")  # its table is read as text: importing it takes ten seconds
    assert found is not None
    assert found.origin is not None
    table = Path(found.origin).with_name("pretrained.py").read_text(encoding="utf-8")
    entry = re.search(r"_VITL14 = dict\(\s*openai=_pcfg\((.*?)\)", table, re.DOTALL)
    assert entry is not None
    assert f'"{DEFAULT_WEIGHTS[PAPER_ENCODERS["clip"]]}/"' in entry[1]


def test_demo_without_one_of_its_encoders_is_a_problem(tmp_path: Path) -> None:
    for part in ("scenes.parquet", "clip/open_clip_model.safetensors", "dino/model.safetensors"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_bytes(b"x" * 500_000)
    assert demo_assets(lambda: tmp_path) == Finding("demo data", "ok", f"1.5 MB in {tmp_path}")
    (tmp_path / "dino" / "model.safetensors").write_bytes(b"")
    broken = demo_assets(lambda: tmp_path)
    assert (broken.state, broken.value) == ("problem", f"{tmp_path} lacks dino/*.safetensors")


def test_work_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    finding = work_folder(tmp_path / "new" / "work")
    assert finding.state in ("ok", "note")
    assert finding.value.startswith(f"{tmp_path}/new/work, ")


def test_work_folder_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert work_folder(tmp_path / "file" / "work") == Finding(
        "work folder", "problem", f"{tmp_path}/file cannot be written", "choose another with --work FOLDER"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_work_folder_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert work_folder(tmp_path / "work").state == "problem"
