"""Who can be compared on a benchmark: models that were asked, and CLIP-style models, each with the pairs it solves.

    recorded:FOLDER                 answers, or similarities, in a folder of the results
    human:NAME                      the answers of a person in `blindpairs study`
    open_clip:..., hf:..., demo:clip, or the folder of a checkpoint      a CLIP-style model, which is evaluated now

A model that was asked solves a pair if it is right about both images; a CLIP-style model, if each statement finds its
image. Promises: only blind pairs count, unless there are none; answers to exchanged options are mapped back, so that
they count like any others; a pair that one of several models lacks is an error that names it.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blindpairs.access import present
from blindpairs.benchmark import Benchmark, BenchmarkPair
from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import FREE_FORM, exchanged
from blindpairs.evaluate.baselines import UNASKED
from blindpairs.evaluate.comparison import Run
from blindpairs.evaluate.overview import titled_setup
from blindpairs.evaluate.results import (
    ASKED,
    Setup,
    answer_folders,
    benchmark_folder,
    check_origin,
    read_setup,
    readable,
    recorded_answers,
)
from blindpairs.evaluate.scores import by_pattern, keys_of, outcomes, score
from blindpairs.evaluate.similarity import OFFICIAL_TEMPLATE, SimilarityScores, evaluate_similarity, read_scores
from blindpairs.evaluate.similarity_files import SIMILARITIES
from blindpairs.evaluate.study import HUMAN, recorded_human
from blindpairs.evaluate.summary import options_of
from blindpairs.progress import Progress
from blindpairs.statistics import Rate
from blindpairs.workspace import digest

CHECKPOINTS = {"open_clip_config.json": "open_clip:local-dir:", "config.json": "hf:"}  # file of a folder -> its spec
LIBRARIES = ("open_clip", "hf", "demo", "timm")
Kind = Literal["asked", "similarity"]


@dataclass(frozen=True)
class Contender:
    """One model on one benchmark. `outcomes` and `setup` are of a model that was asked."""

    name: str
    folder: Path  # of its results
    kind: Kind
    spec: str  # of the model
    accuracy: Rate  # solved pairs
    confusion: Rate  # the same answer for both images, or both statements to the same image
    patterns: Mapping[str, Rate]  # solved pairs by pattern
    right: Mapping[str, bool]  # pair id -> solved
    outcomes: Run = ()
    setup: Setup | None = None
    weights_hash: str = ""  # of the image tower of a CLIP-style model
    wording: str = ""  # the first template of a CLIP-style model

    @property
    def way(self) -> tuple[object, ...]:
        """How the model was asked or measured: runs of one side differ in nothing of it."""
        if self.setup is None:
            return self.kind, self.wording
        return self.kind, self.setup.asking, self.setup.exchanged, self.setup.images

    @property
    def sees(self) -> bool:
        """Whether it was asked and saw the images: no baseline does, and no model that was asked blind."""
        return self.setup is not None and self.setup.images

    @property
    def asked_blind(self) -> bool:
        """Whether it is a model that was asked without the images; baselines are no models."""
        return self.setup is not None and not self.setup.images and self.setup.asking != UNASKED


class Contenders:
    """Those of one benchmark; `truth` is the same benchmark with the ground truth that counts."""

    def __init__(self, results: Path, benchmark: Benchmark, truth: Benchmark) -> None:
        self._results, self._benchmark, self._truth = results, benchmark, truth
        self._folders = list(dict.fromkeys(benchmark_folder(results, one) for one in (benchmark, truth)))

    def find(self, text: str, bar: Callable[[str, str], Progress]) -> Contender:
        """Who a text names. ConfigError or InputError for nobody, and for answers that are incomplete."""
        if text.startswith(HUMAN):
            return self._asked(recorded_human(self._folders[0], text, self._benchmark))
        named = text.removeprefix("recorded:")
        folders = [*(folder / named for folder in self._folders), Path(named)]  # a path, as a shell completes it
        folder = next((one for one in folders if _holds_results(one)), None)
        if folder is None and text.startswith("recorded:"):
            there = ", ".join(one.name for one in self._results_there()) or "nothing is recorded there"
            raise InputError(f"{text}: no such folder in {self._folders[0]} ({there})")
        if folder is None:
            spec = _spec(text)
            folder = similarity_folder(self._results, self._truth, spec)
            return self._similar(evaluate_similarity(self._truth, spec, folder, progress=bar(spec, "images")), folder)
        if present(folder / SIMILARITIES):
            return self._similar(read_scores(self._truth, folder), folder)
        return self._asked(folder)

    def asked(self) -> list[Contender]:
        """All who were asked and whose answers are complete, in the order of their folders."""
        wanted = {key for pair in self._pairs() for key in keys_of(pair)}
        folders = [one for one in answer_folders(self._folders[0]) if wanted <= {said.key for said in _answers(one)}]
        return [self._asked(folder) for folder in folders] if wanted else []

    def similar(self) -> list[Contender]:
        """All CLIP-style models whose similarities are there."""
        there = [folder for folder in self._results_there() if present(folder / SIMILARITIES)]
        return [self._similar(read_scores(self._truth, folder), folder) for folder in there]

    def rights(self, contenders: Sequence[Contender]) -> tuple[list[BenchmarkPair], NDArray[np.bool_]]:
        """The pairs that these models have, and which each solves (R, P). InputError where one lacks some."""
        pairs = [pair for pair in self._truth.pairs if any(pair.pair_id in one.right for one in contenders)]
        for one in contenders:
            if missing := [pair.pair_id for pair in pairs if pair.pair_id not in one.right]:
                raise InputError(
                    f"{one.name} lacks {len(missing):,} of {len(pairs):,} pairs, such as {', '.join(missing[:3])}: "
                    "compare models on a benchmark whose pairs all have what both are given"
                )
        return pairs, np.array([[one.right[pair.pair_id] for pair in pairs] for one in contenders], np.bool_)

    def _pairs(self) -> list[BenchmarkPair]:
        pairs = [pair for pair in self._truth.pairs if pair.question]
        return [pair for pair in pairs if not pair.is_control] or pairs

    def _asked(self, folder: Path) -> Contender:
        # Filed under the benchmark as it was asked, scored by the ground truth that counts.
        setup = read_setup(folder, self._benchmark)
        answers = _answers(folder)
        if setup.asking.name != FREE_FORM.name:
            check_origin(folder, setup, answers)
        options = options_of(exchanged(self._truth) if setup.exchanged else self._truth, answers)
        if setup.exchanged:  # back to the order of the benchmark, in which 0 is the same option for all
            options = {key: None if one is None else 1 - one for key, one in options.items()}
        try:
            run = outcomes(self._pairs(), options)
        except InputError as error:
            raise InputError(f"{folder.name}: {error}: {_next_step(setup, folder)}") from error
        scores = score(run)
        patterns = {name: one.pair_accuracy for name, one in by_pattern(self._truth, run).items()}
        right = {one.pair.pair_id: one.pair_right for one in run}
        return Contender(
            name=titled_setup(setup),
            folder=folder.resolve(),
            kind="asked",
            spec=setup.model,
            accuracy=scores.pair_accuracy,
            confusion=scores.confusion,
            patterns=patterns,
            right=right,
            outcomes=run,
            setup=setup,
        )

    def _similar(self, scores: SimilarityScores, folder: Path) -> Contender:
        settings, overall = scores.similarities.settings, scores.overall
        patterns = {name: one.image for name, one in scores.patterns.items()}
        blind = [pair.pair_id for pair in self._truth.pairs if not pair.is_control and pair.pair_id in scores.right]
        spec, weights = str(settings["model"]), str(settings["images"]["weights_hash"])
        right = {pair_id: scores.right[pair_id] for pair_id in blind}
        template = scores.similarities.templates[0]
        name = _short(spec) + ("" if template == OFFICIAL_TEMPLATE else f" ({template!r})")
        return Contender(
            name=name,
            folder=folder.resolve(),
            kind="similarity",
            spec=spec,
            accuracy=overall.image,
            confusion=overall.confusion,
            patterns=patterns,
            right=right,
            weights_hash=weights,
            wording=template,
        )

    def _results_there(self) -> list[Path]:
        names = {path for folder in self._folders for path in folder.glob("*") if _holds_results(path)}
        return sorted(names)


def similarity_folder(
    results: Path, benchmark: Benchmark, spec: str, templates: Sequence[str] = (OFFICIAL_TEMPLATE,)
) -> Path:
    """Where the similarities of a model are kept: a readable name, with a hash of model and wordings."""
    name = f"{readable(spec)}-similarity-{digest([spec, list(templates)])[:8]}"
    return benchmark_folder(results, benchmark) / name


def _short(spec: str) -> str:
    """The last folder of a path, which tells checkpoints apart; any other spec as it is."""
    target = spec.partition(":")[2].removeprefix("local-dir:")
    return Path(target).name if Path(target).is_dir() else spec


def _spec(text: str) -> str:
    """The spec of a CLIP-style model that is named by spec or by folder."""
    for name, form in CHECKPOINTS.items():
        if (Path(text) / name).is_file():
            return f"{form}{Path(text)}"
    if text.partition(":")[0] in LIBRARIES:
        return text
    raise ConfigError(
        f"{text!r} is nobody to compare: name recorded:FOLDER of the results, human:NAME, a CLIP-style model "
        "(open_clip:..., hf:..., demo:clip), or the folder of its checkpoint; a model that answers is asked first, "
        "with --model"
    )


def _next_step(setup: Setup, folder: Path) -> str:
    """What to do about answers that are incomplete: who asks for the rest, and what scores those that are there."""
    if setup.model.startswith(HUMAN):
        name, spec = setup.model.removeprefix(HUMAN), setup.model
        asks = f"`blindpairs study --participant {shlex.quote(name)}` goes on"
    else:
        asks, spec = "the command that asked, run again, asks for them", f"recorded:{folder.name}"
    return f"{asks}; `blindpairs eval --model {shlex.quote(spec)} --complete-pairs` scores the pairs that are whole"


def _answers(folder: Path) -> list[Answer]:
    """The answers of a folder; where no options were shown, the verdicts of the judge."""
    if read_setup(folder).asking.name != FREE_FORM.name:
        return recorded_answers(folder)
    return [answer for place in answer_folders(folder)[:1] for answer in recorded_answers(place)]


def _holds_results(folder: Path) -> bool:
    return present(folder / ASKED) or present(folder / SIMILARITIES)
