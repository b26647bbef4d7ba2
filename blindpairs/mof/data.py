"""The data of a stage: its file of conversations becomes examples, batches, and an order to go through them.

What is prepared (the index of a file, features of frozen towers) is kept in one folder for all runs that can share it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blindpairs.access import present
from blindpairs.cores import usable_cores
from blindpairs.errors import ConfigError, InputError
from blindpairs.mof.batches import Collator, ModalityLengthSampler, PackedExamples
from blindpairs.mof.checking import Check, Findings, Known, check_instructions
from blindpairs.mof.conversations import Oddity
from blindpairs.mof.examples import Examples, Sight
from blindpairs.mof.features import FeatureCache, Towers
from blindpairs.mof.indexing import InstructionIndex, data_hash, open_index
from blindpairs.mof.pixels import Pictures, PixelRules
from blindpairs.mof.recipe import Stage
from blindpairs.mof.shards import Shards, shards_of
from blindpairs.mof.templates import TurnTokenizer
from blindpairs.progress import Notice, Progress, drop_notice, silent
from blindpairs.workspace import digest


@dataclass(frozen=True)
class Preparing:
    """Where what is prepared is kept, what is looked at before training, and who watches."""

    folder: Path
    known: Known = field(default_factory=Known)  # images of the benchmark, which must not be trained on
    look: bool = True  # at every row and image; not needed for data that we have made
    notice: Notice = drop_notice
    looked: dict[str, tuple[Oddity, ...]] = field(default_factory=dict)  # see Check


@dataclass(frozen=True)
class StageData:
    """Examples of a stage, ready to be trained on."""

    examples: Any  # a torch Dataset
    collator: Callable[[list[Any]], dict[str, Any]]
    cached: bool  # whether the images are features that the frozen towers gave earlier

    @property
    def workers(self) -> int:
        """Processes that decode images beside the training; none for features, which are only read."""
        return 0 if self.cached else min(8, usable_cores() - 1)

    def sampler(self, stage: Stage, seed: int) -> ModalityLengthSampler | None:
        """The order that groups by modality and length, where the stage asks for it; None for a shuffled one."""
        if not stage.group_by_length or stage.packing:
            return None
        parts = stage.batch // stage.micro_batch  # of all devices
        whole = self.examples
        return ModalityLengthSampler(whole.lengths, whole.has_image, stage.micro_batch, parts, seed)


class Instructions:
    """The file of a stage, its index, and how its rows become ids."""

    def __init__(self, stage: Stage, tokenizer: Any, preparing: Preparing) -> None:
        """ConfigError where the recipe names no data. InputError where the file has no row that can be used."""
        self.stage, self.preparing = stage, preparing
        self.tokens = TurnTokenizer(tokenizer, stage.template)
        source = source_of(stage)
        self.pictures: Pictures = source if isinstance(source, Shards) else Path(stage.images)
        place = preparing.folder / f"index-{digest([data_hash(source), self.tokens.fingerprint])[:16]}"
        self.index = open_index(source, self.tokens, place, preparing.notice)

    def findings(self, image_tokens: int, progress: Progress = silent) -> Findings:
        """What is wrong with rows and images. InputError where there are images, and no folder that holds them."""
        if isinstance(self.pictures, Path) and self.index.has_image.any() and not self.pictures.is_dir():
            what = "is no folder" if present(self.pictures) else "does not exist"
            raise InputError(f"the folder of images {self.stage.images} {what}: name it with --images FOLDER")
        given = self.preparing
        pictures = self.pictures if given.look else None
        check = Check(pictures, image_tokens, self.stage.max_length, given.known, looked=given.looked)
        return check_instructions(self.index, self.tokens, check, progress)

    def without(self, numbers: Collection[int]) -> InstructionIndex:
        """The rows that are left."""
        return self.index.without(numbers) if numbers else self.index

    def data(self, rows: InstructionIndex, model: Any, processor: Any, bar: Progress | None) -> StageData:
        """Examples and batches of these rows. `bar`: keep features of the frozen towers, and use them."""
        processor.image_processor.do_pad = self.stage.pad
        rules = PixelRules.of(processor.image_processor)
        cache = None
        if bar is not None and rows.has_image.any():  # without any, nothing tells the shape of what stands for one
            towers = Towers.of(model)
            cache = FeatureCache(self.preparing.folder / "features", self.pictures, rules, towers)
            cache.build(list(rows.images()), towers, bar)
        sight = Sight(self.pictures, rules, model.image_tokens, cache)
        examples = Examples(rows, self.tokens, sight, self.stage.max_length)
        collator = Collator(processor.tokenizer.pad_token_id, examples.dummy())
        chosen = PackedExamples(examples, self.stage.max_length) if self.stage.packing else examples
        return StageData(chosen, collator, cached=cache is not None)


def source_of(stage: Stage) -> Path | Shards:
    """The file of a stage, or its archives: a folder or a pattern. ConfigError where the recipe names neither."""
    if not stage.data:
        raise ConfigError("the recipe names no data: give --data FILE and --images FOLDER")
    return shards_of(stage.data) or Path(stage.data)


def hash_of(stage: Stage) -> str:
    """What a run records of the data of a stage."""
    return data_hash(source_of(stage))
