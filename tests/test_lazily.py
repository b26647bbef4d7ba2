"""Packages whose names are loaded when they are first used: nothing is missing, and light use stays light."""

import subprocess
import sys
from importlib import import_module

import pytest

from blindpairs.system import child_environment


@pytest.mark.parametrize("package", ["blindpairs.encoders", "blindpairs.mine", "blindpairs.pages"])
def test_every_name_of_the_package_is_there_and_no_other(package: str) -> None:
    loaded = import_module(package)
    for name in loaded.__all__:
        assert getattr(getattr(loaded, name), "__name__", name) == name  # a constant has none
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        loaded.nothing  # noqa: B018


@pytest.mark.parametrize(
    "line",
    [
        "from blindpairs.encoders.text_side import has_text_side",  # asked of every model that `eval` is given
        "from blindpairs.mine import read_pairs",
        "from blindpairs.pages import escape_text",
        "from blindpairs.benchmark.recognise import read_benchmark",
        "from blindpairs.evaluate.session import Session",
        "from blindpairs.evaluate.contenders import Contenders",
        "from blindpairs.evaluate.reporting import write_results",
    ],
)
def test_light_names_load_no_torch(line: str) -> None:
    code = f"import sys; {line}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=child_environment(), check=False)
    assert done.returncode == 0
