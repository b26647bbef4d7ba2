"""Imports go in one direction: a module knows only the modules before it in ORDER, and only cli/ knows the terminal."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "blindpairs"

# Below everything, in this order: what knows nothing of images, vectors or models.
BASE = ["errors", "defaults", "access", "workspace", "cores", "progress", "statistics", "system", "lazily"]
# The pipeline: a step knows only the steps before it. A folder such as demo/ counts as one module.
STEPS = [
    "images",
    "encoders",
    "store",
    "embed",
    "selfjoin",
    "index",
    "mine",
    "pages",
    "benchmark",
    "vlm",
    "author",
    "evaluate",
    "mof",
    "executors",
    "demo",
    "doctor",
    "cli",
]
ORDER = BASE + STEPS
UNKNOWN_TO = {
    "selfjoin": {"images", "encoders", "store", "embed"},  # it works on arrays
    "mof": set(STEPS[STEPS.index("store") : STEPS.index("mof")]),  # it knows images and encoders, not the pipeline
}
TERMINAL = {"typer", "rich"}
# The files of a store, as no module outside of store/ may spell them.
STORE_FILES = re.compile(r"manifest\.json|plan\.parquet|\bpart-|\.done\.json|^failures$")
NAMES_A_STORE_FILE = {"workspace.py"}  # where each artefact is, for messages
# Parquet files of other formats, each of its own module: corpora, mined pairs, the demo's scenes.
READS_PARQUET = {
    "images/parquet.py",
    "mine/files.py",
    "mine/maps.py",
    "mine/reading.py",
    "benchmark/native.py",
    "benchmark/lmms_eval.py",
    "evaluate/similarity_files.py",
    "evaluate/pope_files.py",
    "demo/corpus.py",
    "demo/truth.py",
}


def module_of(path: Path) -> str:
    """`demo` for every file in demo/, else the file's own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> dict[str, list[Path]]:
    """Every module but the package's own two dunder files, with its files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found.setdefault(module_of(path), []).append(path)
    return {name: files for name, files in found.items() if name not in ("__init__", "__main__")}


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports, wherever in the file: most imports of heavy steps sit inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from blindpairs import store` names a module, `from blindpairs.store import Store` a thing inside one
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_modules(path: Path) -> set[str]:
    """The modules of this package that a file imports, its own aside."""
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("blindpairs.")}
    return ours - {module_of(path), "__version__"}


def may_import(module: str) -> set[str]:
    """Everything before a module in ORDER, without the modules that it must not know."""
    return set(ORDER[: ORDER.index(module)]) - UNKNOWN_TO.get(module, set())


def test_every_module_has_a_place() -> None:
    assert set(sources()) <= set(ORDER), "a new module must be given its place in ORDER on purpose"


@pytest.mark.parametrize("module", sorted(sources()))
def test_module_imports_only_what_stands_to_its_left(module: str) -> None:
    for path in sources()[module]:
        assert imported_modules(path) <= may_import(module), path.name


@pytest.mark.parametrize("module", sorted(set(sources()) - {"cli"}))
def test_only_the_command_line_knows_the_terminal(module: str) -> None:
    for path in sources()[module]:
        assert not {name.split(".")[0] for name in imports(path)} & TERMINAL, path.name


def test_nobody_imports_click() -> None:
    # Typer carries its own copy: an exception of the other one would be a traceback for the user.
    tests = Path(__file__).parent.rglob("*.py")
    files = [*PACKAGE.rglob("*.py"), *tests]
    assert [path.name for path in files if any(name.split(".")[0] == "click" for name in imports(path))] == []


def test_nothing_prints() -> None:
    def calls_print(path: Path) -> bool:
        return any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )

    assert [path.name for path in PACKAGE.rglob("*.py") if calls_print(path)] == []


def texts(path: Path) -> Iterator[str]:
    """Every string of a file except its docstrings; each part of an f-string is one string."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


OUTSIDE_STORE = [path for path in sorted(PACKAGE.rglob("*.py")) if module_of(path) != "store"]


@pytest.mark.parametrize("path", OUTSIDE_STORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_store_touches_its_files(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    if name not in NAMES_A_STORE_FILE:
        assert [text for text in texts(path) if STORE_FILES.search(text)] == []
    if name not in READS_PARQUET:
        assert not {found for found in imports(path) if found.startswith("pyarrow.parquet")}


def test_the_walk_sees_store_files_in_every_spelling(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        '"""Of manifest.json."""\nimport pyarrow.parquet as pq\ndef late(folder, n):\n    """Of plan.parquet."""\n'
        '    return folder / "manifest.json", f"part-{n:05d}.done.json", folder / "failures", "no failures here"\n'
    )
    found = [text for text in texts(source) if STORE_FILES.search(text)]
    assert sorted(found) == [".done.json", "failures", "manifest.json", "part-"]
    assert "pyarrow.parquet" in imports(source)


def test_the_walk_sees_imports_inside_functions_and_both_spellings(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from blindpairs import store\ndef late():\n    import torch.nn\n    from blindpairs.mine import a\n"
    )
    assert imports(source) == {"blindpairs.store", "torch.nn", "blindpairs.mine.a"}
