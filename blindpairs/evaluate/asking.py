"""How a question of a benchmark is put to a model: the words, where the image stands, and how the answer is decoded.

The words alone move MMVP scores by ten points, so each protocol has a name and a hash of its words and decoding, which
stand beside every number. `ours` asks for a letter, because a letter in brackets is read with certainty, while options
can be long, be part of each other, or be said in other words; and it leaves room to reason before the answer.

The others are those of published numbers, to the byte; all put the image first. Sources: tsb0601/MMVP,
scripts/evaluate_mllm.py (`official`); EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/mmvp; open-compass/VLMEvalKit,
vlmeval/dataset/image_mcq.py (it leaves decoding to each model: here it is greedy); cambrian-mllm/cambrian,
eval/eval/mmvp/mmvp_eval.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from blindpairs.benchmark import Benchmark, BenchmarkPair, Question
from blindpairs.errors import ConfigError
from blindpairs.vlm import Ask, Part, Picture
from blindpairs.workspace import digest


@dataclass(frozen=True)
class Asking:
    """A way to ask. `template` has the fields question, first and second, which are the options."""

    name: str
    template: str = ""  # "" where it is not known, as of imported answers
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def hash(self) -> str:
        """The sha256 of the words and the decoding."""
        return digest([self.template, self.temperature, self.max_tokens])

    @property
    def identity(self) -> str:
        """The name with the beginning of the hash, for people."""
        return f"{self.name} ({self.hash[:8]})" if self.template else self.name

    def text(self, question: Question) -> str:
        """The words about one question."""
        first, second = question.options
        return self.template.format(question=question.text, first=first, second=second)

    def parts(self, question: Question, picture: Picture | None) -> tuple[Part, ...]:
        """What the model sees, in order; without a picture, the words alone."""
        text = self.text(question)
        return (text,) if picture is None else (picture, text)

    def ask(self, key: str, question: Question, picture: Picture | None) -> Ask:
        """One request."""
        assert self.temperature is not None  # of every way in which we ask
        assert self.max_tokens is not None
        parts = self.parts(question, picture)
        return Ask(key, parts, max_tokens=self.max_tokens, temperature=self.temperature)


_DIRECTLY = "Answer with the option's letter from the given choices directly."
OURS = Asking(
    "ours",
    "{question}\n(a) {first}\n(b) {second}\nAnswer with the letter of the right option only.",
    temperature=0.0,
    max_tokens=512,
)
OFFICIAL = Asking("official", "{question} (a) {first} (b) {second}", temperature=0.2, max_tokens=1024)
LMMS_EVAL = Asking("lmms-eval", "{question}\nA. {first}\nB. {second}\n" + _DIRECTLY, temperature=0.0, max_tokens=16)
VLMEVALKIT = Asking(
    "vlmevalkit",
    "Question: {question}\nOptions:\nA. {first}\nB. {second}\n"
    "Please select the correct answer from the options above. \n",
    temperature=0.0,
    max_tokens=512,
)
CAMBRIAN = Asking(
    "cambrian", "{question} Options:\nA. {first}\nB. {second}\n" + _DIRECTLY, temperature=0.0, max_tokens=512
)
# Without options nothing can be guessed, and nothing can be read without a judge.
FREE_FORM = Asking("free-form", "{question}\nAnswer in a few words.", temperature=0.0, max_tokens=512)
PROTOCOLS: Mapping[str, Asking] = {one.name: one for one in (OURS, OFFICIAL, LMMS_EVAL, VLMEVALKIT, CAMBRIAN)}


def protocol(name: str) -> Asking:
    """The protocol of a name; ConfigError lists the names."""
    if name not in PROTOCOLS:
        raise ConfigError(f"there is no way to ask {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def exchanged(benchmark: Benchmark) -> Benchmark:
    """The same questions with their two options in the other order, under the same keys.

    A model that chooses by place changes its answer, one that looks does not. The ground truth is that of `benchmark`
    and no other.
    """
    return replace(benchmark, pairs=tuple(_exchanged_pair(pair) for pair in benchmark.pairs), corrections={})


def _exchanged_pair(pair: BenchmarkPair) -> BenchmarkPair:
    first, second = (
        None if one is None else Question(one.text, one.options[::-1], (1 - one.answers[0], 1 - one.answers[1]))
        for one in (pair.question, pair.second)
    )
    return replace(pair, question=first, second=second)
