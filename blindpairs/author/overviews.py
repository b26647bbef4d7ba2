"""The pages that show many pairs: the list, the clusters, what is disputed, statistics, as values for templates.

Filters, words to search and the place in the list are in the address, so that a page can be bookmarked and sent.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.requests import Request

from blindpairs.author.agreement import agreement, disputes
from blindpairs.author.clusters import cluster_number, clusters
from blindpairs.author.desk import Desk
from blindpairs.author.drafts import MinedPair
from blindpairs.author.pair_list import Filters, page
from blindpairs.author.revisions import Revision, last_decisions
from blindpairs.author.standing import State, answer_text
from blindpairs.author.yields import yields
from blindpairs.errors import InputError

TYPICAL = 6  # pairs shown of a cluster
DISPUTES = 20  # shown at once
STATES = (*get_args(State), "open")


def pair_list(desk: Desk, request: Request) -> dict[str, Any]:
    """Some pairs with their texts and where they stand."""
    filters = _filters(request.query_params)
    found = page(desk.database, filters, request.query_params.get("after", ""))
    pairs = {pair.pair_id: (pair, history) for pair, history in desk.database.histories_of(_ids(found.pairs))}
    rows = [
        {"listed": one, "pair": pairs[one.pair_id][0], "people": _people(pairs[one.pair_id][1])} for one in found.pairs
    ]
    query = {key: value for key, value in request.query_params.items() if key != "after" and value}
    return {
        "rows": rows,
        "total": found.total,
        "given": query,
        "states": STATES,
        "patterns": list(desk.taxonomy),
        "clusters": desk.cluster_choices(),
        "more": f"/pairs?{urlencode({**query, 'after': found.after})}" if found.after else "",
        "first": f"/pairs?{urlencode(query)}" if request.query_params.get("after") else "",
    }


def cluster_page(desk: Desk, _: Request) -> dict[str, Any]:
    """Every cluster with its most typical pairs, its name, and what its pairs are called."""
    found = clusters(desk.database, TYPICAL)
    ids = [pair_id for cluster in found for pair_id in cluster.typical]
    pairs = {pair.pair_id: pair for pair, _ in desk.database.histories_of(ids)}
    return {"found": found, "pairs": pairs, "patterns": list(desk.taxonomy)}


def adjudication(desk: Desk, _: Request) -> dict[str, Any]:
    """The disputed pairs with what each person said, answers as texts."""
    waiting = disputes(desk.database)
    found = [_dispute(one.pair, one.why, one.decisions, one.revision) for one in waiting[:DISPUTES]]
    return {"found": found, "left": len(waiting) - len(found)}


def statistics(desk: Desk, request: Request) -> dict[str, Any]:
    """Progress, agreement, yield and pace."""
    progress = desk.queue.progress(request.scope["state"]["person"], tuple(desk.taxonomy))
    return {"progress": progress, "agreement": agreement(desk.database), "yields": yields(desk.database)}


PAGES: Mapping[str, tuple[str, Callable[[Desk, Request], Mapping[str, Any]]]] = {
    "/pairs": ("list.html", pair_list),
    "/clusters": ("clusters.html", cluster_page),
    "/adjudication": ("adjudication.html", adjudication),
    "/statistics": ("statistics.html", statistics),
}


def _filters(query: Mapping[str, str]) -> Filters:
    filters = Filters(text=query.get("text", "").strip(), pattern=query.get("pattern", ""))
    state, cluster, kind = query.get("state", ""), query.get("cluster", ""), query.get("kind", "")
    if state in STATES:
        filters = replace(filters, state=state)  # type: ignore[arg-type]
    with suppress(InputError):  # an address that was mistyped shows more, not an error
        filters = replace(filters, cluster=cluster_number(cluster))
    if kind in ("blind", "control"):
        filters = replace(filters, controls=kind == "control")
    return filters


def _ids(pairs: Any) -> list[str]:
    return [one.pair_id for one in pairs]


def _people(history: list[Revision]) -> list[str]:
    """Who has decided; not what, so that nobody is led by others."""
    return list(last_decisions(history))


def _dispute(pair: MinedPair, why: str, decisions: tuple[Revision, ...], revision: int) -> dict[str, Any]:
    versions = [
        {
            "author": one.author,
            "kind": one.kind,
            "reason": one.reason,
            "draft": one.draft,
            "answers": [answer_text(one.draft.question, side) for side in (0, 1)] if one.draft.question else [],
            "second": [answer_text(one.draft.second, side) for side in (0, 1)] if one.draft.second else [],
            "form": one.draft.as_json(),
        }
        for one in decisions
    ]
    return {"pair": pair, "why": why, "versions": versions, "revision": revision}
