"""Imports go one way: a module knows only what stands to its left, and only the command line knows the terminal."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "blindpairs"

# Below everything, in this order: what knows nothing of images, vectors or models.
BASE = ["errors", "access", "workspace", "cores", "progress", "statistics"]
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
    "executors",
    "demo",
    "doctor",
    "cli",
]
ORDER = BASE + STEPS
UNKNOWN_TO = {"selfjoin": {"images", "encoders", "store", "embed"}}  # it works on arrays
TERMINAL = {"typer", "rich"}


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
    """Everything before a module, but for what it is not to know."""
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


def test_the_walk_sees_imports_inside_functions_and_both_spellings(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from blindpairs import store\ndef late():\n    import torch.nn\n    from blindpairs.mine import a\n"
    )
    assert imports(source) == {"blindpairs.store", "torch.nn", "blindpairs.mine.a"}
