"""The folders of recorded answers: one for each model that was asked in one way about one benchmark.

    results/<benchmark>-<fingerprint>/<model>-<hash>/
        asked.json       how: the model with its settings, the protocol, the order of the options
        answers.jsonl    what was said; shards of one run have their own, in shard-I-of-N/
        unanswered.json  what got no answer when it was last asked, and why
        scores.json      derived from the answers, and derived again at will

The hash is over everything that decides what a model says, so that answers to different ways of asking never mix; the
benchmark's fingerprint is over everything that can change a score. Promise: the answers of a folder are the same set
whichever shards, in whatever order, recorded them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from blindpairs.access import present
from blindpairs.benchmark import Benchmark
from blindpairs.errors import InputError
from blindpairs.evaluate.answers import Answer, AnswerFile, deduplicated, read_answers
from blindpairs.evaluate.asking import Asking, exchanged
from blindpairs.evaluate.scores import Key
from blindpairs.vlm import Failure
from blindpairs.workspace import digest, read_json, stamp, write_json

ASKED, ANSWERS, UNANSWERED, SCORES = "asked.json", "answers.jsonl", "unanswered.json", "scores.json"
Shard = tuple[int, int]  # index from 0, and count
WHOLE: Shard = (0, 1)
LONGEST_NAME = 60  # characters of a readable folder name


class Identified(Protocol):
    """What answers are about: a benchmark or a suite."""

    @property
    def name(self) -> str:
        """For people and folders."""

    @property
    def fingerprint(self) -> str:
        """Another one means other questions."""


@dataclass(frozen=True)
class Setup:
    """Who was asked, and how: everything that decides what is said about a benchmark."""

    model: str  # its name for people
    settings: Mapping[str, Any]  # of the model: everything besides the question that decides its answer
    asking: Asking
    exchanged: bool = False  # whether the options were shown in the other order
    images: bool = True  # whether the image was shown

    @property
    def folder_name(self) -> str:
        """A readable name, with a hash of all of this."""
        ways = [self.asking.name, *(["exchanged"] if self.exchanged else [])]
        asked = [dict(self.settings), self.asking.name, self.asking.hash, self.exchanged, self.images]
        return f"{readable(short_name(self.model))}-{readable('-'.join(ways))}-{digest(asked)[:8]}"

    @property
    def title(self) -> str:
        """What a table calls it."""
        return short_name(self.model) + (", exchanged" if self.exchanged else "")

    def answer_settings(self) -> dict[str, Any]:
        """What each answer records beside its protocol's name."""
        how = {"protocol_hash": self.asking.hash, "temperature": self.asking.temperature}
        how |= {"max_tokens": self.asking.max_tokens, "exchanged": self.exchanged, "images": self.images}
        return {**self.settings, **how}


def short_name(model: str) -> str:
    """`org/llava@host:8000` and `hf:/models/llava` -> `llava`; a `blind:` before it stays, and `human:NAME` whole."""
    before = "blind:" if model.startswith("blind:") else ""
    model = model.removeprefix(before)
    kind, _, target = model.partition(":")
    if kind == "human":  # people are no models, and the table says so
        return before + model
    if kind not in ("hf", "run"):  # an endpoint's model, with the host that runs it
        target = model.rpartition("@")[0] or model
    return before + (target.rstrip("/").rpartition("/")[2] or model)


def readable(text: str) -> str:
    """A name fit for a folder: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:LONGEST_NAME] or "unnamed"


def benchmark_folder(results: Path, benchmark: Identified) -> Path:
    """Where everything about a benchmark is; another revision of it has another folder."""
    return results / f"{readable(benchmark.name)}-{benchmark.fingerprint[:8]}"


def write_setup(folder: Path, setup: Setup, benchmark: Identified) -> None:
    """Say how the answers of a folder were asked. What is written once is never changed."""
    if present(folder / ASKED):
        return
    about = {"name": benchmark.name, "fingerprint": benchmark.fingerprint}
    write_json(folder / ASKED, {**stamp(), "benchmark": about, **asdict(setup)})


def check_revision(folder: Path, benchmark: Identified) -> None:
    """InputError for a folder whose answers are to other questions than those of `benchmark`, as they are shown."""
    if not present(folder / ASKED):
        return
    about = read_json(folder / ASKED).get("benchmark")
    if isinstance(about, dict) and about.get("fingerprint") not in (None, benchmark.fingerprint):
        raise _other_revision(folder, about["fingerprint"], benchmark)


def _other_revision(folder: Path, about: str, benchmark: Identified) -> InputError:
    return InputError(
        f"{folder} holds answers to another revision ({about}, now {benchmark.fingerprint}): "
        "move it away, and ask again"
    )


def read_setup(folder: Path, benchmark: Benchmark | None = None) -> Setup:
    """How the answers of a folder were asked; InputError where that is damaged, or was not about `benchmark`."""
    record = read_json(folder / ASKED)
    try:
        about = record["benchmark"]["fingerprint"]
        shown = exchanged(benchmark) if benchmark and record["exchanged"] else benchmark
        if shown and about != shown.fingerprint:
            raise _other_revision(folder, about, shown)
        asking = Asking(**record["asking"])
        return Setup(record["model"], record["settings"], asking, record["exchanged"], record["images"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / ASKED} is damaged ({error}): remove it and ask again") from error


def record_imported(folder: Path, setup: Setup, benchmark: Identified, answers: Iterable[Answer]) -> int:
    """Record answers that somebody else asked for; those that are there already stay. Returns how many are new."""
    check_revision(folder, benchmark)
    with AnswerFile(folder / ANSWERS) as file:
        write_setup(folder, setup, benchmark)
        new = [answer for answer in answers if answer.key not in file.keys]
        file.append(new)
    return len(new)


def answer_folders(folder: Path) -> list[Path]:
    """The folders of answers about one benchmark, by name."""
    return sorted(path.parent for path in folder.glob(f"*/{ASKED}"))


def recorded_answers(folder: Path) -> list[Answer]:
    """All answers of a folder with those of its shards, each key once.

    Raises InputError for a damaged line, and where two shards have different answers to one question.
    """
    files = answer_files(folder)
    if len(files) == 1:
        return list(read_answers(files[0]))
    every = (answer for file in files for answer in read_answers(file))
    return list(deduplicated(enumerate(every, 1), f"the files of answers in {folder}, in turn"))


def check_origin(folder: Path, setup: Setup, answers: Iterable[Answer]) -> None:
    """InputError for an answer in a folder whose own record says that somebody else gave it, or was asked otherwise.

    What only one of the two records says nothing: imported answers know little of how they were asked.
    """
    expected = setup.answer_settings()
    for answer in answers:
        recorded = answer.settings
        differing = [name for name in recorded if name in expected and recorded[name] != expected[name]]
        # A tuple in a model's settings is a list in its record, so equal values may differ by type.
        differing = [name for name in differing if digest(recorded[name]) != digest(expected[name])]
        if differing or (answer.protocol and answer.protocol != setup.asking.name):
            pair_id, side, _ = answer.key
            raise InputError(
                f"{folder} has an answer about image {side} of pair {pair_id} by {answer.model!r} that was given under "
                f"another {differing[0] if differing else 'protocol'}: move the answers of each to a folder of its own"
            )


def answer_files(folder: Path) -> list[Path]:
    """The file of a whole run, whether it is there or not, and those of shards."""
    return [folder / ANSWERS, *sorted(folder.glob(f"shard-*/{ANSWERS}"))]


def shard_folder(folder: Path, shard: Shard) -> Path:
    """Where a shard (index, count) records; a run that is not one of several, in the folder itself."""
    index, count = shard
    return folder if count == 1 else folder / f"shard-{index}-of-{count}"


def write_failures(folder: Path, failures: Mapping[Key, Failure]) -> None:
    """Record what got no answer now, in place of what got none before."""
    rows = [{"key": key, "code": one.code, "message": one.message} for key, one in failures.items()]
    write_json(folder / UNANSWERED, {**stamp(), "questions": rows})


def read_failures(folder: Path) -> dict[Key, Failure]:
    """What got no answer when it was last asked, of all shards together; it may have one by now."""
    found: dict[Key, Failure] = {}
    for file in [folder / UNANSWERED, *sorted(folder.glob(f"shard-*/{UNANSWERED}"))]:
        try:
            for row in read_json(file)["questions"] if present(file) else ():
                pair_id, side, which = row["key"]
                found[pair_id, side, which] = Failure(" ".join(row["key"]), row["code"], row["message"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file} is damaged ({error}): remove it, no answer is lost with it") from error
    return found


def write_scores(folder: Path, fields: Mapping[str, Any], ground_truth: str = "") -> Path:
    """Write scores beside their answers; those by a ground truth other than the benchmark's own have its name."""
    path = folder / (f"scores-{readable(ground_truth)}.json" if ground_truth else SCORES)
    write_json(path, {**stamp(), **fields})
    return path
