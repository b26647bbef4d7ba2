"""Steps of stage 1 and stage 2 at real size, with random weights: tokens a second, share of the device, and memory.

    python tests/benchmarks/bench_mof_steps.py             # CLIP-L/14-336, Dinov2-L, a 7B language model; needs a GPU
    python tests/benchmarks/bench_mof_steps.py --small     # the same script on a small shape, as always on a CPU

Each of the modes clip and interleaved is trained for some steps on made-up samples as long as LLaVA's (25 tokens of
text in stage 1, 300 in stage 2), by the trainer of `train-mof`. Printed are tokens a second, the model's operations as
a share of the measured rate of a large product, the time of a step beside that of mode clip, and the peak of memory
beside what `train-mof --plan` says. Wanted on an H100 or H200: 53 % in stage 2, interleaved at most 2.0 times clip in
stage 1, memory within 15 % of the plan. No figure of a GPU has been measured yet.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPVisionConfig, Dinov2Config, LlamaConfig

from blindpairs.mof.batches import Collator
from blindpairs.mof.cost import memory, model_config
from blindpairs.mof.device import Device, this_device, to_precision
from blindpairs.mof.flops import shape_of
from blindpairs.mof.meter import LOG_EVERY
from blindpairs.mof.modeling_mof_llava import MofLlavaConfig, MofLlavaForConditionalGeneration
from blindpairs.mof.presets import load_preset
from blindpairs.mof.recipe import Stage, with_setting
from blindpairs.mof.run import Run
from blindpairs.mof.stages import freeze, recomputing
from blindpairs.mof.trainer import StageTrainer, Training

PRESET = "mmvp-interleaved"
TEXT = {1: 25, 2: 300}
STEPS = 2 * LOG_EVERY  # the first half sets everything up
GIB = 1 << 30


class Samples(Dataset[dict[str, Tensor]]):
    """As many as are asked for, all of one length."""

    def __init__(self, model: Any, text: int, count: int) -> None:
        self._image, self._places, self._text = model.config.image_token_id, model.image_tokens, text
        self._side, self._count = model.config.resolution, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        ids = torch.cat([torch.full((self._places,), self._image), torch.randint(5, 100, (self._text,))])
        labels = torch.where(ids == self._image, -100, ids)
        return {"input_ids": ids, "labels": labels, "pixel_values": torch.randn(3, self._side, self._side)}


def configuration(mode: str, *, small: bool) -> MofLlavaConfig:
    """That of the I-MoF preset with a 7B language model, or a small one of the same make."""
    recipe = with_setting(load_preset(PRESET).recipe, "language_model", "lmsys/vicuna-7b-v1.5")
    if not small:
        return model_config(with_setting(recipe, "mode", mode))
    blocks = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    clip = CLIPVisionConfig(**blocks, intermediate_size=1024, image_size=112, patch_size=14)
    dino = Dinov2Config(**blocks, mlp_ratio=4, image_size=112, patch_size=14)
    text = LlamaConfig(**blocks, intermediate_size=704, vocab_size=8000, max_position_embeddings=2048)
    parts = {"vision_config": clip, "aux_vision_config": dino, "text_config": text}
    return MofLlavaConfig(**parts, mode=mode, resolution=112, image_token_index=4)


def measured(mode: str, number: int, device: Device, *, small: bool, lora: bool) -> dict[str, float]:
    """Train some steps: tokens a second, share of the device, seconds of a step, peak and planned bytes."""
    stage = load_preset("llava-1.5-7b-336-lora" if lora else PRESET).recipe.stage(number)
    stage = replace(stage, batch=4 if small else 8, micro_batch=4 if small else 8, steps=STEPS, epochs=0)
    stage = replace(stage, activation_checkpointing=number == 2 and not small)
    torch.manual_seed(0)
    config = configuration(mode, small=small)
    with torch.device(device.kind):
        model = MofLlavaForConditionalGeneration(config)
    if lora:
        from blindpairs.mof.lora import add_lora

        add_lora(model, stage.lora, 0)
    rates = freeze(model, stage.rates)
    to_precision(model, rates, device.kind)
    shape = shape_of(model, stage.rates.trained)
    planned = memory(model, stage, model.image_tokens + TEXT[number], device)
    if device.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder, recomputing(model, stage.activation_checkpointing):
        run = Run(Path(folder))
        training = Training(run, number, stage, 0, 1, rates, shape, device.peak)
        samples = Samples(model, TEXT[number], STEPS * stage.batch)
        StageTrainer(training, model, samples, Collator(0, None)).train()
        last = run.rows()[-1]
    peak = torch.cuda.max_memory_allocated() if device.kind == "cuda" else 0
    step = last["seconds"] / LOG_EVERY
    return {**_rates(last), "step": step, "peak": peak, "planned": planned, "steps_of": _length(stage, model, number)}


def _rates(row: dict[str, Any]) -> dict[str, float]:
    return {"tokens": row["tokens_per_second"], "share": row["flops_utilisation"]}


def _length(stage: Stage, model: Any, number: int) -> int:
    return stage.batch * (int(model.image_tokens) + TEXT[number])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a small shape; without a GPU always")
    parser.add_argument("--lora", action="store_true", help="stage 2 by LoRA, which fits 80 GB")
    arguments = parser.parse_args()
    device = this_device()
    small = arguments.small or device.kind == "cpu"
    write = sys.stdout.write
    write(f"{device.name}: {device.peak / 1e12:.2f} TFLOP/s measured; {'a small' if small else 'the real'} shape\n")
    for number in (1, 2):
        seconds = {}
        for mode in ("clip", "interleaved"):
            one = measured(mode, number, device, small=small, lora=arguments.lora and number == 2)
            seconds[mode] = one["step"]
            held = f"{one['peak'] / GIB:.1f} GiB at most, " if one["peak"] else ""
            write(
                f"stage {number}, {mode}: {one['tokens']:,.0f} tokens/s, {one['share']:.1%} of that rate, "
                f"{1000 * one['step']:.0f} ms a step of {one['steps_of']:,} tokens; {held}"
                f"{one['planned'] / GIB:.2f} GiB planned\n"
            )
        write(f"  interleaved takes {seconds['interleaved'] / seconds['clip']:.2f} times the time of clip\n")


if __name__ == "__main__":
    main()
