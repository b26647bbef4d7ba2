"""What is asked about a scene of the demo, and the right answers: the words of the demo's instructions.

Everything that `eval` asks is asked here in the same words: choices between two options in the prompt of the benchmark,
yes or no as POPE asks, and the questions of the demo's LLaVA-Bench. The others ask for a form: one word, a caption,
capitals, JSON, a list. An answer depends on nothing but the scene, so a model can learn it, and it is right or wrong to
the letter.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blindpairs.benchmark import Question
from blindpairs.demo.small_suites import BENCH_QUESTIONS, described
from blindpairs.demo.world import ATTRIBUTES, BACKGROUNDS, CATEGORIES, NEUTRAL, PATTERNS, Scene, nouns
from blindpairs.evaluate.asking import PROTOCOLS
from blindpairs.evaluate.pope_files import SUFFIX

ASKING = PROTOCOLS["ours"]  # as `eval` asks unless told otherwise
BOTH = "Answer with the right option, then its letter."
MOVED = ("facing", "lamp", "ball")  # what an answer about the moment before is built on


@dataclass(frozen=True)
class Exchange:
    """A question and its right answer. `about` is a field of the scene, or the name of a form."""

    about: str
    question: str
    answer: str


@dataclass(frozen=True)
class Form:
    """A form that an answer must have. `pattern` is that of every answer of this form, right or wrong."""

    instruction: str
    answer: Callable[[Scene], str]
    pattern: str

    def kept_by(self, text: str) -> bool:
        """Whether an answer has the form, whatever it says."""
        return re.fullmatch(self.pattern, text.strip()) is not None


# All of them are about what captions name, so that they measure how well an instruction is followed, not what is seen.
FORMS: Mapping[str, Form] = {
    "sentence": Form(
        "Write a caption of one sentence.",
        lambda scene: f"A photo of {nouns(scene.category)['a_category']} at the {scene.background}.",
        r"[A-Z][^.\n]*\.",
    ),
    "capitals": Form("Name the figure in capital letters.", lambda scene: scene.category.upper(), r"[A-Z]+"),
    "json": Form(
        'Reply in JSON with the keys "figure" and "place".',
        lambda scene: json.dumps({"figure": scene.category, "place": scene.background}),
        r'\{"figure": "[^"]*", "place": "[^"]*"\}',
    ),
    "list": Form(
        "List the figure and the place, each on a line that starts with a dash.",
        lambda scene: f"- {scene.category}\n- {scene.background}",
        r"- [^\n]+\n- [^\n]+",
    ),
    "comma": Form(
        "Name the place and then the figure, with a comma between them.",
        lambda scene: f"{scene.background}, {scene.category}",
        r"[a-z]+, [a-z]+",
    ),
    "four": Form(
        "Caption the picture in exactly four words.",
        lambda scene: f"{scene.category} at the {scene.background}",
        r"[A-Za-z]+(?: [A-Za-z]+){3}",
    ),
}


def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


def choice(scene: Scene, attribute: str, rng: np.random.Generator) -> Exchange:
    """A question about a hidden attribute with two options, as the benchmark asks it; the answer is a letter.

    Either question of the pattern, the category or "figure", the other option and the order of both are drawn.
    """
    pattern = PATTERNS[attribute]
    asked = ((pattern.question, pattern.answers), (pattern.second_question, pattern.second_answers))
    text, answers = asked[int(rng.integers(2))]
    right = getattr(scene, attribute)
    values = [right, _pick([value for value in answers if value != right], rng)]
    if rng.random() < 0.5:
        values.reverse()
    options = (answers[values[0]], answers[values[1]])
    at = values.index(right)
    question = Question(text.format(**_words(scene, rng)), options, (at, 1 - at))
    return Exchange(attribute, ASKING.text(question), "ab"[at])


def option_and_letter(scene: Scene, attribute: str, rng: np.random.Generator) -> Exchange:
    """The question of `choice`, to be answered by the option, then its letter: `left, a`."""
    asked = choice(scene, attribute, rng)
    lines = asked.question.split("\n")
    options = {line[1]: line[4:] for line in lines[1:3]}
    return Exchange(attribute, "\n".join([*lines[:3], BOTH]), f"{options[asked.answer]}, {asked.answer}")


def short(scene: Scene, attribute: str, rng: np.random.Generator) -> Exchange:
    """A question about a hidden attribute without options, to be answered in a few words."""
    pattern = PATTERNS[attribute]
    asked = ((pattern.question, pattern.answers), (pattern.second_question, pattern.second_answers))
    text, answers = asked[int(rng.integers(2))]
    answer = answers[getattr(scene, attribute)]
    return Exchange(attribute, text.format(**_words(scene, rng)) + SUFFIX, answer)


def _words(scene: Scene, rng: np.random.Generator) -> Mapping[str, str]:
    """The category for half of the questions: the pairs of the benchmark that show two of them ask for a figure."""
    return nouns(scene.category if rng.random() < 0.5 else NEUTRAL)


def presence(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Whether a category is in the image, as POPE asks; half of the answers are yes."""
    there = bool(rng.random() < 0.5)
    others = [category for category in CATEGORIES if category != scene.category]
    words = nouns(scene.category if there else _pick(others, rng))
    return Exchange("presence", f"Is there {words['a_category']} in the image?{SUFFIX}", "Yes" if there else "No")


def naming(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Which category or background the image shows: in one word, or by a letter as the benchmark asks."""
    about, known = (("category", CATEGORIES), ("background", BACKGROUNDS))[int(rng.integers(2))]
    text = {"category": "What is in the picture?", "background": "Where is it?"}[about]
    right = getattr(scene, about)
    if rng.random() < 0.5:
        return Exchange(about, text + SUFFIX, right)
    options = [right, _pick([value for value in known if value != right], rng)]
    if rng.random() < 0.5:
        options.reverse()
    at = options.index(right)
    question = Question(text, (options[0], options[1]), (at, 1 - at))
    return Exchange(about, ASKING.text(question), "ab"[at])


def formed(scene: Scene, form: str) -> Exchange:
    """An instruction that asks for a form."""
    return Exchange(form, FORMS[form].instruction, FORMS[form].answer(scene))


def plain(scene: Scene, rng: np.random.Generator) -> Exchange:
    """Something that captions name: whether a category is there, what or where it is, or a form; a third of each."""
    kind = int(rng.integers(3))
    if kind == 2:
        return formed(scene, _pick([*FORMS], rng))
    return (presence, naming)[kind](scene, rng)


def telling(scene: Scene, kind: str) -> Exchange:
    """A question of the demo's LLaVA-Bench: `conv`, `detail` or `complex`."""
    return Exchange(kind, BENCH_QUESTIONS[kind], _told(scene, kind))


def _told(scene: Scene, kind: str) -> str:
    sentences = described(scene)
    if kind == "conv":
        return sentences[0]
    if kind == "detail":
        return " ".join(sentences)
    before = [sentences[1 + ATTRIBUTES.index(name)] for name in MOVED]
    return " ".join([sentences[0], "Something has just moved.", *before])
