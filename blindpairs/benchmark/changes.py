"""Two benchmarks beside each other: what changed between them, and both in one.

Pairs are matched by id, so that neither order nor missing rows matter. Merging never chooses in silence: a pair that
both benchmarks have with other contents is an error, unless the caller says which of the two counts.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from blindpairs.benchmark.model import Answers, Benchmark, BenchmarkPair
from blindpairs.errors import ConfigError, Undecodable


@dataclass(frozen=True)
class Changes:
    """What changed from one benchmark to another, by pair id, in the order of the benchmark that has the pair."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, Mapping[str, tuple[Any, Any]]]  # field -> (before, after)
    reordered: bool  # the pairs that both have come in another order

    @property
    def scores_change(self) -> bool:
        """Whether a score could change; other annotators or another licence change none."""
        # Not the images: another image makes another pair id, so its pair is removed and added.
        decisive = ("question", "second", "statement_a", "statement_b", "patterns", "control_of")
        edited = any(set(decisive) & one.keys() for one in self.changed.values())
        return bool(self.added or self.removed or edited)


def changes(before: Benchmark, after: Benchmark) -> Changes:
    """What changed from `before` to `after`."""
    old = {pair.pair_id: pair for pair in before.pairs}
    new = {pair.pair_id: pair for pair in after.pairs}
    both = [name for name in old if name in new]
    compared = {name: _edits(old[name], new[name]) for name in both}
    return Changes(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed={name: edits for name, edits in compared.items() if edits},
        reordered=both != [name for name in new if name in old],
    )


def merge(one: Benchmark, other: Benchmark, prefer: Literal["", "first", "second"] = "", name: str = "") -> Benchmark:
    """The pairs of both benchmarks, those of `one` first.

    Raises ConfigError that names a pair which both have with other contents, unless `prefer` says which counts, and
    where the two use different ground truths.
    """
    if one.ground_truth != other.ground_truth:
        raise ConfigError(
            f"{one.name} has the ground truth {one.ground_truth!r}, {other.name} has {other.ground_truth!r}: "
            "merge benchmarks of one ground truth"
        )
    firsts = {pair.pair_id: pair for pair in one.pairs}
    others = {pair.pair_id: pair for pair in other.pairs}
    conflicts = [key for key, pair in firsts.items() if key in others and others[key].revision != pair.revision]
    if conflicts and not prefer:
        edits = ", ".join(_edits(firsts[conflicts[0]], others[conflicts[0]]))
        raise ConfigError(
            f"{len(conflicts):,} pairs differ between {one.name} and {other.name}, such as {conflicts[0]} ({edits}): "
            "see `benchmark diff`, and choose with --prefer first or --prefer second"
        )
    pairs = [others.get(key, pair) if prefer == "second" else pair for key, pair in firsts.items()]
    pairs += [pair for key, pair in others.items() if key not in firsts]
    return replace(
        one,
        name=name or f"{one.name}+{other.name}",
        pairs=tuple(pairs),
        images=_Either(one, other),
        patterns=tuple(dict.fromkeys((*one.patterns, *other.patterns))),
        corrections=_corrections(*((one, other) if prefer == "second" else (other, one)), {*firsts, *others}),
        provenance={"merged": [_origin(one), _origin(other)], "prefer": prefer},
    )


def _corrections(one: Benchmark, deciding: Benchmark, kept: Collection[str]) -> dict[str, dict[str, Answers]]:
    """The corrections of both for the pairs that are kept; `deciding` has the last word on a pair that both correct."""
    names = dict.fromkeys((*deciding.corrections, *one.corrections))
    both = {name: {**one.corrections.get(name, {}), **deciding.corrections.get(name, {})} for name in names}
    return {name: {key: answers for key, answers in found.items() if key in kept} for name, found in both.items()}


class _Either:
    """Reads each image from the first benchmark that has it."""

    def __init__(self, one: Benchmark, other: Benchmark) -> None:
        self._first, self._other = one, other
        self._in_first = set(one.image_ids)

    def __call__(self, image_ids: Collection[str]) -> Iterator[tuple[str, bytes | Undecodable]]:
        wanted = set(image_ids)
        yield from self._first.images(wanted & self._in_first)
        yield from self._other.images(wanted - self._in_first)


def _edits(old: BenchmarkPair, new: BenchmarkPair) -> dict[str, tuple[Any, Any]]:
    values = {one.name: (getattr(old, one.name), getattr(new, one.name)) for one in fields(BenchmarkPair)}
    return {name: (before, after) for name, (before, after) in values.items() if before != after}


def _origin(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "fingerprint": benchmark.fingerprint,
        "pairs": len(benchmark.pairs),
        "provenance": dict(benchmark.provenance),
    }
