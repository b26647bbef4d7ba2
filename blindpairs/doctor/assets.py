"""Checks of files: the demo's data, the weights of the default encoders, and the work folder."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from blindpairs.defaults import PAPER_ENCODERS
from blindpairs.doctor.finding import GIB, Finding
from blindpairs.errors import BlindpairsError
from blindpairs.workspace import demo_folder

LEAST_FREE = 2 * GIB  # embeddings of a million images by the default encoders take 3.6 GB
DEMO_PARTS = ("scenes.parquet", "clip/*.safetensors", "dino/*.safetensors")
# Where the default encoders' weights come from, as the libraries that load them resolve the names.
DEFAULT_WEIGHTS = {
    PAPER_ENCODERS["clip"]: "timm/vit_large_patch14_clip_224.openai",
    PAPER_ENCODERS["dino"]: "facebook/dinov2-large",
}


def demo_assets(find: Callable[[], Path] = demo_folder) -> Finding:
    """Whether the demo's corpus and both of its encoders came with the package."""
    remedy = "python -m pip install --force-reinstall blindpairs"
    try:
        folder = find()
    except BlindpairsError as error:
        return Finding("demo data", "problem", str(error), remedy)
    # By size: an installation that was cut short on a full disk leaves files that are there and empty.
    absent = [part for part in DEMO_PARTS if not any(path.stat().st_size for path in folder.glob(part))]
    if absent:
        return Finding("demo data", "problem", f"{folder} lacks {', '.join(absent)}", remedy)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    return Finding("demo data", "ok", f"{size:.1f} MB in {folder}")


def weights(environment: Mapping[str, str]) -> list[Finding]:
    """Whether the default encoders' weights are in the folder where the libraries keep downloaded weights."""
    # Read here as huggingface_hub reads them: importing it to ask would load it into this process.
    home = Path(environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser()
    offline = environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    absent = f"not in {cache}: " + ("and HF_HUB_OFFLINE forbids fetching" if offline else "fetched at first use")
    return [
        Finding(spec, "ok", f"in {cache}")
        if has_weights(cache, repository)
        else Finding(spec, "note", absent, f"HF_HUB_OFFLINE=0 hf download {repository}")
        for spec, repository in DEFAULT_WEIGHTS.items()
    ]


def has_weights(cache: Path, repository: str) -> bool:
    """Whether a hub cache holds a weight file of a repository."""
    # Entries of snapshots/ are links that the hub makes after a download is complete: a partial one has none.
    snapshots = cache / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(path.is_file() for kind in ("*.safetensors", "*.bin") for path in snapshots.glob(f"*/{kind}"))


def work_folder(work: Path) -> Finding:
    """Whether results can be written to `work`, which need not exist yet."""
    folder = work.absolute()
    # The nearest existing ancestor decides. lexists: a link to nothing is in the way, too.
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("work folder", "problem", f"{existing} cannot be written", "choose another with --work FOLDER")
    if len(os.fsencode(max(folder.parts, key=len))) > os.pathconf(existing, "PC_NAME_MAX"):
        return Finding("work folder", "problem", f"{folder} is too long a name", "choose another with --work FOLDER")
    free = shutil.disk_usage(existing).free
    value = f"{folder}, {free / GIB:.1f} GiB free"
    if free < LEAST_FREE:
        return Finding("work folder", "note", value, "free space, or choose another with --work FOLDER")
    return Finding("work folder", "ok", value)
