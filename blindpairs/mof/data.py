"""The data of a stage: its file of conversations becomes examples, batches, and an order to go through them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindpairs.cores import usable_cores
from blindpairs.errors import ConfigError
from blindpairs.mof.batches import Collator, ModalityLengthSampler, PackedExamples
from blindpairs.mof.examples import Examples, Sight
from blindpairs.mof.indexing import open_index
from blindpairs.mof.pixels import PixelRules
from blindpairs.mof.recipe import Stage
from blindpairs.mof.templates import TurnTokenizer
from blindpairs.progress import Notice, Progress, drop_notice, silent
from blindpairs.workspace import digest, sha256_file


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

    def sampler(self, stage: Stage, seed: int, processes: int) -> ModalityLengthSampler | None:
        """The order that groups by modality and length, where the stage asks for it; None for a shuffled one."""
        if not stage.group_by_length or stage.packing:
            return None
        parts = stage.batch // stage.micro_batch
        whole = self.examples
        return ModalityLengthSampler(whole.lengths, whole.has_image, stage.micro_batch, max(parts, processes), seed)


def data_hash(stage: Stage) -> str:
    """What a run records of its data. ConfigError where the recipe names none."""
    if not stage.data:
        raise ConfigError("the recipe names no data: give --data FILE and --images FOLDER")
    return sha256_file(Path(stage.data))


@dataclass(frozen=True)
class Preparing:
    """Where what is prepared for training is kept, for all runs that have the same data, and who watches."""

    folder: Path
    cache_features: bool = False
    progress: Progress = silent
    notice: Notice = drop_notice


def load_data(stage: Stage, model: Any, processor: Any, preparing: Preparing) -> StageData:
    """Read the file of a stage. InputError where it has nothing to train on."""
    tokens = TurnTokenizer(processor.tokenizer, stage.template)
    processor.image_processor.do_pad = stage.pad
    place = preparing.folder / f"index-{digest([data_hash(stage), tokens.fingerprint])[:16]}"
    rows = open_index(Path(stage.data), tokens, place, preparing.notice)
    sight = Sight(Path(stage.images), PixelRules.of(processor.image_processor), model.image_tokens)
    examples = Examples(rows, tokens, sight, stage.max_length)
    collator = Collator(processor.tokenizer.pad_token_id, examples.dummy())
    chosen = PackedExamples(examples, stage.max_length) if stage.packing else examples
    return StageData(chosen, collator, cached=False)
