"""From decisions to a benchmark: what people accepted, checked, with what was left out and why.

Promises: only what a person accepted, and nobody rejects, is in the benchmark; every drafted pair that is not in it has
a finding that says why: it waits for a person, people disagree, an image cannot be read, or a check refuses it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.decisions import standings
from blindpairs.author.standing import Standing
from blindpairs.benchmark import Benchmark, BenchmarkPair, ImageReader
from blindpairs.benchmark.checks import Finding, check, without_refused
from blindpairs.errors import Undecodable


@dataclass(frozen=True)
class Contents:
    """What a benchmark is called and holds besides its pairs."""

    name: str
    taxonomy: Sequence[str]
    licenses: Mapping[str, str]  # by the beginning of an image's path: the longest that fits counts; "" fits all


def collect(database: AuthoringDatabase, images: ImageReader, contents: Contents) -> tuple[Benchmark, list[Finding]]:
    """The benchmark of all accepted pairs that no check refuses, in rank order, and every finding.

    Each image is read once, to find those that cannot be.
    """
    stands = list(standings(database))
    findings = list(_not_accepted(stands))
    accepted = [pair for one in stands if (pair := one.benchmark_pair)]
    pairs = tuple(replace(pair, license=_license(pair, contents.licenses)) for pair in accepted)
    authors = sorted({author for pair in pairs for author in pair.annotators})
    provenance = {"made_by": "blindpairs export", "decided": len(accepted), "annotators": len(authors)}
    whole = Benchmark(contents.name, pairs, images, tuple(contents.taxonomy), provenance=provenance)
    findings += _unreadable(whole)
    # Checked without the pairs that have no image, so that their controls are found to be alone.
    whole = replace(whole, pairs=without_refused(pairs, findings))
    findings += check(whole)
    return replace(whole, pairs=without_refused(whole.pairs, findings)), findings


def _not_accepted(stands: Sequence[Standing]) -> Iterator[Finding]:
    for one in stands:
        if one.state == "disputed":
            yield Finding(one.pair.pair_id, "disputed", one.why)
        elif one.state == "rejected":
            yield Finding(one.pair.pair_id, "rejected", one.why)
        elif one.state == "undecided" and one.drafted:
            yield Finding(one.pair.pair_id, "unreviewed", "no person has decided on its draft")


def _unreadable(benchmark: Benchmark) -> Iterator[Finding]:
    failed = {key: data for key, data in benchmark.images(benchmark.image_ids) if isinstance(data, Undecodable)}
    for pair in benchmark.pairs if failed else ():
        for key, uri in zip(pair.image_ids, (pair.uri_a, pair.uri_b), strict=True):
            if key in failed:
                yield Finding(pair.pair_id, "unreadable_image", f"{uri}: {failed[key].message}")
                break


def _license(pair: BenchmarkPair, licenses: Mapping[str, str]) -> str:
    """The licences of both images; both names where they differ."""
    names = [_of_uri(uri, licenses) for uri in (pair.uri_a, pair.uri_b)]
    return " and ".join(dict.fromkeys(name or "unknown" for name in names)) if any(names) else ""


def _of_uri(uri: str, licenses: Mapping[str, str]) -> str:
    fitting = [prefix for prefix in licenses if uri.startswith(prefix)]
    return licenses[max(fitting, key=len)] if fitting else ""
