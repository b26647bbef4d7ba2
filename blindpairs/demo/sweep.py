"""The demo's sweep: every way to use both towers, three seeds each, trained and then measured on all axes.

`python -m blindpairs.demo sweep FOLDER` trains the runs of the preset `demo-sweep` one by one in the work folder
FOLDER, and appends a line for each to FOLDER/mof-sweep.jsonl.

Promises: a killed sweep goes on in the middle of a run; a run that has its line is neither trained nor asked again.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blindpairs.demo.benchmark import demo_benchmark
from blindpairs.demo.following import demo_following
from blindpairs.demo.instructions import with_instructions, write_instructions
from blindpairs.demo.small_suites import demo_pope
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.session import Asked, Rules, Session
from blindpairs.evaluate.suite_questions import FollowingSuite, PopeSuite, Suite
from blindpairs.evaluate.suite_session import SuiteSession, score_fields
from blindpairs.evaluate.summary import rate_fields
from blindpairs.mof.data import Preparing
from blindpairs.mof.presets import load_preset
from blindpairs.mof.run import Run
from blindpairs.mof.sweep import Planned, planned, way_of
from blindpairs.mof.training import train
from blindpairs.progress import Progress, silent
from blindpairs.statistics import Rate
from blindpairs.vlm import Answerer, open_cache, open_model
from blindpairs.workspace import Workspace

LOG = "mof-sweep.jsonl"
PRESET = "demo-sweep"
FOLLOWING_IMAGES = 100  # more than `eval` asks about, for narrower intervals


def run_sweep(folder: Path, progress: Progress = silent, preset: str = PRESET) -> Iterator[dict[str, Any]]:
    """Train and measure every run that has no line in the log yet; yields the lines as they are written."""
    space, log = Workspace(folder), folder / LOG
    folder.mkdir(parents=True, exist_ok=True)
    found = load_preset(preset)
    runs = planned(found.name, found.recipe, found.runs)
    done = {row["run"] for row in read_sweep(log)}
    for number, one in enumerate(runs, 1):
        if one.name not in done:
            recipe = with_instructions(one.recipe, write_instructions(space.prepared / "demo-instructions"))
            train(recipe, space.runs / one.name, preparing=Preparing(space.prepared, look=False))
            row = {**_facts(one, Run(space.runs / one.name)), **measured(f"run:{one.name}", space)}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            yield row
        progress(number, len(runs))


def read_sweep(log: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut off is taken away, so that its run is measured again."""
    if not log.exists():
        return []
    text = log.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        log.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def measured(spec: str, space: Workspace) -> dict[str, Any]:
    """Both axes and POPE for one model: pair accuracy of blind pairs, by pattern, and of controls; following."""
    model, place = open_model(spec, work=space.root), space.root / "suites"
    with open_cache(space.replies) as cache:
        session = Session(space.results, demo_benchmark(), Conditions(cache), lambda _: model)
        entry = session.answer(Asked(spec))
        session.score([entry], Rules())
        forms = demo_following(place / "following-sweep", images=FOLLOWING_IMAGES)
        conditions = Conditions(cache)
        following = _asked(FollowingSuite(place / "following-sweep", forms), model, space, conditions)
        pope = _asked(PopeSuite(place / "pope", demo_pope(place / "pope")), model, space, conditions)
    summary = entry.summary
    assert summary is not None, "scored"
    assert summary.blind is not None, "every question has an answer, or the model itself has failed"
    assert summary.controls is not None, "the demo's benchmark has controls"
    return {
        "blind": {name: rate_fields(rate) for name, rate in vars(summary.blind).items() if isinstance(rate, Rate)},
        "controls": {"pair_accuracy": rate_fields(summary.controls.pair_accuracy)},
        "patterns": {name: rate_fields(scores.pair_accuracy) for name, scores in summary.patterns.items()},
        "following": {
            **{name: following["together"][name] for name in ("exact", "form")},
            "category": following["category"]["exact"],
            "images": FOLLOWING_IMAGES,
        },
        "pope": pope["mean"],
    }


def _asked(suite: Suite, model: Answerer, space: Workspace, conditions: Conditions) -> dict[str, Any]:
    """The scores of a model that answers a small suite."""
    session = SuiteSession(space.results, suite, conditions, lambda _: model)
    entry = session.answer(session.respondent(model.name))
    session.score(entry, (suite.usual_rule,))
    return score_fields(entry.scores[0])


def _facts(one: Planned, run: Run) -> dict[str, Any]:
    """Which run it is, and how its training ended: the mean losses of its last two fifths show whether it was over."""
    losses = [row["loss"] for row in run.rows() if row["stage"] == 2]
    fifth = max(1, len(losses) // 5)
    means = [round(sum(some) / len(some), 4) for some in (losses[-2 * fifth : -fifth], losses[-fifth:]) if some]
    return {"run": one.name, "way": way_of(one.recipe), "seed": one.recipe.seed, "last_fifths": means}
