"""What frozen towers make of images, kept on disk: for sweeps, in which the same images are seen again and again.

    clip-0123456789abcdef/       the features of one tower, of one size and layer and one way to prepare pixels
        description.json         all that they depend on; the name of the folder is its hash
        images-00000.npy         (images, N, D) float16, mapped
        images-00000.json        of which images: image_id, and the places, sizes and times of files; written last

Promises: a feature belongs to the bytes of an image (files with the same bytes share one), to the tower's weights,
layer and normalisation, and to the rules from file to pixels; a file that has changed since is an error until the next
`build`; a killed build goes on where it was; a block without its list is not there. Runs that differ in how features
are mixed share them, and a run with one tower uses what a run with two has kept.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blindpairs.access import listed
from blindpairs.cores import usable_cores
from blindpairs.encoders.weights import state_hash
from blindpairs.errors import ConfigError, InputError, Undecodable
from blindpairs.images import read_item
from blindpairs.images.decode import image_id
from blindpairs.mof.modeling_mof_llava import MofLlavaForConditionalGeneration
from blindpairs.mof.pixels import Pictures, PixelRules, item_of, place_of, shown, square_of
from blindpairs.progress import Progress, silent
from blindpairs.workspace import RunLock, digest, prepare_folder, read_json, stamp, write_json, written_atomically

BLOCK = 1024  # images of a file
BATCH = 64  # images that the towers see at once
Features = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Towers:
    """Frozen towers: how to run them, and for each, by name, all that its features depend on besides the pixels."""

    encode: Callable[[Tensor], tuple[Tensor, ...]]  # (B, 3, S, S) -> (B, N, D) for each tower
    facts: Mapping[str, Mapping[str, object]]

    @classmethod
    def of(cls, model: MofLlavaForConditionalGeneration) -> "Towers":
        """The towers of a MoF model. ConfigError where one of them is trained: its features would change."""
        config, inner = model.config, model.model
        own: dict[str, dict[str, object]] = {
            "clip": {"layer": config.vision_feature_layer},
            "dino": {"layer": config.aux_feature_layer, "norm": config.aux_feature_norm}
            | {"mean": list(config.aux_mean), "std": list(config.aux_std)},
        }
        facts, towers = {}, {"clip": inner.vision_tower, "dino": inner.aux_tower}
        for name in inner.tower_names:
            tower = towers[name]
            if any(one.requires_grad for one in tower.parameters()):
                raise ConfigError(f"the {name} tower is trained, so its features cannot be kept: freeze it")
            facts[name] = own[name] | {"weights": state_hash(tower), "places": inner.patches}

        def encode(pixels: Tensor) -> tuple[Tensor, ...]:
            """(B, 3, S, S) on the CPU -> (B, N, D) of each tower, on the CPU again."""
            device = next(model.parameters()).device
            return tuple(one.cpu() for one in model.encode(pixels.to(device)))

        return cls(encode, facts)


@dataclass(frozen=True)
class _Place:
    """Where the features of an image are: the file of its block, and the row."""

    path: str
    row: int


class _Kept:
    """The features of one tower on disk."""

    def __init__(self, folder: Path, name: str, facts: Mapping[str, object]) -> None:
        self.folder = folder / f"{name}-{digest(facts)[:16]}"
        self._facts = facts
        self.by_id: dict[str, _Place] = {}
        self.files: dict[str, tuple[int, int, str]] = {}  # place -> size, time, image_id
        self.shape: tuple[int, int] = (0, 0)
        self._blocks = 0
        for path in listed(self.folder):
            if path.name.startswith("images-") and path.suffix == ".json":
                self._read(path)

    def _read(self, path: Path) -> None:
        block = read_json(path)
        array = str(path.with_suffix(".npy"))
        self.by_id |= {name: _Place(array, row) for row, name in enumerate(block["image_ids"])}
        self.files |= {place: (size, time, identity) for place, size, time, identity in block["files"]}
        self.shape = (block["shape"][0], block["shape"][1])
        self._blocks = max(self._blocks, int(path.stem.removeprefix("images-")) + 1)

    def has(self, place: str, size: int, time: int) -> bool:
        """Whether the features of this very file are here."""
        return self.files.get(place, ())[:2] == (size, time)

    def add(self, files: Sequence[tuple[str, int, int, str]], new: Mapping[str, Features]) -> None:
        """Write a block: features of new images, by image_id, and files that have these or earlier ones."""
        if not self._blocks:
            write_json(self.folder / "description.json", stamp() | {"features": dict(self._facts)})
        shape = next(iter(new.values())).shape if new else self.shape
        path = self.folder / f"images-{self._blocks:05d}.json"
        if new:
            with written_atomically(path.with_suffix(".npy")) as aside, aside.open("wb") as file:
                np.save(file, np.stack(list(new.values())))
        # Last: after a kill in between, the next block takes the same number and replaces the array.
        write_json(path, {"shape": list(shape), "image_ids": list(new), "files": [list(file) for file in files]})
        self._read(path)

    def __getitem__(self, place: str) -> Tensor:
        kept = self.by_id[self.files[place][2]]
        return torch.from_numpy(np.array(_mapped(kept.path)[kept.row]))  # a copy, which torch may write to


@lru_cache(maxsize=4096)  # maps, of four million images
def _mapped(path: str) -> Features:
    features: Features = np.load(path, mmap_mode="r")
    return features


class FeatureCache:
    """Features by the name of an image."""

    def __init__(self, folder: Path, images: Pictures, rules: PixelRules, towers: Towers) -> None:
        """`folder` may hold those of many towers. Nothing is computed before `build`."""
        self.images, self.rules, self._folder = images, rules, folder
        self._facts = {name: {**facts, "pixels": rules.describe()} for name, facts in towers.facts.items()}
        self._kept = self._read()

    def _read(self) -> list[_Kept]:
        return [_Kept(self._folder, name, facts) for name, facts in self._facts.items()]

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(N, D) for each tower; zeros before the first image is kept."""
        return tuple(kept.shape for kept in self._kept)

    def __getitem__(self, name: str) -> tuple[Tensor, ...]:
        """(N, D) float16 for each tower. InputError where the file's features are not kept, or it has changed since."""
        if not self._has(name):
            raise InputError(
                f"{shown(self.images, name)} has no features, or has changed since: run the same command again"
            )
        return tuple(kept[place_of(self.images, name)] for kept in self._kept)

    def _has(self, name: str) -> bool:
        item = item_of(self.images, name)
        place = place_of(self.images, name)
        return all(kept.has(place, item.size, item.mtime_ns) for kept in self._kept)

    def build(self, names: Sequence[str], towers: Towers, progress: Progress = silent) -> None:
        """Keep the features of all these images. InputError names one that cannot be used; those before it stay."""
        wanted = list(dict.fromkeys(names))
        progress(0, len(wanted), 0)
        if all(map(self._has, wanted)):
            progress(len(wanted), len(wanted), 0)
            return
        for kept in self._kept:
            prepare_folder(kept.folder)
        lock = RunLock(self._folder)
        try:
            with lock.planning():  # waits for another process, which may be keeping the same
                self._kept = self._read()  # blocks may have been added until now: their numbers are taken
                self._add([name for name in wanted if not self._has(name)], len(wanted), towers, progress)
        finally:
            lock.release()

    def _add(self, missing: Sequence[str], total: int, towers: Towers, progress: Progress) -> None:
        done = total - len(missing)
        with ThreadPoolExecutor(usable_cores()) as threads:
            for start in range(0, len(missing), BLOCK):

                def report(count: int, before: int = done + start) -> None:
                    """Tell how many images of this block are done."""
                    progress(before + count, total, 0)

                self._add_block(missing[start : start + BLOCK], towers, threads, report)

    def _add_block(
        self, names: Sequence[str], towers: Towers, threads: ThreadPoolExecutor, progress: Callable[[int], None]
    ) -> None:
        files: list[tuple[str, int, int, str]] = []
        new: list[dict[str, Features]] = [{} for _ in self._kept]
        known = list(zip(self._kept, new, strict=True))
        for start in range(0, len(names), BATCH):
            seen = list(threads.map(self._seen, names[start : start + BATCH]))
            files += [file for file, _ in seen]
            squares = {file[3]: square for file, square in seen}  # image_id -> (3, S, S): files of equal bytes are one
            wanted = [
                one for one in squares if any(one not in kept.by_id and one not in block for kept, block in known)
            ]
            if wanted:
                pixels = self.rules.normalised(torch.from_numpy(np.stack([squares[one] for one in wanted])))
                for block, tokens in zip(new, _encoded(towers, pixels), strict=True):
                    block.update(zip(wanted, tokens, strict=True))
            progress(len(files))
        for kept, features in known:
            kept.add(files, {one: feature for one, feature in features.items() if one not in kept.by_id})

    def _seen(self, name: str) -> tuple[tuple[str, int, int, str], npt.NDArray[np.uint8]]:
        """(place, size, time, image_id) of a file, and its square of pixels."""
        item = item_of(self.images, name)  # before it is read: a change during that shows later
        try:
            data = read_item(item)
            file = (place_of(self.images, name), item.size, item.mtime_ns, image_id(data))
            return file, square_of(data, self.rules)
        except Undecodable as failure:
            raise InputError(
                f"{shown(self.images, name)} cannot be used ({failure.code}: {failure.message}): check the data first, "
                "and leave such rows out"
            ) from failure


@torch.inference_mode()
def _encoded(towers: Towers, pixels: Tensor) -> list[Features]:
    """(B, N, D) of each tower. ConfigError for what float16 cannot hold."""
    features = [one.half().numpy() for one in towers.encode(pixels)]
    for name, one in zip(towers.facts, features, strict=True):
        if not np.isfinite(one).all():
            raise ConfigError(f"features of the {name} tower exceed the range of float16, in which they would be kept")
    return features
