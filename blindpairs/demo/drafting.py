"""The drafter that knows the truth: the questions, answers and statements of the demo's pairs, from their scenes.

It stands in for a vision-language model where none is at hand. A share of its drafts can be wrong on purpose, to show
what people have to find. Promises: a draft depends on the pair, for a control also on its blind pair, and on the
options of the drafter; what was drafted before, and in which run, changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from blindpairs.author.drafts import Draft, MinedPair, NotDrafted
from blindpairs.benchmark import Question
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import ATTRIBUTES, NEUTRAL, PATTERNS, Scene, nouns
from blindpairs.errors import ConfigError
from blindpairs.workspace import demo_folder, digest

# Of several attributes that differ, the question is about the first of these. Those that mining finds alone least often
# come first, so that they get their share of the questions from the pairs in which several things differ.
ASKED_FIRST = ("facing", "count", "zoom", "lamp", "colour", "ball", "hat", "stripes", "letter")


class DemoDrafter:
    """Drafts pairs of the scenes in `truth` (by image id). `wrong` is the share of drafts that are wrong on purpose.

    A wrong draft has exchanged answers, exchanged statements, or asks about something that does not differ. `seed` and
    the pair's id decide which drafts are wrong, and how. `pairs` are those among which a control's blind pair is
    looked up.
    """

    def __init__(
        self, truth: Mapping[str, Scene], wrong: float = 0.0, seed: int = 0, pairs: Iterable[MinedPair] = ()
    ) -> None:
        self.name = f"demo?wrong={wrong:g}&seed={seed}" if wrong else "demo"
        self._truth, self._wrong, self._seed = truth, wrong, seed
        self._blind = {pair.pair_id: pair for pair in pairs if pair.control_of is None}

    def knows(self, pair: MinedPair) -> bool:
        """Whether both images show scenes of which the truth is known."""
        return {pair.image_id_a, pair.image_id_b} <= self._truth.keys()

    def draft(self, pairs: Iterable[MinedPair], *, second: bool) -> Iterator[tuple[str, Draft | NotDrafted]]:
        """See `Drafter.draft`. A control is asked about the attribute of its blind pair, if that differs too."""
        for pair in pairs:
            yield pair.pair_id, self._draft(pair, second)

    def _draft(self, pair: MinedPair, second: bool) -> Draft | NotDrafted:
        scenes = self._scenes(pair)
        if scenes is None:
            return NotDrafted(
                "unknown_image",
                f"pair {pair.pair_id} has an image of your own: the demo's ground truth knows only the demo's images: "
                "use --model hf:... or openai:...",
            )
        differing = hidden_differences(*scenes)
        if not differing:
            return NotDrafted("no_difference", f"pair {pair.pair_id} shows two scenes in which nothing to ask differs")
        matched = self._asked_first(pair.control_of)
        attribute = matched if matched in differing else differing[0]
        if chance("is wrong", pair.pair_id, self._seed) < self._wrong:
            return self._wrong_draft(pair.pair_id, scenes, attribute, second)
        return drafted(pair.pair_id, scenes, attribute, second=second)

    def _scenes(self, pair: MinedPair) -> tuple[Scene, Scene] | None:
        one, other = (self._truth.get(key) for key in (pair.image_id_a, pair.image_id_b))
        return None if one is None or other is None else (one, other)

    def _asked_first(self, blind_id: str | None) -> str | None:
        """The attribute that a blind pair is asked about; None where the pair is not known."""
        blind = self._blind.get(blind_id or "")
        scenes = self._scenes(blind) if blind else None
        return next(iter(hidden_differences(*scenes)), None) if scenes else None

    def _wrong_draft(self, pair_id: str, scenes: tuple[Scene, Scene], attribute: str, second: bool) -> Draft:
        one, other = scenes
        kind = int(3 * chance("how it is wrong", pair_id, self._seed))
        equal = [name for name in ATTRIBUTES if getattr(one, name) == getattr(other, name)]
        if kind == 2 and equal:
            name = equal[int(len(equal) * chance("what is asked wrongly", pair_id, self._seed))]
            value = next(value for value in PATTERNS[name].answers if value != getattr(one, name))
            return drafted(pair_id, (one, replace(other, **{name: value})), name, second=second)
        right = drafted(pair_id, scenes, attribute, second=second)
        if kind == 1:
            return replace(right, statement_a=right.statement_b, statement_b=right.statement_a)
        return replace(right, question=_exchanged(right.question), second=_exchanged(right.second))


def hidden_differences(one: Scene, other: Scene) -> tuple[str, ...]:
    """The hidden attributes in which two scenes differ, in the order of ASKED_FIRST."""
    return tuple(name for name in ASKED_FIRST if getattr(one, name) != getattr(other, name))


def chance(what: str, pair_id: str, seed: int = 0) -> float:
    """A number from 0 to below 1 that looks random and is the same each time."""
    return int(digest([what, pair_id, seed])[:13], 16) / 16**13


def drafted(pair_id: str, scenes: tuple[Scene, Scene], attribute: str, *, second: bool) -> Draft:
    """The right draft about an attribute in which two scenes differ; the pair's id decides the order of the options.

    Scenes of different categories are both called a figure: nothing but the attribute may tell them apart.
    """
    pattern = PATTERNS[attribute]
    values = tuple(getattr(scene, attribute) for scene in scenes)
    one, other = scenes
    words = nouns(one.category if one.category == other.category else NEUTRAL)
    order = [value for value in pattern.answers if value in values]
    if chance("order of the options", pair_id) < 0.5:
        order.reverse()
    asked = _question(pattern.question.format(**words), pattern.answers, order, values)
    # Its options stand the other way round, so that its right answers are exchanged.
    again = _question(pattern.second_question.format(**words), pattern.second_answers, order[::-1], values)
    statements = [pattern.statements[value].format(**words) for value in values]
    return Draft(asked, again if second else None, (pattern.name.value,), *statements)


def _question(text: str, answers: Mapping[str, str], order: list[str], values: tuple[str, ...]) -> Question:
    """The question with the answers to the values in `order` as its options; `values` are those of images a and b."""
    first, other = order
    a, b = values
    return Question(text, (answers[first], answers[other]), (order.index(a), order.index(b)))


def _exchanged(question: Question | None) -> Question | None:
    return replace(question, answers=question.answers[::-1]) if question else None


def demo_drafter(spec: str, pairs: Iterable[MinedPair] = ()) -> DemoDrafter:
    """The drafter of `demo`, or `demo?wrong=SHARE&seed=NUMBER`, for pairs of the corpus that ships.

    ConfigError for another spec.
    """
    library, _, text = spec.partition("?")
    if library != "demo":
        raise ConfigError(f"{spec!r} is not the demo's drafter: give demo, or demo?wrong=0.2&seed=1")
    options = {"wrong": "0", "seed": "0"}
    for part in text.split("&") if text else []:
        name, _, value = part.partition("=")
        if name not in options:
            raise ConfigError(f"{spec}: unknown option {name!r}; the options are wrong and seed")
        options[name] = value
    try:
        wrong = float(options["wrong"])
    except ValueError:
        wrong = -1.0
    if not 0 <= wrong <= 1:
        raise ConfigError(f"{spec}: wrong={options['wrong']} is not a share between 0 and 1, such as wrong=0.2")
    if not (options["seed"].isascii() and options["seed"].isdecimal()):
        raise ConfigError(f"{spec}: seed={options['seed']} is not a whole number, such as seed=1")
    return DemoDrafter(read_truth(demo_folder() / "scenes.parquet"), wrong, int(options["seed"]), pairs)
