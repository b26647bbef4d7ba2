"""Drafts for mined pairs, kept as they are made: what has a draft of this drafter already is not drafted again.

Promises: the pairs are stored with their drafts, so that mining again loses no work; a draft is saved before it is
counted; whatever ends the run, the same command goes on where it ended.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Drafter, MinedPair, NotDrafted
from blindpairs.progress import Progress, silent


@dataclass
class DraftReport:
    """What one run drafted; `failed` are the pairs without a draft, by the reason's word."""

    drafted: int = 0
    kept: int = 0  # had a draft of this drafter before
    failed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # the reason's word -> the first pair and its reason


def mined_pairs(table: pa.Table, top: int | None = None) -> list[MinedPair]:
    """The pairs of pairs.parquet in rank order: the first `top` blind pairs, and the controls of these."""
    wanted = ["pair_id", "image_id_a", "image_id_b", "uri_a", "uri_b", "clip_sim", "dino_sim", "cluster", "control_of"]
    rows: list[Mapping[str, object]] = table.select([name for name in wanted if name in table.column_names]).to_pylist()
    pairs = [MinedPair(**row, rank=rank) for rank, row in enumerate(rows)]  # type: ignore[arg-type]
    chosen = {pair.pair_id for pair in [one for one in pairs if one.control_of is None][:top]}
    return [pair for pair in pairs if (pair.control_of or pair.pair_id) in chosen]


def draft_missing(
    database: AuthoringDatabase,
    pairs: Sequence[MinedPair],
    drafter: Drafter,
    *,
    second: bool = False,
    progress: Progress = silent,
) -> DraftReport:
    """Draft every pair that has no draft of this drafter (with a second question, if `second`), and save each draft.

    Raises what the drafter raises, after everything that it drafted is saved.
    """
    database.add_pairs(pairs)
    done = database.drafted(drafter.name, second=second)
    missing = [pair for pair in pairs if pair.pair_id not in done]
    report = DraftReport(kept=len(pairs) - len(missing))
    progress(0, len(missing))  # a slow model takes minutes for its first draft
    for pair_id, outcome in drafter.draft(missing, second=second):
        if isinstance(outcome, NotDrafted):
            report.failed[outcome.code] += 1
            report.examples.setdefault(outcome.code, f"{pair_id}: {outcome.message}")
        else:
            database.add_draft(pair_id, drafter.name, outcome, second=second)
            report.drafted += 1
        progress(report.drafted, len(missing), report.failed.total())
    return report
