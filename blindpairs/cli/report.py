"""`blindpairs report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, named_folder, print_json
from blindpairs.cli.benchmark import GivenBenchmark, identity, open_benchmark
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blindpairs.benchmark import Benchmark
    from blindpairs.evaluate.session import Entry
    from blindpairs.evaluate.similarity import SimilarityScores


@command
def report(
    benchmark: GivenBenchmark = "",
    ground_truth: Annotated[
        str, typer.Option(rich_help_panel="Selection", help="original, or the name of a correction.")
    ] = "",
    output: Annotated[
        str, typer.Option(rich_help_panel="Output", help="Folder. [default: that of the results on this benchmark]")
    ] = "",
    work: Work = WORK,
    as_json: Json = False,
) -> None:
    """Write all results on a benchmark as one page, with plots and table as files beside it.

    Nothing is asked: it shows what `blindpairs eval` recorded.
    """
    from blindpairs.evaluate.results import benchmark_folder
    from blindpairs.evaluate.session import Rules, recorded_session

    space = Workspace(work)
    found = open_benchmark(space, named_folder("--benchmark", benchmark) if benchmark else None)
    truth = found.with_ground_truth(ground_truth or found.ground_truth)
    with recorded_session(space.results, found, truth) as session:
        entries = session.recorded([])
        session.score(entries, Rules())
    measured = similarities(benchmark_folder(space.results, truth), truth)  # of this ground truth, as `eval` left them
    page = write_page(space, truth, entries, measured, output)
    if as_json:
        print_json({"page": str(page), "benchmark": identity(truth), "models": len(entries)})
    else:
        typer.echo(f"{page}: look at it in a browser; plots and table are in {page.parent / 'report'}")


def write_page(
    space: Workspace,
    truth: "Benchmark",
    entries: "Iterable[Entry]",
    scores: "Iterable[SimilarityScores]",
    output: str = "",
) -> Path:
    """Write the page of everything that was scored; where it is."""
    from blindpairs.evaluate.reporting import reported_models, reported_similarity, write_results
    from blindpairs.evaluate.results import benchmark_folder, recorded_answers
    from blindpairs.mine.maps import read_maps

    models = [reported_similarity(one) for one in scores]
    # By folder, so that the page is the same whoever was asked last.
    scored = sorted((entry for entry in entries if entry.summary), key=lambda entry: entry.folder.name)
    summaries = [entry.summary for entry in scored if entry.summary]
    said = [recorded_answers(entry.folder) for entry in scored]
    models += reported_models(truth, summaries, said, [entry.verdicts for entry in scored])
    folder = named_folder("--output", output) if output else benchmark_folder(space.results, truth)
    return write_results(folder, truth, models, read_maps(space.pairs))


def similarities(folder: Path, truth: "Benchmark") -> "list[SimilarityScores]":
    """What CLIP-style models left in the folder of a benchmark's results."""
    from blindpairs.evaluate.similarity import read_scores
    from blindpairs.evaluate.similarity_files import SIMILARITIES

    return [read_scores(truth, path.parent) for path in sorted(folder.glob(f"*/{SIMILARITIES}"))]
