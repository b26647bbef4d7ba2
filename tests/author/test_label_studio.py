"""Drafts and decisions through Label Studio's JSON and back."""

import base64
import io
import json
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from authored import DRAFT, EXCHANGED
from hypothesis import given, settings
from hypothesis import strategies as st
from pictured_pairs import picture
from PIL import Image

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft, MinedPair
from blindpairs.author.label_studio import CONFIG, import_tasks, labeling_config, write_tasks
from blindpairs.author.revisions import Saved
from blindpairs.author.rows import ImportedDecisions, RowsRefused
from blindpairs.benchmark import HeldImages, Question
from blindpairs.errors import InputError
from blindpairs.images import image_id

PICTURES = [picture(seed) for seed in range(4)]
IDS = [image_id(data) for data in PICTURES]
HELD = HeldImages(dict(zip(IDS, PICTURES, strict=True)))
BOTH = replace(DRAFT, second=EXCHANGED)
Tasks = list[dict[str, Any]]


def authoring_of_pictures(folder: Path, draft: Draft = BOTH) -> AuthoringDatabase:
    database = AuthoringDatabase(folder / "authoring.sqlite")
    pairs = [
        MinedPair(f"p{one}", IDS[2 * one], IDS[2 * one + 1], f"/a{one}", f"/b{one}", 0.9, 0.5, 1) for one in (0, 1)
    ]
    database.add_pairs(pairs)
    database.add_draft("p0", "model", draft)
    return database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AuthoringDatabase]:
    with authoring_of_pictures(tmp_path) as made:
        yield made


def tasks_of(database: AuthoringDatabase) -> Tasks:
    path = database.path.with_name("tasks.json")
    assert write_tasks(database, path, HELD) == {}
    tasks: Tasks = json.loads(path.read_text(encoding="utf-8"))
    return tasks


def annotated(task: dict[str, Any], completed_by: Any = 7, **changes: str | None) -> dict[str, Any]:
    """A task as Label Studio exports it after a person started from its prediction; None clears a field."""
    results = {one["from_name"]: one for prediction in task["predictions"] for one in prediction["result"]}
    for name, value in {"decision": "accept", **changes}.items():
        results.pop(name, None)
        kind = "choices" if name.startswith(("decision", "answer", "second_answer", "pattern")) else "textarea"
        key = "choices" if kind == "choices" else "text"
        if value is not None:
            results[name] = {"from_name": name, "to_name": "image_a", "type": kind, "value": {key: [value]}}
    one = {"id": 1, "completed_by": completed_by, "was_cancelled": False, "result": list(results.values())}
    return {"id": 1, "annotations": [one], **task}


def imported(database: AuthoringDatabase, tasks: object, annotator: str = "") -> ImportedDecisions:
    path = database.path.with_name("export.json")
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return import_tasks(database, path, annotator)


def test_export_of_label_studio_is_never_replaced_by_tasks(database: AuthoringDatabase, tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    for _ in range(2):
        write_tasks(database, path, HELD)
    tasks = json.loads(path.read_text())
    path.write_text(json.dumps([{"id": 1, **task, "annotations": []} for task in tasks]))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"tasks.json is there and holds something else than tasks"):
        write_tasks(database, path, HELD)
    assert path.read_bytes() == before


def test_a_task_has_both_images_and_the_draft_as_prediction(database: AuthoringDatabase) -> None:
    first, second = tasks_of(database)
    data = dict(first["data"])
    for name in ("image_a", "image_b"):
        kind, encoded = data.pop(name).split(",")
        assert kind == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (120, 100)
    shown = {"pair_id": "p0", "revision": "1", "clip_sim": "0.9", "dino_sim": "0.5", "cluster": "1"}
    assert data == {**shown, "control_of": "", "source": "model"}
    (prediction,) = first["predictions"]
    assert prediction["model_version"] == "model"
    assert [(one["from_name"], one["type"], one["value"]) for one in prediction["result"]] == [
        ("question", "textarea", {"text": ["Is the door open?"]}),
        ("option_1", "textarea", {"text": ["Open"]}),
        ("option_2", "textarea", {"text": ["Closed"]}),
        ("statement_a", "textarea", {"text": ["an open door"]}),
        ("statement_b", "textarea", {"text": ["a closed door"]}),
        ("second_question", "textarea", {"text": ["Is the door closed?"]}),
        ("second_option_1", "textarea", {"text": ["Yes"]}),
        ("second_option_2", "textarea", {"text": ["No"]}),
        ("answer_a", "choices", {"choices": ["Option 1"]}),
        ("answer_b", "choices", {"choices": ["Option 2"]}),
        ("second_answer_a", "choices", {"choices": ["Option 2"]}),
        ("second_answer_b", "choices", {"choices": ["Option 1"]}),
        ("pattern", "choices", {"choices": ["State and Condition"]}),
    ]
    assert (second["data"]["pair_id"], second["data"]["revision"], second["predictions"]) == ("p1", "", [])


def test_the_configuration_has_a_control_for_every_result(database: AuthoringDatabase) -> None:
    first, _ = tasks_of(database)
    root = ET.fromstring(database.path.with_name(CONFIG).read_text(encoding="utf-8"))
    objects = {one.get("name"): one.get("value") for one in root.iter("Image")}
    assert objects == {"image_a": "$image_a", "image_b": "$image_b"}
    kinds = {"textarea": "TextArea", "choices": "Choices"}
    controls = {one.get("name"): one for kind in kinds.values() for one in root.iter(kind)}
    assert {one.get("toName") for one in controls.values()} == {"image_a"}
    for result in first["predictions"][0]["result"]:
        control = controls[result["from_name"]]
        assert control.tag == kinds[result["type"]]
        assert set(result["value"].get("choices", [])) <= {choice.get("value") for choice in control}
    assert [choice.get("value") for choice in controls["decision"]] == ["accept", "reject"]


def test_names_of_patterns_cannot_break_the_configuration() -> None:
    names = ('a "b" <c> & d', "it's", "\u202e")
    assert 'value="a?b"' in labeling_config(("a\0b",))
    root = ET.fromstring(labeling_config(names))
    (found,) = [one for one in root.iter("Choices") if one.get("name") == "pattern"]
    assert tuple(choice.get("value") for choice in found) == names
    assert "pattern" not in labeling_config(())


def test_accepted_unchanged_is_the_draft_and_edited_is_the_persons(database: AuthoringDatabase) -> None:
    first, second = tasks_of(database)
    mail = {"id": 3, "email": "ann@example.org"}
    own = {"question": "Lit?", "option_1": "Yes", "option_2": "No", "answer_a": "Option 2", "answer_b": "Option 1"}
    tasks = [annotated(first), annotated(second, mail, **own)]
    assert imported(database, tasks) == ImportedDecisions(Saved(2, 0, ()), 0, (), ())
    assert imported(database, tasks).saved == Saved(0, 2, ())
    (_, kept), (edited,) = database.history("p0"), database.history("p1")
    assert (kept.author, kept.source, kept.draft, kept.based_on) == ("label-studio-7", "model", BOTH, 1)
    assert (edited.source, edited.draft) == ("person:ann@example.org", Draft(Question("Lit?", ("Yes", "No"), (1, 0))))


def test_two_people_and_one_who_skipped_a_task(database: AuthoringDatabase) -> None:
    first, _ = tasks_of(database)
    (one,) = annotated(first, decision="reject", reason="blurred")["annotations"]
    skipped = {**one, "completed_by": 8, "was_cancelled": True}
    (other,) = annotated(first, {"id": 9, "email": "ben@example.org"})["annotations"]
    assert imported(database, [{**first, "annotations": [one, skipped, other]}], "").saved.added == 2
    kept = [(revision.author, revision.kind, revision.reason) for revision in database.history("p0")[1:]]
    assert kept == [("label-studio-7", "rejected", "blurred"), ("ben@example.org", "accepted", "")]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"answer_b": "Option 1"}, "answer_a and answer_b are both 'Open': the images must have different answers"),
        ({"answer_a": None}, "answer_a is '', which is neither 'Open' nor 'Closed'"),
        ({"question": None}, "question: it is empty"),
        ({"option_1": "closed"}, "question: both options are 'closed'"),
        ({"decision": "maybe"}, "the decision is 'maybe': write accept, reject or nothing"),
    ],
)
def test_an_annotation_with_a_fault_imports_nothing(
    database: AuthoringDatabase, changes: dict[str, str | None], fault: str
) -> None:
    first, second = tasks_of(database)
    tasks = [annotated(second, decision="reject"), annotated(first, **changes)]
    with pytest.raises(RowsRefused) as raised:
        imported(database, tasks, "Ann")
    assert raised.value.faults == [f"task 2, annotation of Ann, pair p0: {fault}"]
    assert database.history("p1") == []


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"data": 1}, "export.json is no export of Label Studio: it holds a dict, not tasks"),
        ([{"pair_id": "p0", "question": "x", "annotator": 1}], "export.json, task 1: this is no task that blindpairs"),
        ([{"data": {"image": "x"}, "annotations": []}], "as JSON, not as JSON-MIN or CSV"),
        ([{"data": {"pair_id": "p0", "revision": ""}, "annotations": [{"completed_by": 1, "result": [1]}]}], "task 1"),
        ([None], "task 1"),
    ],
)
def test_a_file_of_another_shape_is_a_sentence(database: AuthoringDatabase, tasks: object, message: str) -> None:
    with pytest.raises(InputError) as raised:
        imported(database, tasks)
    assert message in str(raised.value)


def test_an_image_that_cannot_be_read_leaves_out_its_pair(database: AuthoringDatabase) -> None:
    path = database.path.with_name("tasks.json")
    held = HeldImages({IDS[0]: PICTURES[0], IDS[1]: PICTURES[2], IDS[2]: PICTURES[2]})
    assert write_tasks(database, path, held) == {
        "p0": "the image was changed after it was mined",
        "p1": "no image with this id",
    }
    assert json.loads(path.read_text()) == []


TEXT = st.text(min_size=1, max_size=40).filter(str.strip)
HARD = st.sampled_from(["NA", "=1+1", '"', "a\tb", "a\r\nb", "\u202eabc", "\0", "x" * 10_000, "</View>", "; "])


@settings(max_examples=12, deadline=None)
@given(TEXT | HARD, TEXT | HARD, st.lists(TEXT, max_size=2, unique=True))
def test_every_text_comes_back_as_it_was(text: str, option: str, patterns: list[str]) -> None:
    question = Question(text, (option, option + "!"), (1, 0))
    draft = Draft(question, EXCHANGED, tuple(patterns), text, option)
    with tempfile.TemporaryDirectory() as folder, authoring_of_pictures(Path(folder), draft) as database:
        kept = database.history("p0")[0].draft
        first, _ = tasks_of(database)
        assert imported(database, [annotated(first)]).saved.added == 1
        assert (database.history("p0")[-1].draft, database.history("p0")[-1].source) == (kept, "model")
        unseen = {**first, "data": {**first["data"], "revision": ""}}  # read from the results alone
        assert imported(database, [annotated(unseen, 8, pattern=None)]).saved.added == 1
        assert database.history("p0")[-1].draft == replace(kept, patterns=())
