"""Asks the model of a training run, unless it is the one that has answered everything already.

Promise: a run is loaded only where a question is missing, or a file of its checkpoint has changed since it was asked.
"""

from dataclasses import replace
from pathlib import Path

from blindpairs.evaluate.answering import AnsweringReport
from blindpairs.evaluate.loaded_files import LoadedFiles, unchanged_since
from blindpairs.evaluate.results import recorded_answers
from blindpairs.evaluate.scores import questions_of
from blindpairs.evaluate.session import Asked, Entry, Session
from blindpairs.evaluate.suite_session import SuiteEntry, SuiteSession
from blindpairs.progress import Progress, silent


def answer_run(session: Session, asked: Asked, checkpoint: Path, progress: Progress = silent) -> Entry:
    """Ask `run:NAME`, whose model is in `checkpoint`, what is missing.

    Raises what loading raises for a checkpoint that holds no model.
    """
    if known := _known(session, asked, checkpoint):
        return known
    files = LoadedFiles(asked.spec, checkpoint)
    entry = session.answer(asked, progress)
    files.record(entry.folder)
    return entry


def answer_suite_of_run(session: SuiteSession, spec: str, checkpoint: Path, progress: Progress = silent) -> SuiteEntry:
    """The same for the questions of a suite."""
    for entry in session.recorded(()):
        setup = entry.setup
        same = (setup.model, setup.asking, setup.images) == (spec, session.suite.asking, True)
        if same and unchanged_since(entry.folder, spec, checkpoint) and session.complete(entry):
            return entry
    files = LoadedFiles(spec, checkpoint)
    entry = session.answer(session.respondent(spec), progress)
    files.record(entry.folder)
    return entry


def _known(session: Session, asked: Asked, checkpoint: Path) -> Entry | None:
    """The complete answers of the same model, asked in the same way."""
    wanted = questions_of(session.benchmark).keys()
    for entry in session.recorded(()):
        setup = entry.setup
        same = (setup.model, setup.asking, setup.exchanged) == (asked.spec, asked.asking, asked.exchanged)
        if same and setup.images and unchanged_since(entry.folder, asked.spec, checkpoint):
            answered = {answer.key for answer in recorded_answers(entry.folder)}
            if wanted <= answered:
                return replace(entry, report=AnsweringReport(0, len(wanted), {}))
    return None
