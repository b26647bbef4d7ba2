"""A training step of ours beside one of transformers' bare Trainer on its own LLaVA, by turns.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_training.py --pairs 20

Both train everything but the tower of one tiny model, CLIP alone, from the same weights on the same samples in the same
order. Printed are the mean ratio of processor seconds a step, ours to theirs, over neighbouring runs, with its 95 %
interval by bootstrap, and the largest difference between the two curves of the loss. Promised is a ratio of at most
WANTED. Ours computes the loss at labels alone and leaves out the block of the tower that no feature needs; it also
writes a log with rates, operations and effective ranks. `--large-vocabulary` shows what the first is worth.
"""

import argparse
import copy
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from blindpairs.mof.batches import Collator
from blindpairs.mof.flops import shape_of
from blindpairs.mof.modeling_mof_llava import MofLlavaConfig, MofLlavaForConditionalGeneration
from blindpairs.mof.recipe import Rates, Stage
from blindpairs.mof.run import Run
from blindpairs.mof.stages import freeze
from blindpairs.mof.trainer import StageTrainer, Training
from blindpairs.statistics import bootstrap_interval

WANTED = 1.03
STEPS, WARM, BATCH, RATE = 12, 2, 16, 1e-3
IMAGE, IGNORE, TEXT = 4, -100, 24
TRAINED = frozenset({"projectors", "language_model"})


class Samples(Dataset[dict[str, torch.Tensor]]):
    """Images of noise with random words after them."""

    def __init__(self, places: int, vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.rows = []
        for _ in range(STEPS * BATCH):
            text = torch.randint(5, vocabulary, (TEXT,), generator=generator)
            ids = torch.cat([torch.full((places,), IMAGE), text])
            labels = torch.where(ids == IMAGE, IGNORE, ids)
            pixels = torch.randn(3, 64, 64, generator=generator)
            self.rows.append({"input_ids": ids, "labels": labels, "pixel_values": pixels})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.rows[number]


class Clock(TrainerCallback):  # type: ignore[misc]
    """Processor seconds of the steps after the first few, and the loss of each."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds.append(time.process_time())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])

    @property
    def of_a_step(self) -> float:
        """The mean over the steps after the first WARM."""
        return (self.seconds[-1] - self.seconds[WARM - 1]) / (STEPS - WARM)


def models(vocabulary: int) -> tuple[Any, Any]:
    """The stock LLaVA, and ours in mode clip with the same weights."""
    blocks = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    vision = CLIPVisionConfig(**blocks, image_size=64, patch_size=8)
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = LlamaConfig(**blocks, **ends, vocab_size=vocabulary, max_position_embeddings=512)
    torch.manual_seed(0)
    stock = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=64)
    )
    parts = {"vision_config": vision, "text_config": text, "image_token_index": IMAGE}
    ours = MofLlavaForConditionalGeneration(MofLlavaConfig(**parts, mode="clip", resolution=64))
    ours.load_state_dict({name: tensor for name, tensor in stock.state_dict().items() if name in ours.state_dict()})
    return stock, ours


def train_ours(model: Any, samples: Samples, folder: Path) -> Clock:
    """As `train-mof` trains a stage."""
    rates = freeze(model, Rates(RATE, RATE))
    stage = Stage(batch=BATCH, micro_batch=BATCH, steps=STEPS, warmup=0.03, rates=Rates(RATE, RATE))
    folder.mkdir(parents=True)
    run = Run(folder)
    training = Training(run, 2, stage, 42, 1, rates, shape_of(model, TRAINED), 1e11)
    trainer = StageTrainer(training, model, samples, Collator(0, None))
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    clock.losses = [row["loss"] for row in run.rows()]
    return clock


def train_bare(model: Any, samples: Samples, folder: Path) -> Clock:
    """As the documentation of transformers trains a model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("vision_tower" not in name)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=RATE,
        warmup_steps=0.03,
        lr_scheduler_type="cosine",
        use_cpu=True,
        seed=42,
        data_seed=42,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}

    clock = Clock()
    trainer = Trainer(model, arguments, collate, samples, callbacks=[clock])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--large-vocabulary", action="store_true", help="32,000 words in place of 600")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    vocabulary = 32_000 if arguments.large_vocabulary else 600
    stock, ours = models(vocabulary)
    samples = Samples(64, vocabulary)
    ratios, apart, seconds = [], 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.pairs + 1):
            kinds = {"ours": (train_ours, ours), "bare": (train_bare, stock)}
            order = sorted(kinds, reverse=bool(turn % 2))
            clocks = {
                kind: kinds[kind][0](copy.deepcopy(kinds[kind][1]), samples, Path(folder) / f"{kind}-{turn}")
                for kind in order
            }
            if turn:  # the first loads everything
                ratios.append(clocks["ours"].of_a_step / clocks["bare"].of_a_step)
                seconds.append((clocks["ours"].of_a_step, clocks["bare"].of_a_step))
            curves = zip(clocks["ours"].losses, clocks["bare"].losses, strict=True)
            apart = max(apart, *(abs(one - other) for one, other in curves))
    low, high = bootstrap_interval(np.array(ratios))
    mean = sum(ratios) / len(ratios)
    step, bare = (1000 * sum(one) / len(one) for one in zip(*seconds, strict=True))
    figures = {
        "ratio": mean,
        "interval": [low, high],
        "milliseconds": [step, bare],
        "losses_apart": apart,
        "wanted": WANTED,
    }
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    sys.stdout.write(
        f"a training step, ours to transformers' bare Trainer: {mean:.3f} [{low:.3f}, {high:.3f}], wanted {WANTED} at "
        f"most ({step:.1f} and {bare:.1f} ms, {len(ratios)} pairs); the losses differ by {apart:.1e} at most\n"
    )


if __name__ == "__main__":
    main()
