"""Folders that other tools read: replaced whole or not at all, with images as plain files.

Promises: a folder is written aside and renamed, so that a killed export leaves the older one as it was; a folder that
blindpairs did not write is never replaced, nor one to which something was added; the same benchmark gives the same
bytes; images are read and written one at a time. `blindpairs.json` in the folder says what it is, and what it lacks.
"""

import io
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from blindpairs.access import listed, present, reading, unwritable
from blindpairs.benchmark.foreign import Exported
from blindpairs.benchmark.model import Benchmark, BenchmarkPair, unreadable_images
from blindpairs.errors import InputError, Undecodable
from blindpairs.images import image_id
from blindpairs.images.decode import decode
from blindpairs.images.header import HEAD_BYTES, describe_unknown, ends_properly, exif_orientation, jpeg_header, sniff
from blindpairs.workspace import aside_name, owner_is_dead, read_json, stamp

RECORD = "blindpairs.json"
JPEG_QUALITY = 95
SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}  # which file managers leave in any folder
LONGEST_TEXT = 131_072  # characters; in a longer cell, the csv module of the official scripts stops


@contextmanager
def new_folder(folder: Path, form: str) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends well, and disappears when it does not.

    Raises InputError, before the block, where something else than an older export in the format `form` is there.
    """
    target = folder.resolve()
    _check_replaceable(target, form)
    aside = target.parent / aside_name(target.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for dead in listed(target.parent):
            if owner_is_dead(dead.name) and dead.is_dir():
                shutil.rmtree(dead, ignore_errors=True)
        aside.mkdir()
        yield aside
        if target.exists():  # a folder cannot be renamed onto one that is not empty
            older = target.parent / aside_name(target.name)
            # Between the two renames there is no folder at the target; no portable call exchanges two folders.
            target.rename(older)
            aside.rename(target)
            shutil.rmtree(older)
        else:
            aside.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(aside)


def write_record(aside: Path, form: str, benchmark: Benchmark, exported: Exported) -> None:
    """Write `blindpairs.json`, the last file of an export: it lists the others, so that nothing foreign is removed."""
    record = {
        **stamp(),
        "format": form,
        "files": _files_below(aside),
        "name": benchmark.name,
        "fingerprint": benchmark.fingerprint,  # of the whole benchmark, with the pairs that were refused
        "patterns": list(benchmark.patterns),
        "ground_truth": benchmark.ground_truth,
        "pairs": exported.pairs,
        "refused": dict(exported.refused),
        "notes": list(exported.notes),
    }
    (aside / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> Mapping[str, Any]:
    """What `blindpairs.json` of a folder says; empty where there is none. InputError for one that was changed."""
    if not present(folder / RECORD):
        return {}
    record = read_json(folder / RECORD)
    for name in ("format", "name", "ground_truth", "files", "patterns"):
        value = record.get(name)
        texts = value if name in ("files", "patterns") else [value]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{folder / RECORD} was changed: its {name} is {str(value)[:40]!r}; export again")
    return record


@dataclass(frozen=True)
class Selection:
    """The pairs that a foreign format can hold, in the order of the benchmark, and why it refuses the others."""

    pairs: list[BenchmarkPair]
    refused: dict[str, str]  # pair id -> reason

    @property
    def blind(self) -> list[BenchmarkPair]:
        """Those that are no controls."""
        return [pair for pair in self.pairs if not pair.is_control]

    @property
    def controls(self) -> list[BenchmarkPair]:
        """The controls."""
        return [pair for pair in self.pairs if pair.is_control]


def select(tool: str, benchmark: Benchmark, refusal: Callable[[BenchmarkPair], str]) -> Selection:
    """The pairs for which `refusal` gives no reason; InputError where no blind pair is left."""
    refused = {pair.pair_id: reason for pair in benchmark.pairs if (reason := refusal(pair))}
    selection = Selection([pair for pair in benchmark.pairs if pair.pair_id not in refused], refused)
    require_blind_pairs(tool, benchmark, selection.blind, refused)
    return selection


def require_blind_pairs(
    tool: str, benchmark: Benchmark, blind: Sequence[BenchmarkPair], refused: Mapping[str, str]
) -> None:
    """InputError where a tool would get no blind pair: it has no use for an empty table."""
    if not blind:
        why = next(iter(refused.values()), "it has none")
        raise InputError(f"{tool} can hold no blind pair of {benchmark.name}: {why}")


def _check_replaceable(folder: Path, form: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder for the export")
    if not {path.name for path in listed(folder)} - SYSTEM_FILES:
        return
    if not present(folder / RECORD):
        raise InputError(f"{folder} is not empty, and not an export of blindpairs: name another folder")
    record = read_record(folder)
    if record.get("format") != form:
        raise InputError(f"{folder} is an export in the format {record.get('format')}, not {form}: name another folder")
    added = sorted(set(_files_below(folder)) - {RECORD, *record["files"]})
    if added:
        raise InputError(f"{folder} also holds {added[0]}, which blindpairs did not write: move it away")


def _files_below(folder: Path) -> list[str]:
    """The files of a folder and of its folders, without those of SYSTEM_FILES, by their paths in it."""
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(str(path.relative_to(folder)) for path in files if path.name not in SYSTEM_FILES)


def each_image(
    benchmark: Benchmark, pairs: Collection[BenchmarkPair], convert: Callable[[bytes], bytes]
) -> Iterator[tuple[str, bytes]]:
    """Every image of some pairs once, as `convert` makes it: (id, bytes), in the order in which they are read.

    Raises InputError after the last one if any image cannot be read, naming the first pair that needs one of them.
    """
    failed: dict[str, Undecodable] = {}
    for key, data in benchmark.images(list(dict.fromkeys(key for pair in pairs for key in pair.image_ids))):
        try:
            if isinstance(data, Undecodable):
                raise data
            yield key, convert(data)
        except Undecodable as error:
            failed[key] = error
    if failed:
        raise unreadable_images(pairs, failed, "restore them and export again")


def write_jpegs(
    benchmark: Benchmark, pairs: Collection[BenchmarkPair], places: Mapping[str, Iterable[Path]]
) -> dict[str, str]:
    """Write each image, as `as_jpeg` makes it, to its places; returns the ids of the files that were written."""
    exported_ids: dict[str, str] = {}
    for key, data in each_image(benchmark, pairs, as_jpeg):
        exported_ids[key] = image_id(data)
        for place in places[key]:
            place.write_bytes(data)
    return exported_ids


def converted_note(exported_ids: Mapping[str, str]) -> list[str]:
    """A sentence about the images that did not keep their bytes; none if all did."""
    converted = sum(key != new for key, new in exported_ids.items())
    return [f"Images that became upright RGB JPEGs, and so have new ids: {converted:,}."] if converted else []


def as_jpeg(data: bytes) -> bytes:
    """The bytes as they are if they are an upright RGB JPEG, else the image, upright, as a JPEG of quality 95.

    The scripts of MMVP open `.jpg` files as they are stored, without turning or converting them.
    """
    if sniff(data[:HEAD_BYTES]) == "jpeg":
        header = jpeg_header(data)
        # A JPEG segment has at most 64 KiB, so that is how far Exif data can reach.
        turned = header.exif and exif_orientation(data[header.exif : header.exif + 65536]) != 1
        if header.components == 3 and header.precision == 8 and header.scan and not turned:
            return data
    out = io.BytesIO()
    Image.fromarray(decode(data).pixels).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def text_refusal(texts: Iterable[str]) -> str:
    """Why a text file of a foreign format cannot hold some texts; "" if it can."""
    for text in texts:
        if "\0" in text:
            return "a text holds a NUL character, at which many readers stop"
        if len(text) > LONGEST_TEXT:
            return f"a text has {len(text):,} characters; the csv module reads {LONGEST_TEXT:,}"
        try:
            text.encode()
        except UnicodeEncodeError:
            return "a text is not valid Unicode"
    return ""


class FolderImages:
    """Reads images from their files by id; a class, so that a benchmark that was imported can be pickled."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    def __call__(self, image_ids: Collection[str]) -> Iterator[tuple[str, bytes | Undecodable]]:
        """(id, bytes, or why they cannot be read) for each id; a file whose bytes changed is not read as the image."""
        for key in image_ids:
            if key not in self._paths:
                yield key, Undecodable("missing", "the benchmark has no image with this id")
                continue
            try:
                data = self._paths[key].read_bytes()
            except OSError as error:
                yield key, Undecodable("io", f"cannot be read: {error.strerror or error}")
                continue
            changed = Undecodable("changed", "the file was changed after the benchmark was imported")
            yield key, data if image_id(data) == key else changed


def id_of_file(path: Path) -> str:
    """The id of the image in a file; InputError for one that is cut short or none, such as a download's error page."""
    with reading(path):
        data = path.read_bytes()
    kind = sniff(data[:HEAD_BYTES])
    if kind is None:
        looks = describe_unknown(data) if data else "has no bytes"
        raise InputError(f"{path} is not an image (it {looks}): download the benchmark again")
    if not ends_properly(data, kind):  # some decoders need no end, so what decides is whether ours does
        try:
            decode(data)
        except Undecodable as error:
            raise InputError(f"{path} is damaged ({error.message}): download the benchmark again") from error
    return image_id(data)
