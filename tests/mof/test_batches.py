"""Batches: LLaVA's grouping against its definition, packing that loses nothing, padding that changes nothing."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instruction_files import indexed, picture, row
from tiny_mof import demo_mof, save_language_model
from trained_tokenizers import llama_like

from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Preprocess
from blindpairs.mof.batches import Collator, ModalityLengthSampler, PackedExamples, packed, packs_of
from blindpairs.mof.examples import Examples, Sight
from blindpairs.mof.pixels import PixelRules
from blindpairs.mof.templates import IGNORE, TurnTokenizer

RULES = PixelRules(Preprocess(16, "shortest", 16, "bicubic", "floor", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    tokens = TurnTokenizer(llama_like(), "vicuna_v1")
    rows = []
    for number in range(9):
        image = picture(tmp_path / f"{number}.png", number).name if number % 3 else None
        rows.append(row(str(number), image, ("<image>" if image else "") + "What? " * (number + 1), "That."))
    return Examples(indexed(rows, tokens, tmp_path), tokens, Sight(tmp_path, RULES, 4))


def theirs(lengths: list[int], images: list[bool], batch: int, parts: int, permute: Any) -> list[int]:
    """LLaVA's order as its code says it, with one difference: whole mega-batches are shuffled with the others."""
    megas: list[list[int]] = []
    rest: list[int] = []
    for kind in (True, False):
        numbers = [number for number, image in enumerate(images) if image == kind]
        shuffled = [numbers[place] for place in permute(len(numbers))]
        size = batch * parts
        for start in range(0, len(shuffled), size):
            group = sorted(shuffled[start : start + size], key=lambda number: lengths[number], reverse=True)
            if len(group) < size:
                rest += (
                    [number for part in range(parts) for number in group[part::parts]]
                    if len(group) % parts
                    else spread(group, lengths, parts)
                )
            else:
                megas.append(spread(group, lengths, parts))
    return [number for place in permute(len(megas)) for number in megas[place]] + rest


def spread(group: list[int], lengths: list[int], parts: int) -> list[int]:
    chunks: list[list[int]] = [[] for _ in range(parts)]
    for number in group:
        open_chunks = [chunk for chunk in chunks if len(chunk) < len(group) // parts]
        min(open_chunks, key=lambda chunk: sum(lengths[each] for each in chunk)).append(number)
    return [number for chunk in chunks for number in chunk]


@pytest.mark.parametrize(("count", "batch", "parts"), [(100, 4, 2), (97, 4, 3), (8, 8, 1), (3, 4, 2), (64, 1, 4)])
def test_order_is_that_of_llava(count: int, batch: int, parts: int) -> None:
    random = np.random.default_rng(count)
    lengths, images = random.integers(1, 2000, count), random.random(count) < 0.7
    sampler = ModalityLengthSampler(lengths, images, batch, parts, seed=5)
    shuffle = np.random.default_rng([5, 0])
    order = list(sampler)
    assert order == theirs(lengths.tolist(), images.tolist(), batch, parts, shuffle.permutation)
    assert sorted(order) == list(range(count))
    assert len(sampler) == count


def test_batches_have_one_modality_and_parts_have_equal_work() -> None:
    random = np.random.default_rng(0)
    lengths, images = random.integers(1, 2000, 4000), random.random(4000) < 0.9
    order = list(ModalityLengthSampler(lengths, images, 8, 2))
    batches = [order[start : start + 8] for start in range(0, len(order), 8)]
    mixed = sum(len({bool(images[number]) for number in batch}) > 1 for batch in batches)
    assert mixed <= 2, "only what was left of both modalities"
    work = np.array([lengths[batch].sum() for batch in batches[:-4]]).reshape(-1, 2)
    shuffled = np.array([lengths[start : start + 8].sum() for start in range(0, 4000, 8)]).reshape(-1, 2)
    assert np.ptp(work, axis=1).mean() < np.ptp(shuffled, axis=1).mean() / 5


def test_epoch_is_fixed_by_seed_and_number_so_a_resumed_run_can_skip() -> None:
    def sampler(seed: int, epoch: int) -> ModalityLengthSampler:
        made = ModalityLengthSampler(np.arange(50), np.arange(50) % 3 > 0, 4, seed=seed)
        made.set_epoch(epoch)
        return made

    assert list(sampler(1, 2)) == list(sampler(1, 2))
    assert list(sampler(1, 2))[20:] == list(islice(sampler(1, 2), 20, None))
    assert list(sampler(1, 2)) != list(sampler(1, 3)) != list(sampler(2, 3))


def test_batch_holds_every_example_and_padding_that_counts_for_nothing(examples: Examples) -> None:
    batch = Collator(3, examples.dummy())([examples[number] for number in range(4)])
    for number in range(4):
        length = examples.lengths[number]
        assert batch["input_ids"][number, :length].tolist() == examples[number]["input_ids"].tolist()
        assert batch["labels"][number, :length].tolist() == examples[number]["labels"].tolist()
        assert batch["attention_mask"][number].tolist() == [1] * length + [0] * (max(examples.lengths[:4]) - length)
        assert set(batch["labels"][number, length:].tolist()) <= {IGNORE}
        assert set(batch["input_ids"][number, length:].tolist()) <= {3}
    assert torch.equal(batch["pixel_values"], torch.stack([examples[number]["pixel_values"] for number in (1, 2)]))


def test_batch_of_texts_has_one_image_without_a_place(examples: Examples) -> None:
    texts = [examples[0], examples[3]]
    batch = Collator(3, examples.dummy())(texts)
    assert batch["pixel_values"].shape == (1, 3, 16, 16)
    assert examples.tokens.image_id not in batch["input_ids"]
    assert "pixel_values" not in Collator(3, None)(texts)
    assert Collator(3, examples.dummy())([packed(texts)])["pixel_values"].shape == (1, 3, 16, 16)


def test_packs_hold_everything_once_and_are_full() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(20, 1200, 10_000)
    packs = packs_of(lengths, 2048, np.random.default_rng(2))
    assert sorted(number for pack in packs for number in pack) == list(range(10_000))
    sums = [lengths[pack].sum() for pack in packs]
    assert max(sums) <= 2048
    assert sum(sums) / (2048 * len(packs)) > 0.98
    assert packs != packs_of(lengths, 2048, np.random.default_rng(3))
    with pytest.raises(ConfigError, match="1,199 ids and a pack 1,000"):
        packs_of(lengths, 1000, random)


def test_pack_is_its_examples_one_after_the_other(examples: Examples) -> None:
    packs = PackedExamples(examples, 200, seed=4)
    assert sorted(number for pack in packs.packs for number in pack) == list(range(9))
    batch = Collator(3, examples.dummy())([packs[number] for number in range(len(packs))])
    assert "attention_mask" not in batch
    assert batch["use_cache"] is False
    images = []
    for place, pack in enumerate(packs.packs):
        start = 0
        for number in pack:
            example, length = examples[number], int(examples.lengths[number])
            here = slice(start, start + length)
            assert torch.equal(batch["input_ids"][place, here], example["input_ids"])
            assert batch["labels"][place, start] == IGNORE
            assert torch.equal(batch["labels"][place, here][1:], example["labels"][1:])
            assert batch["position_ids"][place, here].tolist() == list(range(length))
            images += [example["pixel_values"]] if "pixel_values" in example else []
            start += length
        assert set(batch["position_ids"][place, start:].tolist()) <= {0}
    assert torch.equal(batch["pixel_values"], torch.stack(images))


def test_first_id_of_a_packed_example_is_no_target_of_the_one_before() -> None:
    ids = torch.arange(3)  # a caption without BOS is learned from its first id on
    whole = packed([{"input_ids": ids, "labels": ids}, {"input_ids": ids, "labels": ids}])
    assert whole["labels"].tolist() == [IGNORE, 1, 2, IGNORE, 1, 2]
    assert whole["position_ids"].tolist() == [0, 1, 2, 0, 1, 2]


def test_packed_examples_do_not_see_each_other(examples: Examples) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(llama_like()), **shape)).eval()
    texts = [number for number in range(9) if number % 3 == 0]
    batch = Collator(3, None)([packed([examples[texts[0]], examples[texts[1]]]), packed([examples[texts[2]]])])
    batch.pop("labels")
    with torch.inference_mode():
        together = model(**batch).logits
        for row, start, number in ((0, 0, texts[0]), (0, int(examples.lengths[texts[0]]), texts[1]), (1, 0, texts[2])):
            alone = model(input_ids=examples[number]["input_ids"][None], use_cache=False).logits[0]
            assert torch.allclose(together[row, start : start + len(alone)], alone, atol=1e-5)


def test_packed_examples_with_images_answer_as_they_do_alone(tmp_path: Path) -> None:
    model, processor = demo_mof(save_language_model(tmp_path / "lm"))
    tokens = TurnTokenizer(processor.tokenizer, "vicuna_v1")
    rows = []
    for number in range(4):
        image = picture(tmp_path / f"{number}.png", number).name if number != 1 else None
        said = "What? " * number + "?"
        rows.append(row(str(number), image, f"<image>{said}" if image else said, "That."))
    rules = PixelRules.of(processor.image_processor)
    examples = Examples(indexed(rows, tokens, tmp_path), tokens, Sight(tmp_path, rules, model.image_tokens))
    collator = Collator(0, examples.dummy())
    batch = collator([packed([examples[0], examples[1], examples[2]]), packed([examples[3]])])
    batch.pop("labels")
    with torch.inference_mode():
        together = model(**batch).logits
        for place, start, number in (
            (0, 0, 0),
            (0, examples.lengths[0], 1),
            (0, examples.lengths[:2].sum(), 2),
            (1, 0, 3),
        ):
            alone = {key: value for key, value in Collator(0, None)([examples[number]]).items() if key != "labels"}
            logits = model(**alone, use_cache=False).logits[0]
            assert torch.allclose(together[place, start : start + len(logits)], logits, atol=1e-4)
