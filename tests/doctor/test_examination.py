"""All checks together find nothing wrong where the tests run."""

import sys
from pathlib import Path

from blindpairs.doctor import examine
from blindpairs.doctor.assets import DEFAULT_WEIGHTS


def test_examination_covers_libraries_devices_assets_and_folders_without_importing_any(tmp_path: Path) -> None:
    loaded = set(sys.modules)
    findings = examine(tmp_path / "work")
    assert [finding for finding in findings if finding.state == "problem"] == []
    names = {finding.name for finding in findings}
    assert names >= {"python", "processor", "gpu", "torch", "torchvision", "open-clip-torch", "transformers", "timm"}
    assert names >= {"pyarrow", "pillow", "torchcodec", "demo data", "work folder", *DEFAULT_WEIGHTS}
    assert not {"torch", "transformers", "faiss"} & (set(sys.modules) - loaded)
