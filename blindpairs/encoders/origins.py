"""Where a model lies on this machine, told from its spec, without the library that would load it.

`still_the_same` says whether nothing there has changed since `seen_at` looked. Promises: what has another size, another
time of change or another content than it had is not the same, and neither is a folder with a file more or less; where
times alone differ, the content decides.
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
    asked = without_demo(parse_spec(spec))
    if asked.target.startswith(LOCAL_DIR):
        return local_folder(asked.text, asked.target.removeprefix(LOCAL_DIR)).resolve()
    if asked.library == "hf":
        return hub_folder(asked.text, asked.target, CONFIGS).resolve()
    file = Path(asked.target.partition("/")[2]).expanduser()
    return file.resolve() if asked.library == "open_clip" and file.is_file() else None


def seen_at(origin: Path) -> dict[str, Any]:
    """What a folder, without its sub-folders, or a file holds, ready for JSON. Reads every byte of it."""
    found = {str(file): [*_times(file), sha256_file(file)] for file in _files(origin)}
    return {"origin": str(origin), "libraries": _libraries(), "files": found}


def still_the_same(seen: Mapping[str, Any], origin: Path) -> bool:
    """Whether `origin` is what `seen_at` saw, and the same libraries would load it. Reads only files of other times."""
    if seen.get("origin") != str(origin) or seen.get("libraries") != _libraries() or not _is_current(origin):
        return False
    before, now = seen.get("files"), {str(file): file for file in _files(origin)}
    if not isinstance(before, Mapping) or not now or before.keys() != now.keys():
        return False
    return all(_same(file, before[name]) for name, file in now.items())


def _same(file: Path, before: Any) -> bool:
    if not isinstance(before, list) or len(before) != 4:
        return False
    *times, content = before
    return times == _times(file) or (times[0] == _times(file)[0] and content == sha256_file(file))


def _times(file: Path) -> list[int]:
    """Size, and the times of the last change of content and of the file itself, which no copy can set."""
    about = file.stat()
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns]


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
    found = {"blindpairs": __version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
