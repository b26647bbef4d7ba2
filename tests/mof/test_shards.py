"""WebDataset archives give what the same data in files gives; damage and change are named."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from instruction_files import caption, picture, row, save_rows
from trained_tokenizers import llama_like

from blindpairs.errors import InputError
from blindpairs.images.preprocess import Preprocess
from blindpairs.mof.checking import Check, check_instructions
from blindpairs.mof.examples import Examples, Sight
from blindpairs.mof.indexing import open_index
from blindpairs.mof.pixels import PixelRules
from blindpairs.mof.shards import Shards, shards_of
from blindpairs.mof.templates import TurnTokenizer

RULES = PixelRules(Preprocess(16, "shortest", 16, "bicubic", "floor", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
ROWS = [
    caption("a/1", "1.png"),
    row("a/2", None, "Hello", "Hi"),
    row("b/3", "3.png", "<image>\nWhat?", "That.", "And?", "So."),
    caption("b/4", "4.png"),
]


def tokens() -> TurnTokenizer:
    return TurnTokenizer(llama_like(), "vicuna_v1")


def save_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def sample(value: dict[str, Any], images: Path) -> list[tuple[str, bytes]]:
    """A row of ROWS as members of an archive."""
    stated = {key: value[key] for key in ("id", "conversations")}
    image = [(f"{value['id']}.png", (images / value["image"]).read_bytes())] if "image" in value else []
    return [*image, (f"{value['id']}.json", json.dumps(stated).encode())]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in (1, 3, 4):
        picture(tmp_path / "images" / f"{number}.png", number)
    return tmp_path / "images"


@pytest.fixture
def shards(tmp_path: Path, images: Path) -> Shards:
    for number, rows in enumerate((ROWS[:2], ROWS[2:])):
        members = [member for value in rows for member in sample(value, images)]
        save_tar(tmp_path / "shards" / f"{number:03d}.tar", members)
    found = shards_of(str(tmp_path / "shards" / "{000..001}.tar"))
    assert found is not None
    return found


def test_archives_give_the_examples_of_the_same_data_in_files(shards: Shards, images: Path, tmp_path: Path) -> None:
    packed = open_index(shards, tokens(), tmp_path / "packed")
    loose = open_index(save_rows(tmp_path / "rows.json", ROWS), tokens(), tmp_path / "loose")
    one = Examples(packed, tokens(), Sight(shards, RULES, 4))
    other = Examples(loose, tokens(), Sight(images, RULES, 4))
    assert len(one) == len(other) == 4
    for number in (3, 0, 2, 1):  # in any order
        assert one[number].keys() == other[number].keys()
        assert all(torch.equal(one[number][key], other[number][key]) for key in other[number])
    assert shards.shown(packed[0].image or "") == "000.tar#a/1.png"
    assert check_instructions(packed, tokens(), Check(shards, 4, processes=1)).found == ()


def test_folder_pattern_and_single_archive_name_the_same(shards: Shards, tmp_path: Path) -> None:
    folder = shards_of(str(tmp_path / "shards"))
    single = shards_of(str(tmp_path / "shards" / "001.tar"))
    assert folder is not None
    assert single is not None
    assert list(folder.rows()) == list(shards.rows())
    assert [each.id for each in single.rows()] == ["b/3", "b/4"]
    assert shards_of(str(save_rows(tmp_path / "rows.json", ROWS))) is None


def test_captions_of_img2dataset_are_rows(images: Path, tmp_path: Path) -> None:
    about = {"caption": "a dog", "url": "x", "key": "000000017"}
    content = (images / "1.png").read_bytes()
    members = [
        ("000000017.png", content),
        ("000000017.txt", b"a dog\n"),
        ("000000017.json", json.dumps(about).encode()),
    ]
    (read,) = Shards([str(save_tar(tmp_path / "0.tar", members))]).rows()
    assert read.conversation is not None
    assert read.id == "000000017"
    assert [(turn.text, turn.image) for turn in read.conversation.turns] == [("", True), ("a dog", False)]


def test_odd_samples_are_named(images: Path, tmp_path: Path) -> None:
    content = (images / "1.png").read_bytes()
    good = json.dumps(caption("", "x.png")).encode()
    members = [
        ("1.png", content),  # no text
        ("2.json", good),  # its image is not there
        ("3.png", content),
        ("3.left.png", content),
        ("3.json", good),
        ("4.json", b"{"),
        ("5.json", b"[1]"),
        ("6.txt", b"alone"),
    ]
    rows = Shards([str(save_tar(tmp_path / "0.tar", members))]).rows()
    assert [(each.number, each.oddities[0].code, each.conversation) for each in rows] == [
        (1, "no_conversation", None),
        (2, "image_without_name", None),
        (3, "several_images", None),
        (4, "not_json", None),
        (5, "not_an_object", None),
        (6, "empty_question", None),
    ]


def test_damaged_archive_is_named_and_the_others_count(shards: Shards, tmp_path: Path) -> None:
    path = Path(shards.paths["000.tar"])
    path.write_bytes(path.read_bytes()[:2000])
    index = open_index(Shards(list(shards.paths.values())), tokens(), tmp_path / "index")
    assert [one.id for one in index] == ["b/3", "b/4"]
    assert ("000.tar", "tar_truncated") in [(name, odd.code) for _, name, odd in index.oddities if not odd.use]


def test_archive_that_changes_during_training_is_noticed(shards: Shards, tmp_path: Path) -> None:
    index = open_index(shards, tokens(), tmp_path / "index")
    examples = Examples(index, tokens(), Sight(shards, RULES, 4))
    path = Path(shards.paths["000.tar"])
    os.utime(path, ns=(0, 1))
    with pytest.raises(InputError, match=r"row 'a/1': its image 000\.tar#a/1\.png cannot be used .changed"):
        examples[0]
    again = Shards(list(shards.paths.values()))
    assert open_index(again, tokens(), tmp_path / "index")[0].id == "a/1"
    assert "pixel_values" in Examples(index, tokens(), Sight(again, RULES, 4))[0]


def test_archives_of_one_name_in_two_folders_are_looked_at_both(images: Path, tmp_path: Path) -> None:
    # img2dataset calls the first archive of every data set 00000.tar, and its first image 000000000.jpg.
    good = (images / "1.png").read_bytes()
    looked: dict[str, Any] = {}
    found = []
    for folder, content in (("captions", good), ("instructions", good[:60])):
        told = json.dumps(caption("", "x.png")).encode()
        archive = save_tar(tmp_path / folder / "00000.tar", [("0.png", content), ("0.json", told)])
        shards = Shards([str(archive)])
        index = open_index(shards, tokens(), tmp_path / f"index-{folder}")
        found.append(check_instructions(index, tokens(), Check(shards, 4, processes=1, looked=looked)))
    assert [len(each.unusable) for each in found] == [0, 1]


def test_what_cannot_be_read_in_any_order_is_refused(shards: Shards, tmp_path: Path) -> None:
    plain = Path(shards.paths["000.tar"])
    squeezed = tmp_path / "000.tar.gz"
    squeezed.write_bytes(gzip.compress(plain.read_bytes()))
    refused = shards_of(str(squeezed))
    assert refused is not None
    with pytest.raises(InputError, match="compressed: unpack it"):
        list(refused.rows())
    with pytest.raises(InputError, match="same file name"):
        Shards([str(plain), str(save_tar(tmp_path / "other" / "000.tar", []))])
    with pytest.raises(InputError, match="folder without tar archives"):
        shards_of(str(tmp_path / "images"))
