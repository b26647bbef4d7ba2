"""Visual patterns: the paper's nine, a taxonomy of one's own, and one that a model finds in the questions.

The paper had GPT-4 read all questions and options and name general patterns (arXiv 2401.06209, section 2.2); the same
words are asked here of any model. A proposal is written to a file that a person reads, edits and gives back with
`--patterns`; it changes no benchmark by itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blindpairs.access import reading
from blindpairs.benchmark import Question
from blindpairs.errors import InputError
from blindpairs.mine.patterns import VisualPattern
from blindpairs.progress import Progress, silent
from blindpairs.vlm import Answerer, Ask, Budget, Cache, Failure, Plan, Reply, ask_all, plan
from blindpairs.workspace import stamp, write_json

Taxonomy = Mapping[str, str]  # name -> what it means, "" where the name says it
NINE: Taxonomy = {pattern.value: "" for pattern in VisualPattern}
# The paper's prompt, to which the questions were appended.
FIND = (
    "I am analyzing an image embedding model. Can you go through the questions and options, trying to figure out some "
    "general patterns that the embedding model struggles with? Please focus on the visual features and generalize "
    "patterns that are important to vision models"
)
ASSIGN = (
    "Here are patterns of visual differences, then numbered questions. For each number, name the one pattern that fits."
)
MOST_READ = 300  # questions from which patterns are found, as many as MMVP has: spread evenly where there are more
BATCH = 25  # questions that are assigned at once
MOST_PATTERNS = 20


@dataclass(frozen=True)
class Proposal:
    """What a model proposes: names with their meaning, and a name for each pair."""

    taxonomy: Taxonomy
    assignment: Mapping[str, str]  # pair id -> name
    unassigned: Mapping[str, str]  # pair id -> why
    model: str


def read_taxonomy(path: Path) -> Taxonomy:
    """A taxonomy from a file: a JSON list or object, what `blindpairs patterns` wrote, or one `Name: meaning` a line.

    InputError where a name is empty, stands twice or has characters that cannot be seen, and for any other content.
    """
    with reading(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: write one pattern a line") from error
    names = _of_json(text, path) if text.lstrip()[:1] in ("{", "[") else _of_lines(text)
    if not names:
        raise InputError(f"{path} names no pattern: write one a line, such as {next(iter(NINE))}")
    for name, _ in names:
        if not name or [one for one, _ in names].count(name) > 1:
            raise InputError(f"{path}: the pattern {name!r} " + ("stands there twice" if name else "has no name"))
        if not name.isprintable():  # it would be another text in a page, or look like another name
            raise InputError(f"{path}: the pattern {name!r} has a character that cannot be seen: remove it")
    return dict(names)


def write_proposal(path: Path, proposal: Proposal) -> None:
    """Write a proposal, for people to read and edit; `read_taxonomy` reads its taxonomy back."""
    fields = {"model": proposal.model, "taxonomy": dict(proposal.taxonomy), "assignment": dict(proposal.assignment)}
    write_json(path, {**stamp(), **fields, "unassigned": dict(proposal.unassigned)})


def read_assignment(path: Path) -> Mapping[str, str]:
    """The pattern of each pair in a file that `write_proposal` wrote and a person may have edited.

    InputError where it assigns none, or a name that is not in its taxonomy.
    """
    taxonomy = read_taxonomy(path)
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        value = None
    assignment = value.get("assignment") if isinstance(value, dict) else None
    if not isinstance(assignment, dict) or not assignment:
        raise InputError(f"{path} assigns no pair: `blindpairs patterns --model SPEC --patterns {path}` does")
    if unknown := next((key for key, name in assignment.items() if name not in taxonomy), None):
        raise InputError(f"{path} assigns {assignment[unknown]!r} to pair {unknown}, which is not in its taxonomy")
    return assignment


@dataclass(frozen=True)
class PatternFinder:
    """Asks a model about the patterns of questions, within a budget and through the cache."""

    answerer: Answerer
    cache: Cache
    budget: Budget = field(default_factory=Budget)
    progress: Progress = silent

    def plan(self, questions: Mapping[str, Question], taxonomy: Taxonomy | None = None) -> Plan:
        """What `propose` would cost."""
        asks = [] if taxonomy else [_find_ask(list(questions.values()))]
        return plan([*asks, *_assign_asks(questions, taxonomy or NINE)])

    def propose(self, questions: Mapping[str, Question], taxonomy: Taxonomy | None = None) -> Proposal:
        """Find patterns in questions by pair id, or take `taxonomy`, and assign each question to one.

        InputError where there are no questions, or the model names no pattern.
        """
        if not questions:
            raise InputError("there are no questions to find patterns in: run `blindpairs draft` first")
        found = taxonomy or self._found(list(questions.values()))
        assignment: dict[str, str] = {}
        failed: dict[str, str] = {}
        for outcome in self._ask(list(_assign_asks(questions, found))):
            ids = outcome.key.split()
            if isinstance(outcome, Failure):
                failed |= dict.fromkeys(ids, outcome.message)
            else:
                assignment |= _assigned(outcome, ids, found)
        missing = {key: failed.get(key, "the model named none") for key in questions if key not in assignment}
        ordered = {key: assignment[key] for key in questions if key in assignment}
        return Proposal(found, ordered, missing, self.answerer.name)

    def _found(self, questions: Sequence[Question]) -> Taxonomy:
        (outcome,) = self._ask([_find_ask(questions)])
        if isinstance(outcome, Failure):
            raise InputError(f"{self.answerer.name} found no patterns: {outcome.message}")
        patterns = json.loads(outcome.text)["patterns"][:MOST_PATTERNS]
        found = {_line(one["name"]): _line(one["description"]) for one in patterns}
        found.pop("", None)
        if not found:
            raise InputError(f"{self.answerer.name} named no pattern: choose another model, or write --patterns FILE")
        return found

    def _ask(self, asks: Sequence[Ask]) -> list[Reply | Failure]:
        return list(ask_all(self.answerer, asks, cache=self.cache, budget=self.budget, progress=self.progress))


def _find_ask(questions: Sequence[Question]) -> Ask:
    step = max(1, -(-len(questions) // MOST_READ))
    lines = "\n".join(_asked(one) for one in questions[::step])
    item: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "description": {"type": "string"}},
    }
    item |= {"required": ["name", "description"], "additionalProperties": False}
    return Ask("find", (f"{FIND}\n\n{lines}",), schema=_object("patterns", item), max_tokens=2000)


def _assign_asks(questions: Mapping[str, Question], taxonomy: Taxonomy) -> Iterator[Ask]:
    names = "\n".join(f"- {name}" + (f": {meaning}" if meaning else "") for name, meaning in taxonomy.items())
    item: dict[str, Any] = {
        "type": "object",
        "properties": {"number": {"type": "integer"}, "pattern": {"type": "string", "enum": list(taxonomy)}},
        "required": ["number", "pattern"],
        "additionalProperties": False,
    }
    items = list(questions.items())
    for start in range(0, len(items), BATCH):
        batch = items[start : start + BATCH]
        lines = "\n".join(f"{number}. {_asked(one)}" for number, (_, one) in enumerate(batch, 1))
        key = " ".join(pair_id for pair_id, _ in batch)
        text = f"{ASSIGN}\n\n{names}\n\n{lines}"
        yield Ask(key, (text,), schema=_object("assignments", item), max_tokens=40 * BATCH)


def _assigned(reply: Reply, ids: Sequence[str], taxonomy: Taxonomy) -> dict[str, str]:
    named = {one["number"]: one["pattern"] for one in json.loads(reply.text)["assignments"]}
    return {key: named[number] for number, key in enumerate(ids, 1) if named.get(number) in taxonomy}


def _object(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "array", "items": item}},
        "required": [name],
        "additionalProperties": False,
    }


def _asked(question: Question) -> str:
    return f"{_line(question.text)} ({_line(question.options[0])} / {_line(question.options[1])})"


def _line(text: object) -> str:
    return " ".join(str(text).split())


def _of_json(text: str, path: Path) -> list[tuple[str, str]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} begins like JSON and is not ({str(error)[:80]})") from error
    if isinstance(value, dict):
        value = value.get("taxonomy", value)
    items = (
        value.items() if isinstance(value, dict) else [(one, "") for one in value] if isinstance(value, list) else []
    )
    if not all(isinstance(name, str) and isinstance(meaning, str) for name, meaning in items):
        raise InputError(f"{path} is no list of names, and no object of names and meanings")
    return [(_line(name), _line(meaning)) for name, meaning in items]


def _of_lines(text: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    parts = [line.partition(":") for line in lines]
    return [(_line(name), _line(meaning)) for name, _, meaning in parts]
