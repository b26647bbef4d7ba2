"""The doctor survives every broken library, and names the line that mends what it found."""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

from blindpairs import doctor
from blindpairs.doctor import Finding
from blindpairs.encoders import PAPER_ENCODERS

PLAIN_TORCH: dict[str, Any] = {"gpus": [], "mps": False}


def broken_library(folder: Path, name: str, body: str) -> None:
    """A module that stands before the real one on the path of the child process."""
    (folder / f"{name}.py").write_text(body, encoding="utf-8")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    # The package's own folder comes first in the child's path, then PYTHONPATH, then site-packages.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda name, body: broken_library(tmp_path, name, body)


def test_probe_reports_a_library_that_raises_and_goes_on(broken: Callable[[str, str], None]) -> None:
    broken("timm", "raise RuntimeError('operator torchvision::nms does not exist\\nmore lines')")
    assert doctor.probe(["timm", "numpy"]) == {
        "timm": {"error": "RuntimeError: operator torchvision::nms does not exist"},
        "numpy": {},
    }


def test_probe_survives_a_library_that_kills_the_process(broken: Callable[[str, str], None]) -> None:
    broken("timm", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert doctor.probe(["numpy", "timm", "PIL"]) == {
        "numpy": {},
        "timm": {"error": "importing it ends the process with SIGSEGV"},
        "PIL": {"webp": True, "avif": True},
    }


def test_probe_survives_a_library_that_exits_and_quotes_its_last_words(broken: Callable[[str, str], None]) -> None:
    broken("timm", "import os; os.write(2, b'first\\nno licence found'); os._exit(7)")
    assert doctor.probe(["timm"]) == {
        "timm": {"error": "importing it ends the process with exit code 7: no licence found"}
    }


def test_doctor_says_whether_mining_is_compiled_and_what_to_install_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc"):
        assert doctor.compiled_join(doctor.probe(["selfjoin"])["selfjoin"]).state == "ok"
    monkeypatch.setenv("CC", "no-such-compiler")
    finding = doctor.compiled_join(doctor.probe(["selfjoin"])["selfjoin"])
    assert finding.state == "note"
    assert "no C compiler (no-such-compiler)" in finding.value
    assert "gcc" in finding.remedy


def test_probe_gives_up_on_a_library_that_hangs(broken: Callable[[str, str], None]) -> None:
    broken("timm", "import time; time.sleep(60)")
    assert doctor.probe(["timm"], seconds=1.0) == {"timm": {"error": "no answer in 1 s"}}


def test_probe_is_not_confused_by_a_library_that_prints(broken: Callable[[str, str], None]) -> None:
    broken("timm", "print('{\"welcome\": 1}', end='')")
    assert doctor.probe(["timm"]) == {"timm": {}}


def test_probe_ignores_a_file_of_the_current_folder_that_is_named_like_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_library(tmp_path, "numpy", "raise RuntimeError('not numpy')")
    monkeypatch.chdir(tmp_path)
    assert doctor.probe(["numpy"]) == {"numpy": {}}


def test_library_in_range_and_importable_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "2.15.0+cu132")
    assert doctor.library(Requirement("torch>=2.6"), {}) == Finding("torch", "ok", "2.15.0+cu132")


def test_missing_library_is_installed_by_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert doctor.library(Requirement("timm>=1.0.20"), {}) == Finding(
        "timm", "problem", "not installed", "python -m pip install 'timm>=1.0.20'"
    )


def test_missing_torchcodec_is_a_note_because_pillow_steps_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert doctor.library(Requirement("torchcodec>=0.17"), {}) == Finding(
        "torchcodec",
        "note",
        "not installed (Pillow reads JPEGs instead, at half the speed)",
        "python -m pip install 'torchcodec>=0.17'",
    )


def test_library_outside_the_range_that_was_tested_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "0.18.1")
    assert doctor.library(Requirement("torchcodec>=0.17,<0.18"), {}) == Finding(
        "torchcodec",
        "problem",
        "0.18.1, but blindpairs needs <0.18,>=0.17",
        "python -m pip install 'torchcodec<0.18,>=0.17'",
    )


def test_torchvision_made_for_another_torch_is_mended_by_installing_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "0.29.2")
    facts = {"error": "RuntimeError: operator torchvision::nms does not exist"}
    assert doctor.library(Requirement("torchvision>=0.21"), facts) == Finding(
        "torchvision",
        "problem",
        "0.29.2 cannot be used: RuntimeError: operator torchvision::nms does not exist",
        "python -m pip install --force-reinstall torch torchvision torchcodec",
    )


def test_both_builds_of_faiss_at_once_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.15.1")
    (finding,) = doctor.faiss_builds({"torch": PLAIN_TORCH, "faiss": {"gpus": 0}})
    assert (finding.state, finding.value) == ("problem", "faiss-cpu and faiss-gpu are both installed")
    assert finding.remedy.startswith("python -m pip uninstall -y faiss-cpu faiss-gpu")


def test_faiss_without_the_gpu_that_torch_sees_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.15.1" if name == "faiss-cpu" else None)
    gpu = {"name": "H200", "memory": 139 * doctor.GIB, "bf16": True}
    (finding,) = doctor.faiss_builds({"torch": {"gpus": [gpu], "mps": False}, "faiss": {"gpus": 0}})
    assert (finding.state, finding.value) == ("note", "sees no GPU though torch does: indexes are built on the CPU")


def test_devices_names_each_gpu_with_its_memory_and_number_formats() -> None:
    gpus = [
        {"name": "NVIDIA H200", "memory": 139 * doctor.GIB, "bf16": True},
        {"name": "Tesla T4", "memory": 15 * doctor.GIB, "bf16": False},
    ]
    assert doctor.devices({"gpus": gpus, "mps": False}, driver=True) == [
        Finding("gpu", "ok", "NVIDIA H200, 139 GiB, bf16"),
        Finding("gpu", "ok", "Tesla T4, 15 GiB, no bf16"),
    ]


def test_devices_without_any_are_a_note_and_with_a_driver_but_no_torch_build_a_problem() -> None:
    assert [finding.state for finding in doctor.devices(PLAIN_TORCH, driver=False)] == ["note"]
    assert [finding.state for finding in doctor.devices(PLAIN_TORCH, driver=True)] == ["problem"]
    assert [finding.state for finding in doctor.devices({"error": "ImportError: x"}, driver=True)] == ["note"]


def test_processor_instructions_are_read_from_the_first_core(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu avx2 amx_bf16 avx512f\nprocessor : 1\nflags : fpu\n")
    assert doctor.processor_instructions(cpuinfo) == ["AMX bf16", "AVX512", "AVX2"]
    assert doctor.processor_instructions(tmp_path / "absent") == []


def test_pillow_without_webp_is_a_note() -> None:
    (finding,) = doctor.image_formats({"webp": False, "avif": True})
    assert (finding.name, finding.state) == ("webp", "note")


def test_weights_are_found_in_the_hub_cache_only_when_their_file_is_complete(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--facebook--dinov2-large" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(tmp_path / "absent-blob")
    assert not doctor.has_weights(tmp_path, "facebook/dinov2-large")
    (tmp_path / "absent-blob").write_bytes(b"weights")
    assert doctor.has_weights(tmp_path, "facebook/dinov2-large")
    clip, dino = doctor.weights({"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"})
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
    assert f'"{doctor.DEFAULT_WEIGHTS["open_clip:ViT-L-14/openai"]}/"' in entry[1]


def test_default_weights_are_those_of_the_encoders_that_embed_uses_by_default() -> None:
    assert set(doctor.DEFAULT_WEIGHTS) == set(PAPER_ENCODERS.values())


def test_demo_without_one_of_its_encoders_is_a_problem(tmp_path: Path) -> None:
    for part in ("scenes.parquet", "clip/open_clip_model.safetensors", "dino/model.safetensors"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_bytes(b"x" * 500_000)
    assert doctor.demo_assets(lambda: tmp_path) == Finding("demo data", "ok", f"1.5 MB in {tmp_path}")
    (tmp_path / "dino" / "model.safetensors").write_bytes(b"")
    broken = doctor.demo_assets(lambda: tmp_path)
    assert (broken.state, broken.value) == ("problem", f"{tmp_path} lacks dino/*.safetensors")


def test_work_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    finding = doctor.work_folder(tmp_path / "new" / "work")
    assert finding.state in ("ok", "note")
    assert finding.value.startswith(f"{tmp_path}/new/work, ")


def test_work_folder_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.work_folder(tmp_path / "file" / "work") == Finding(
        "work folder", "problem", f"{tmp_path}/file cannot be written", "choose another with --work FOLDER"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_work_folder_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert doctor.work_folder(tmp_path / "work").state == "problem"


def test_examination_covers_libraries_devices_assets_and_folders_without_importing_any(tmp_path: Path) -> None:
    loaded = set(sys.modules)
    findings = doctor.examine(tmp_path / "work")
    assert [finding for finding in findings if finding.state == "problem"] == []
    names = {finding.name for finding in findings}
    assert names >= {"python", "processor", "gpu", "torch", "torchvision", "open-clip-torch", "transformers", "timm"}
    assert names >= {"pyarrow", "pillow", "torchcodec", "demo data", "work folder", *doctor.DEFAULT_WEIGHTS}
    assert not {"torch", "transformers", "faiss"} & (set(sys.modules) - loaded)


def test_every_gpu_is_said_to_mine_or_why_not() -> None:
    old = "cuda:1 (Tesla T4) has compute capability 7.5, and bfloat16 needs 8.0"
    assert doctor.gpu_join({"gpus": {"cuda:0": "", "cuda:1": old}}) == [
        Finding("mining on cuda:0", "ok", "its kernels passed their test"),
        Finding("mining on cuda:1", "note", f"not possible, the CPU does it: {old}"),
    ]
    assert doctor.gpu_join({"gpus": {}}) == []
    assert doctor.gpu_join({"error": "no answer in 180 s"})[0].state == "note"


def test_gpu_whose_kernels_do_not_run_is_a_reason_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    card = SimpleNamespace(name="H100", major=9, minor=0, shared_memory_per_block_optin=232448)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "device", lambda device: (_ for _ in ()).throw(RuntimeError("no driver\nat all")))
    assert doctor.PROBES["selfjoin.gpu"]() == {"gpus": {"cuda:0": "the GPU's kernels do not run (no driver)"}}
