"""What the pages show and keep, as JSON values: one person's view of a pair, and what that person does with it.

Nobody sees what others decided of a pair before the adjudication: independent answers are what agreement is about.
Every method that changes something returns when the change is on the disk.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

from blindpairs.author.clusters import cluster_names, name_cluster
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft, MinedPair
from blindpairs.author.edits import Edit, draft_of_form, open_edit, save_edit
from blindpairs.author.live_checks import live_checks
from blindpairs.author.queue import Queue, Rules, Wish
from blindpairs.author.revisions import Decision, Revision, last_words, shown_to
from blindpairs.author.taxonomy import NINE, Taxonomy
from blindpairs.errors import InputError
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.safety import visible_text

RENEWED_AFTER = 60.0  # seconds: how often a lease is held for longer while its holder writes
REASONS = (
    "nothing that can be asked differs",
    "too much differs",
    "one needs both images to answer",
    "people could disagree about the answer",
    "it cannot be seen clearly",
    "not fit to be shown",
)

Json = dict[str, Any]


class NoSuchPair(InputError):
    """There is no pair with an id that a page asked for."""

    def __init__(self, pair_id: str) -> None:
        super().__init__(f"there is no pair {visible_text(pair_id[:64])}: it may be one of another work folder")


@dataclass
class Desk:
    """The database as the pages use it; for one thread."""

    database: AuthoringDatabase
    rules: Rules = field(default_factory=Rules)
    taxonomy: Taxonomy = field(default_factory=lambda: NINE)
    map_of: Callable[[str], DifferenceMap | None] = lambda _: None
    proposals: Mapping[str, str] = field(default_factory=dict)  # pair id -> the pattern that a model proposes

    def __post_init__(self) -> None:
        self.queue = Queue(self.database, self.rules)
        self._renewed: dict[str, float] = {}

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def pair(self, person: str, pair_id: str) -> Json:
        """A pair as this person sees it; NoSuchPair where there is none."""
        pair = self._pair(pair_id)
        return self._view(person, pair, self.database.history(pair_id))

    def next_pair(self, person: str, wish: Wish, besides: Sequence[str] = ()) -> Json | None:
        """The next pair for this person that is none of `besides`; None where none is left."""
        given = self.queue.next_pairs(person, wish, count=1 + len(besides))
        pair_id = next((one for one in given if one not in besides), None)
        return None if pair_id is None else self.pair(person, pair_id)

    def save_edit(self, person: str, body: Mapping[str, Any]) -> Json:
        """Keep a form as it is now, and say what the benchmark's checks find in it."""
        edit = Edit(
            _text(body, "pair_id"),
            person,
            _object(body, "form"),
            number_of(body, "based_on"),
            _text(body, "client"),
            number_of(body, "number") or 0,
        )
        kept = save_edit(self.database, edit, number_of(body, "seen"))
        self._renew(person)
        return {"edit": kept.id, "findings": self.findings(edit.form)}

    def decide(self, person: str, body: Mapping[str, Any]) -> Json:
        """Keep a decision. Conflict where the person has not seen the latest of the pair."""
        accepted, pair_id = bool(body.get("accepted")), _text(body, "pair_id")
        self._pair(pair_id)
        draft, unanswered = draft_of_form(_object(body, "form"))
        if accepted and unanswered:
            names = " and the ".join({"second": "second question"}.get(name, name) for name in unanswered)
            raise InputError(f"choose the answers of both images to the {names}, then accept")
        decision = Decision(
            pair_id,
            person,
            accepted,
            draft,
            str(body.get("reason") or ""),
            number_of(body, "based_on"),
            seconds_of(body),
            bool(body.get("settles")),
        )
        return {"revision": self.database.decide(decision).id}

    def undo(self, person: str) -> Json | None:
        """Take this person's last decision back; the pair as it is then, or None where there is nothing to undo."""
        undone = self.database.undo(person)
        return None if undone is None else self.pair(person, undone.pair_id)

    def skip(self, person: str, pair_id: str) -> None:
        """Give a pair back; it comes again at the end."""
        self._pair(pair_id)
        self.queue.skip(person, pair_id)

    def progress(self, person: str) -> Json:
        """How far the work is."""
        found = self.queue.progress(person, tuple(self.taxonomy))
        return {"pairs": found.pairs, "decided": found.decided, "mine": found.mine, "patterns": found.patterns}

    def name_cluster(self, person: str, number: int, name: str) -> None:
        """Name a cluster of differences."""
        name_cluster(self.database, number, name, person)

    def findings(self, form: Mapping[str, Any]) -> list[Json]:
        """What the benchmark's checks say of a form, for the page."""
        found = live_checks(form, tuple(self.taxonomy))
        return [{**vars(one), "message": visible_text(one.message)} for one in found]

    def disputed(self) -> int:
        """How many pairs wait for an adjudication."""
        ((count,),) = self.database.read("SELECT count(*) FROM listed WHERE state = 'disputed'")
        return int(count)

    def cluster_choices(self) -> dict[int, str]:
        """Every cluster of the pairs, by number, with the name that people see."""
        rows = self.database.read("SELECT DISTINCT cluster FROM listed WHERE cluster IS NOT NULL ORDER BY 1")
        names = cluster_names(self.database)
        return {number: names[number][0] if number in names else f"cluster {number}" for (number,) in rows}

    def _pair(self, pair_id: str) -> MinedPair:
        pair = self.database.pair(pair_id)
        if pair is None:
            raise NoSuchPair(pair_id)
        return pair

    def _view(self, person: str, pair: MinedPair, history: Sequence[Revision]) -> Json:
        own = last_words(history).get(person)
        drafts = [one for one in history if one.kind == "draft"]
        shown = shown_to(history, person)
        edit = open_edit(self.database, pair.pair_id, person)
        form = edit.form if edit else (shown.draft if shown else Draft()).as_json()
        found = self.map_of(pair.pair_id)
        names = cluster_names(self.database)
        return {
            "pair_id": pair.pair_id,
            "a": _image(pair.image_id_a, pair.uri_a),
            "b": _image(pair.image_id_b, pair.uri_b),
            "clip_sim": pair.clip_sim,
            "dino_sim": pair.dino_sim,
            "cluster": pair.cluster,
            "cluster_name": names[pair.cluster][0] if pair.cluster in names else "",
            "control_of": pair.control_of,
            "map": {"a": found.box_a, "b": found.box_b} if found else None,
            "shown": _revision(shown) if shown else None,
            "own": {"kind": own.kind, "reason": own.reason} if own else None,
            "edit": {"id": edit.id, "form": edit.form} if edit else None,
            "drafts": [_revision(one) for one in drafts],
            "proposal": self.proposals.get(pair.pair_id),
            "findings": self.findings(form),
        }

    def _renew(self, person: str) -> None:
        now = time.monotonic()
        if now - self._renewed.get(person, -RENEWED_AFTER) >= RENEWED_AFTER:
            self._renewed[person] = now
            self.queue.renew(person)


def seconds_of(body: Mapping[str, Any]) -> float | None:
    """How long a person looked, as a page measured it; None where it did not. InputError for what no clock shows."""
    value = body.get("seconds")
    if value is None:
        return None
    with suppress(OverflowError):  # JSON has integers that no float holds
        if type(value) in (int, float) and 0 <= float(value) < inf:
            return float(value)
    raise InputError(f"{visible_text(str(value)[:20])} is no number of seconds: reload the page")


def number_of(body: Mapping[str, Any], name: str) -> int | None:
    """An integer of a request; None where there is none, InputError for what a database file does not hold."""
    value = body.get(name)
    if value is not None and not (type(value) is int and abs(value) < 1 << 62):
        raise InputError(f"the request has no number as {name}: reload the page")
    return value


def _image(key: str, uri: str) -> Json:
    # A file is named with its folder, a member of a container with the container: `cats/1.jpg`, `shard.tar#1.jpg`.
    folder, _, last = uri.rpartition("/")
    name = last if "#" in last else f"{folder.rpartition('/')[2]}/{last}"
    return {"id": key, "name": visible_text(name), "path": visible_text(uri)}


def _revision(one: Revision) -> Json:
    names = {"author": visible_text(one.author), "source": visible_text(one.source)}
    return {"revision": one.id, "kind": one.kind, **names, "form": one.draft.as_json()}


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise InputError(f"the request has no {name}: reload the page")
    return value


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if not isinstance(value, Mapping):
        raise InputError(f"the request has no {name}: reload the page")
    return value
