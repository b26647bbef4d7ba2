"""Weights on this machine: finds them, refuses broken ones, identifies them by a hash of their content.

Promises: no pickled code is ever run; any exception of a library that loads weights becomes one sentence that names the
file and says what to do; two towers with the same numbers have the same hash, whatever file they come from. torch is
loaded only to hash.
"""

import hashlib
import json
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blindpairs.encoders.specs import LOCAL_DIR, Spec
from blindpairs.errors import AssetMissing, BlindpairsError, ConfigError

if TYPE_CHECKING:
    from torch import nn

REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")  # beside the weights
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


def state_hash(module: "nn.Module") -> str:
    """sha256 over name, dtype, shape and bytes of every tensor of the state, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        # The store compares this hash before it adds vectors: the same model on a GPU must have the same.
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def local_folder(spec: str, path: str) -> Path:
    """The folder that a spec names; ConfigError where there is none."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{spec}: there is no folder {folder}")
    return folder


def local_dir(spec: Spec) -> Path | None:
    """The folder of `local-dir:FOLDER`, for open_clip and timm; None for another spec.

    ConfigError where there is no folder, AssetMissing where it has no weights.
    """
    if not spec.target.startswith(LOCAL_DIR):
        return None
    folder = local_folder(spec.text, spec.target.removeprefix(LOCAL_DIR))
    require_weights(spec.text, folder, ("*.safetensors", "*.bin", "*.pth"))
    return folder


def read_config(spec: str, path: Path) -> dict[str, Any]:
    """A JSON file in the hub's layout; ConfigError where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{spec}: {path} is missing or not JSON; the hub's layout has it") from error
    return content if isinstance(content, dict) else {}


def refuse_missing(spec: str, source: object, missing: Sequence[str]) -> None:
    """ConfigError if a checkpoint lacks tensors of its model: libraries leave random numbers in their place."""
    if missing:
        raise ConfigError(f"{spec}: {source} lacks {len(missing)} tensors of this model, such as {missing[0]}")


def require_weights(spec: str, folder: Path, patterns: tuple[str, ...]) -> None:
    """AssetMissing unless a file matches one of the patterns: without weights, some libraries use random ones."""
    if not any(next(folder.glob(pattern), None) for pattern in patterns):
        raise AssetMissing(f"{spec}: no weights in {folder}; put one of {', '.join(patterns)} there")


def hub_folder(spec: str, target: str, others: tuple[str, ...]) -> Path:
    """The local folder, or the hub's snapshot of the repository, fetched where there is a network.

    `others` are the files besides the weights, config.json first. AssetMissing where there are no weights.
    """
    if Path(target).expanduser().is_dir() or not REPO.fullmatch(target):
        folder = local_folder(spec, target)
    else:
        with loading(spec, target):
            folder = _snapshot(target, others)
    require_weights(spec, folder, (SAFETENSORS[0], SAFETENSORS[1], PICKLES[0], PICKLES[1]))
    return folder


def _snapshot(repository: str, others: tuple[str, ...]) -> Path:
    """The cached files if there are any, so that weights never change between two runs; else a download."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        folder = Path(snapshot_download(repository, local_files_only=True))
        # The folder also exists after a download that was cut off, without the weights.
        if all((folder / name).is_file() for name in (others[0], SAFETENSORS[0])):
            return folder
    # Only one kind of weights: many repositories have the same tensors as safetensors and as a pickle.
    folder = Path(snapshot_download(repository, allow_patterns=[*others, *SAFETENSORS]))
    if not any(next(folder.glob(pattern), None) for pattern in SAFETENSORS):
        folder = Path(snapshot_download(repository, allow_patterns=[*others, *PICKLES]))
    return folder


def hub_extra(spec: Spec, folder: Path, names: tuple[str, ...]) -> Path:
    """The snapshot of the hub's repository with more of its files; a local folder as it is."""
    from huggingface_hub import snapshot_download

    if folder.parent.name != "snapshots":
        return folder
    with loading(spec.text, spec.target):
        return Path(snapshot_download(spec.target, revision=folder.name, allow_patterns=list(names)))


@contextmanager
def quiet() -> Iterator[None]:
    """Hides transformers' progress bar, and its table of tensors that the model does not use."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def loading(spec: str, source: object) -> Iterator[None]:
    """Goes around a library's loading call: every failure becomes AssetMissing (not found) or ConfigError (broken)."""
    try:
        yield
    except BlindpairsError:
        raise
    except Exception as error:  # what a library raises for a damaged file is anything from KeyError to OSError
        causes = list(_causes(error))
        if unreachable := [cause for cause in causes if _is_unreachable(cause)]:
            raise _missing(spec, source, unreachable[-1]) from error
        if any(isinstance(cause, pickle.UnpicklingError) for cause in causes) or "weights_only" in str(error):
            what = "is damaged, or holds pickled code, which is never run; convert it to safetensors if you trust it"
            raise ConfigError(f"{spec}: {source} {what}") from error
        first_line = str(error).strip().partition("\n")[0][:200]
        why = f"{type(error).__name__}: {first_line}"
        raise ConfigError(f"{spec}: {source} cannot be loaded; it is damaged or of another model\n({why})") from error


def _missing(spec: str, source: object, error: BaseException) -> AssetMissing:
    reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")[:160]
    return AssetMissing(
        f"{spec}: {source} is not in the local model cache and cannot be fetched ({type(error).__name__}: {reason});\n"
        "run once with a network, copy HF_HOME from a machine that has it, or name a local folder or file instead"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:  # from the outermost to the first that was raised
        yield error
        error = error.__cause__ or error.__context__


def _is_unreachable(error: BaseException) -> bool:
    """Whether the hub, the cache or the network failed, as opposed to a broken file."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    hub = (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ConnectionError, TimeoutError)
    return isinstance(error, hub) or type(error).__module__.split(".")[0] in ("httpx", "httpcore", "urllib")
