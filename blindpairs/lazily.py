"""Names of a package that are loaded when they are first used, for packages of which most users need a light part.

For the reader and for the type checker the package imports them as usual, below `if TYPE_CHECKING`.
"""

from collections.abc import Callable
from importlib import import_module


def lazily(package: str, **names: str) -> Callable[[str], object]:
    """The `__getattr__` of a package (PEP 562): for each of its modules, the names that come from it, with spaces."""
    places = {name: module for module, listed in names.items() for name in listed.split()}

    def load(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{places[name]}"), name)

    return load
