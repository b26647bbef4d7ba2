"""How much of the speed of `generate` is left when a model of transformers is asked a benchmark by `blindpairs eval`.

    python tests/benchmarks/bench_asking.py [--pairs 16] [--tokens 64] [--rounds 5]

Asked are the same questions about the same images, in batches of the same size, and each answer has the same number of
tokens. Beside it runs what anybody would write: the processor and `generate` in a loop; and `generate` alone, with its
inputs made before the clock starts. All three run in turn, several times, and the fastest of each counts, because other
work on the machine only slows. On a CPU the processor's time tells more, which other work hardly changes. The model is
a LLaVA of random weights, so small that overhead shows more than with one that people use.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' own models and pairs

import torch
from pictured_pairs import benchmark_of
from PIL import Image
from tiny_llava import save_llava

from blindpairs.benchmark import Benchmark
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.asking import OURS, Asking
from blindpairs.evaluate.pictures import upright_picture
from blindpairs.evaluate.scores import questions_of
from blindpairs.evaluate.session import Asked, Session
from blindpairs.images.decode import decode
from blindpairs.vlm import open_cache, open_model

BATCH = 8  # that of LocalModel


def conversations(benchmark: Benchmark, asking: Asking) -> list[list[dict[str, Any]]]:
    """One for each question, with its decoded image."""
    sides = {
        (pair.pair_id, side): key for pair in benchmark.pairs for side, key in zip("ab", pair.image_ids, strict=True)
    }
    data = dict(benchmark.images(list(sides.values())))
    found = []
    for key, question in questions_of(benchmark).items():
        encoded = data[sides[key[:2]]]
        assert isinstance(encoded, bytes)
        picture = Image.fromarray(decode(upright_picture(encoded).data).pixels)
        parts = [{"type": "image", "image": picture}, {"type": "text", "text": asking.text(question)}]
        found.append([{"role": "user", "content": parts}])
    return found


class Bare:
    """The loop that anybody would write, over the model and the processor that are asked."""

    def __init__(self, loaded: Any, asked: list[list[dict[str, Any]]], tokens: int) -> None:
        self._loaded, self._tokens = loaded, tokens
        self._batches = [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]

    def inputs(self, batch: list[list[dict[str, Any]]]) -> Any:
        """What `generate` takes."""
        return self._loaded.processor.apply_chat_template(
            batch,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self._loaded.device, dtype=self._loaded.dtype)

    @torch.inference_mode()
    def generate(self, inputs: Any) -> list[str]:
        """Greedy, as long as asked."""
        size = {"max_new_tokens": self._tokens, "max_length": None, "do_sample": False}
        output = self._loaded.model.generate(**inputs, **size)
        return list(self._loaded.processor.batch_decode(output[:, inputs["input_ids"].shape[1] :]))

    def loop(self) -> None:
        """The processor and `generate`."""
        for batch in self._batches:
            self.generate(self.inputs(batch))

    def alone(self) -> "Took":
        """What `generate` alone takes."""
        took = Took(0.0, 0.0)
        for batch in self._batches:
            took += timed(partial(self.generate, self.inputs(batch)))
        return took


@dataclass(frozen=True)
class Took:
    """Seconds on the wall, and of the processor in all threads."""

    wall: float
    processor: float

    def __add__(self, other: "Took") -> "Took":
        return Took(self.wall + other.wall, self.processor + other.processor)

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.processor:.2f})"


def timed(run: Callable[[], object]) -> Took:
    """How long something takes, with everything on a GPU done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Took(time.perf_counter() - wall, time.process_time() - processor)


def main() -> None:
    """Print a line a round, and the medians of both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asking = replace(OURS, max_tokens=options.tokens)
    benchmark = benchmark_of(options.pairs, second=None)
    with tempfile.TemporaryDirectory() as folder:
        model: Any = open_model(f"hf:{save_llava(Path(folder) / 'llava', width=256, layers=4)}", work=Path(folder))
        loaded = model._loaded
        loaded.model.generation_config.eos_token_id = None  # so that all answers are of one length
        bare = Bare(loaded, conversations(benchmark, asking), options.tokens)

        def ask(round_: int) -> None:
            with open_cache(Path(folder) / f"replies-{round_}.sqlite") as cache:
                session = Session(Path(folder) / f"results-{round_}", benchmark, Conditions(cache), lambda _: model)
                report = session.answer(Asked("hf:llava", asking)).report
                assert report is not None
                assert report.answered == 2 * options.pairs

        say(f"{2 * options.pairs} questions, {options.tokens} tokens each, batches of {BATCH} on {loaded.device}")
        bare.loop()  # warms everything up
        rounds = []
        for number in range(options.rounds):
            rounds.append((timed(partial(ask, number)), bare.alone(), timed(bare.loop)))
            say("  asked {}; generate alone {}; processor and generate {}".format(*rounds[-1]))
    for name in ("wall", "processor"):
        asked, alone, loop = (min(getattr(took, name) for took in column) for column in zip(*rounds, strict=True))
        say(f"asking has {alone / asked:.0%} of the speed of generate alone, {loop / asked:.0%} of the loop's ({name})")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
