"""Items of a suite are asked once, recorded as they come, and shown their images as they are stored."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from answering_model import AnsweringModel
from pictured_pairs import picture
from PIL import Image

from blindpairs.errors import BudgetSpent, InputError, Undecodable
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.answers import AnswerFile, item_key, read_answers
from blindpairs.evaluate.suites import Manner, SuiteItem, as_picture, ask_items, read_lines
from blindpairs.vlm import Ask, Budget, Failure, Picture, Reply, open_cache
from blindpairs.vlm.asking import Keep, keep_nothing

MANNER = Manner("greeting", max_tokens=7, system="Be short.")


def items(folder: Path, count: int = 3) -> list[SuiteItem]:
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    return [
        SuiteItem(f"split/{number}", f"Question {number}?", str(folder / f"{number}.jpg")) for number in range(count)
    ]


def ask(model: AnsweringModel, asked: list[SuiteItem], path: Path, requests: int | None = None) -> list[Failure]:
    with AnswerFile(path) as file, open_cache(None) as cache:
        return ask_items(model, asked, MANNER, file, Conditions(cache, Budget(max_requests=requests)))


def test_each_item_is_asked_with_its_image_and_recorded_with_how_it_was_asked(tmp_path: Path) -> None:
    model = AnsweringModel(lambda ask: f"to {ask.texts[0]}")
    assert ask(model, items(tmp_path), tmp_path / "results" / "answers.jsonl") == []
    sent = Picture(picture(1), "image/jpeg")
    assert [(one.parts, one.system, one.max_tokens, one.temperature) for one in model.asked][1] == (
        (sent, "Question 1?"),
        "Be short.",
        7,
        0.0,
    )
    recorded = list(read_answers(tmp_path / "results" / "answers.jsonl"))
    assert [(one.key, one.text) for one in recorded] == [
        (item_key(f"split/{number}"), f"to Question {number}?") for number in range(3)
    ]
    assert {(one.protocol, one.model, one.finish) for one in recorded} == {("greeting", "test-model", "stop")}
    assert recorded[0].settings == {"kind": "test", "max_tokens": 7, "temperature": 0.0}
    assert recorded[0].prompt_hash == MANNER.hash_of("Question 0?") != recorded[1].prompt_hash


def test_an_item_that_is_answered_is_not_asked_again(tmp_path: Path) -> None:
    asked = items(tmp_path)
    ask(AnsweringModel(lambda _: "first"), asked[:2], tmp_path / "answers.jsonl")
    model = AnsweringModel(lambda _: "second")
    ask(model, asked, tmp_path / "answers.jsonl")
    assert [one.texts for one in model.asked] == [["Question 2?"]]
    assert [one.text for one in read_answers(tmp_path / "answers.jsonl")] == ["first", "first", "second"]


def test_a_failure_and_an_image_that_cannot_be_read_are_returned_and_not_recorded(tmp_path: Path) -> None:
    asked = items(tmp_path)
    (tmp_path / "0.jpg").write_bytes(b"no image")
    (tmp_path / "2.jpg").unlink()
    failures = ask(AnsweringModel(lambda _: None), asked, tmp_path / "answers.jsonl")
    assert {one.key: one.code for one in failures} == {
        "split/0": "bad_image",
        "split/1": "server",
        "split/2": "bad_image",
    }
    assert list(read_answers(tmp_path / "answers.jsonl")) == []


def test_a_refusal_is_an_empty_answer_that_is_not_asked_for_again(tmp_path: Path) -> None:
    class Refusing(AnsweringModel):
        def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply | Failure]:
            for one in asks:
                self.asked.append(one)
                yield Failure(one.key, "refused", "I do not answer that")

    model = Refusing(lambda _: None)
    for _ in range(2):
        assert ask(model, items(tmp_path), tmp_path / "answers.jsonl") == []
    assert [(one.text, one.finish) for one in read_answers(tmp_path / "answers.jsonl")] == [("", "refused")] * 3
    assert len(model.asked) == 3


def test_what_was_answered_before_the_budget_ends_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent):
        ask(AnsweringModel(lambda _: "yes"), items(tmp_path), tmp_path / "answers.jsonl", 2)
    assert len(list(read_answers(tmp_path / "answers.jsonl"))) == 2


def test_an_item_without_an_image_is_a_text_alone(tmp_path: Path) -> None:
    model = AnsweringModel(lambda _: "9 8")
    ask(model, [SuiteItem("1", "Compare.")], tmp_path / "answers.jsonl")
    assert [one.parts for one in model.asked] == [("Compare.",)]


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_an_upright_image_is_sent_as_its_own_bytes_and_others_as_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    jpeg, png = stored(image, "JPEG"), stored(image, "PNG")
    assert as_picture(jpeg) == Picture(jpeg, "image/jpeg")
    assert as_picture(png) == Picture(png, "image/png")
    turned = Image.Exif()
    turned[0x0112] = 6
    for data, shape in ((stored(image, "JPEG", exif=turned), (20, 30)), (stored(image, "BMP"), (30, 20))):
        sent = as_picture(data)
        assert (sent.media_type, Image.open(io.BytesIO(sent.data)).size) == ("image/png", shape)
    clear = as_picture(stored(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"))
    assert np.asarray(Image.open(io.BytesIO(clear.data))).tolist() == [[[255, 255, 255]] * 4] * 4
    with pytest.raises(Undecodable):
        as_picture(Undecodable("missing", "no such file"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "line 2 is not JSON"),
        (b"[]", "line 2 holds a JSON list, not an object"),
        (b'{"id": "1"}', "line 2 has no text 'text'"),
        (b'{"id": "1", "text": null}', "line 2 has no text 'text'"),
        (b'{"id": true, "text": ""}', "line 2 has no text 'id'"),
        (b'{"id": "\xff", "text": ""}', "line 2 is not JSON"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes, says: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b'{"id": 7, "text": "x"}\n' + line + b"\n")
    with pytest.raises(InputError, match=says):
        read_lines(path, ("id", "text"))


def test_a_number_is_an_id_and_blank_lines_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"id": 7, "text": "x", "more": [1]}\n\n')
    assert read_lines(path, ("id", "text")) == [{"id": "7", "text": "x", "more": [1]}]
