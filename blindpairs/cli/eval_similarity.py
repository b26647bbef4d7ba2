"""CLIP-style models in `blindpairs eval`: those that compare statements with images by cosine, and are not asked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blindpairs.cli.app import progress_bar
from blindpairs.cli.eval_report import Evaluated
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.benchmark import Benchmark
    from blindpairs.evaluate.similarity import SimilarityScores


def models_there(space: Workspace, truth: "Benchmark") -> list[str]:
    """The CLIP-style model to evaluate where none is named: the store's, else the demo's for its own benchmark."""
    from blindpairs.access import present
    from blindpairs.defaults import COLUMNS, DEMO_ENCODERS
    from blindpairs.encoders.text_side import has_text_side
    from blindpairs.store import Store

    if not any(pair.statement_a and pair.statement_b for pair in truth.pairs):
        return []
    spec = DEMO_ENCODERS[COLUMNS[0]] if truth.name == "blindpairs-demo" else ""
    if present(space.embeddings):
        encoders = Store.open(space.embeddings).manifest["encoders"]
        spec = str(encoders[COLUMNS[0]]["spec"]) if COLUMNS[0] in encoders else spec
    return [spec] if spec and has_text_side(spec) else []


def evaluate_models(
    space: Workspace, truth: "Benchmark", specs: Sequence[str], templates: Sequence[str]
) -> "list[SimilarityScores]":
    """The scores of CLIP-style models. What was measured is kept in a folder of the results, and used again."""
    from blindpairs.evaluate.contenders import similarity_folder
    from blindpairs.evaluate.similarity import OFFICIAL_TEMPLATE, evaluate_similarity

    wordings = tuple(templates) or (OFFICIAL_TEMPLATE,)
    scores = []
    for spec in dict.fromkeys(specs):
        with progress_bar(spec) as show:
            folder = similarity_folder(space.results, truth, spec, wordings)
            scores.append(evaluate_similarity(truth, spec, folder, wordings, progress=show))
    return scores


def evaluated(scores: "Sequence[SimilarityScores]") -> Evaluated:
    """The lines and the JSON of CLIP-style models: each model by pattern, and of several their table."""
    from blindpairs.evaluate.overview import aligned
    from blindpairs.evaluate.similarity_table import describe, summary, table

    lines = [line for one in scores for line in describe(one)]
    if len(scores) > 1:
        header, rows = table(scores)
        lines += ["", *aligned([header, *rows])]
    return Evaluated("similarity", lines, [summary(one) for one in scores])
