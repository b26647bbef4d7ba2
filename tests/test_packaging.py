"""What `pip install` gives: a small wheel that carries the demo and works from any folder, without this checkout.

The wheel is made the way a release is: first the source archive, then the wheel from that archive.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
LARGEST = 40_000_000  # bytes: what ships must stay a quick download


def run(*command: str, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """A command's output; its last lines are the failure's message."""
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as installed, without its dependencies."""
    target = tmp_path_factory.mktemp("site")
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"),
        *("--target", str(target), str(wheel)),
        cwd=target,
    )
    return target


def test_wheel_carries_every_file_of_the_package_its_data_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path for path in (ROOT / "blindpairs").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(ROOT)) for path in package} <= names
    data = {str(path.relative_to(ROOT / "data")) for path in (ROOT / "data").rglob("*") if path.is_file()}
    assert {"demo/scenes.parquet", "published.json"} <= data
    assert {f"blindpairs/_data/{name}" for name in data} <= names
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    assert not [name for name in names if name.startswith(("tests/", "data/"))]


def test_wheel_stays_small(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST


@pytest.mark.timeout(600)  # the whole demo corpus
def test_installed_package_embeds_its_own_demo_from_another_folder(installed: Path, tmp_path: Path) -> None:
    here = {"PYTHONPATH": str(installed)}  # before the checkout that the interpreter's own site points to
    where = run(sys.executable, "-c", "import blindpairs; print(blindpairs.__file__)", cwd=tmp_path, environment=here)
    assert Path(where.strip()).is_relative_to(installed)
    run(sys.executable, "-m", "blindpairs", "embed", "--work", "X", cwd=tmp_path, environment=here)
    parts = sorted((tmp_path / "X" / "embeddings").glob("part-*.parquet"))
    assert sum(pq.ParquetFile(part).metadata.num_rows for part in parts) > 0
