"""Embedding against the two bare forward passes: how much of the encoders' own rate is left once decoding, hashing,
checking and writing are added.

Both are measured in one process, in turn, on the same images: `bare` runs both encoders on ready uint8 batches, `embed`
is the whole command's loop from the files to the committed parts. Model loading is in neither. The demo's encoders run
anywhere; the L/14 pair, with random weights, 500 x 375 JPEGs and bf16, needs a GPU.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import pytest
import torch
from photographs import save_photos

from blindpairs.embed import EmbedOptions, embed
from blindpairs.encoders import Encoder, load_encoder
from blindpairs.images import open_corpus
from blindpairs.workspace import demo_folder

ROUNDS = 3
WANTED = 0.85


def bare_rate(encoders: list[Encoder], batch: int, images: int) -> float:
    """Images a second through every encoder, on batches that are ready."""
    device = encoders[0].device
    ready = [
        torch.randint(0, 256, (batch, 3, encoder.preprocess.size, encoder.preprocess.size), dtype=torch.uint8)
        for encoder in encoders
    ]
    started = time.perf_counter()
    for _ in range(images // batch):
        vectors = [encoder.encode(pixels.to(device)) for encoder, pixels in zip(encoders, ready, strict=True)]
    for last in vectors:
        last.cpu()  # waits for the device
    return images // batch * batch / (time.perf_counter() - started)


def compare(corpus: Path, encoders: dict[str, Encoder], options: EmbedOptions, tmp_path: Path) -> float:
    """Rates of both, in turn; the median of the ratios embed / bare."""
    chosen = list(encoders.values())
    bare_rate(chosen, options.batch, options.batch)  # the first pass pays for allocations
    ratios = []
    for round_number in range(ROUNDS):
        bare = bare_rate(chosen, options.batch, 1024)
        report = embed(
            open_corpus([str(corpus)]),
            tmp_path / str(round_number),
            {name: encoder.spec for name, encoder in encoders.items()},
            lambda name, _spec: encoders[name],
            options,
        )
        rate = report.embedded / report.seconds
        ratios.append(rate / bare)
        say(f"round {round_number}: bare {bare:.0f} images/s, embed {rate:.0f} images/s, share", rate / bare)
    return statistics.median(ratios)


def say(label: str, value: float) -> None:
    """One line of the benchmark's output."""
    sys.stdout.write(f"{label} {value:.3f}\n")


def test_demo_encoders_keep_most_of_the_bare_rate(tmp_path: Path) -> None:
    encoders = {name: load_encoder(name, f"demo:{name}") for name in ("clip", "dino")}
    share = compare(demo_folder() / "scenes.parquet", encoders, EmbedOptions.suited_to("cpu"), tmp_path)
    say("median share of the bare rate", share)
    assert share >= WANTED


def save_large_encoders(folder: Path) -> dict[str, str]:
    """Both L/14 architectures with random weights, in their libraries' own layouts; column -> spec."""
    import open_clip
    from safetensors.torch import save_file
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    clip, dino = folder / "clip", folder / "dino"
    clip.mkdir(parents=True)
    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    config = {"model_cfg": open_clip.get_model_config("ViT-L-14"), "preprocess_cfg": preprocess}
    (clip / "open_clip_config.json").write_text(json.dumps(config))
    state = open_clip.create_model("ViT-L-14").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, clip / "open_clip_model.safetensors")
    large = Dinov2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, patch_size=14, image_size=518)
    Dinov2Model(large).save_pretrained(dino)
    BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}).save_pretrained(dino)
    return {"clip": f"open_clip:local-dir:{clip}", "dino": f"hf:{dino}"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with bf16")
def test_large_encoders_on_a_gpu_keep_most_of_the_bare_rate(tmp_path: Path) -> None:
    specs = save_large_encoders(tmp_path / "models")
    save_photos(tmp_path / "photos", 4096)
    encoders = {name: load_encoder(name, spec, device="cuda") for name, spec in specs.items()}
    share = compare(tmp_path / "photos", encoders, EmbedOptions.suited_to("cuda"), tmp_path / "stores")
    say("median share of the bare bf16 rate", share)
    assert share >= WANTED
