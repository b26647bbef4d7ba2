"""Where the files of a model are on this machine, by its spec, without the library that would load them.

`is_unchanged` says whether nothing has changed since `file_record`. Promises: a file with another size, another time of
change or another content is a change, and so is a file more or less; where the times alone differ, the content decides.
"""

import stat
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from blindpairs import __version__
from blindpairs.encoders.specs import LOCAL_DIR, parse_spec, without_demo
from blindpairs.encoders.weights import CONFIGS, hub_folder, local_folder
from blindpairs.workspace import sha256_file

LIBRARIES = ("torch", "open_clip_torch", "transformers", "timm", "tokenizers")  # another release may compute otherwise


def origin_of(spec: str) -> Path | None:
    """The folder or the file that a spec names; None where only its library knows: for the tags of open_clip and timm.

    Raises what loading raises for a spec that names nothing.
    """
    parsed = without_demo(parse_spec(spec))
    if parsed.target.startswith(LOCAL_DIR):
        return local_folder(parsed.text, parsed.target.removeprefix(LOCAL_DIR)).resolve()
    if parsed.library == "hf":
        return hub_folder(parsed.text, parsed.target, CONFIGS).resolve()
    file = Path(parsed.target.partition("/")[2]).expanduser()
    return file.resolve() if parsed.library == "open_clip" and file.is_file() else None


def file_record(origin: Path) -> dict[str, Any]:
    """Times and hashes of a folder's files, without its sub-folders, or of one file; for JSON. Reads every byte."""
    files = {str(file): [*_size_and_times(file), sha256_file(file)] for file in _files(origin)}
    return {"origin": str(origin), "libraries": _libraries(), "files": files}


def is_unchanged(record: Mapping[str, Any], origin: Path) -> bool:
    """Whether `origin` has the files of a `file_record`, and the same libraries would load them.

    Reads only files whose times differ.
    """
    if record.get("origin") != str(origin) or record.get("libraries") != _libraries() or not _is_current(origin):
        return False
    before, now = record.get("files"), {str(file): file for file in _files(origin)}
    if not isinstance(before, Mapping) or not now or before.keys() != now.keys():
        return False
    return all(_same_file(file, before[name]) for name, file in now.items())


def _same_file(file: Path, before: Any) -> bool:
    if not isinstance(before, list) or len(before) != 4:
        return False
    *before_stat, content = before
    now_stat = _size_and_times(file)
    return before_stat == now_stat or (before_stat[0] == now_stat[0] and content == sha256_file(file))


def _size_and_times(file: Path) -> list[int]:
    """Size, and the times of the last change of content and of the file itself, which no copy can set."""
    stat_result = file.stat()
    return [stat_result.st_size, stat_result.st_mtime_ns, stat_result.st_ctime_ns]


def _files(origin: Path) -> list[Path]:
    if not origin.is_dir():
        return [origin] if origin.is_file() else []
    return sorted(path for path in origin.iterdir() if path.exists() and stat.S_ISREG(path.stat().st_mode))


def _is_current(origin: Path) -> bool:
    """Whether a file of the hub's cache is of the revision that would be loaded now; True for any other."""
    snapshot = origin if origin.is_dir() else origin.parent
    main = snapshot.parent.parent / "refs" / "main"
    if snapshot.parent.name != "snapshots" or not main.is_file():
        return True
    return main.read_text(encoding="utf-8").strip() == snapshot.name


def _libraries() -> dict[str, str]:
    versions = {"blindpairs": __version__}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
