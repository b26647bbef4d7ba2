"""The nine visual patterns have one spelling everywhere."""

import re
from pathlib import Path

from blindpairs.demo.world import PATTERNS
from blindpairs.mine.patterns import VisualPattern

PACKAGE = Path(__file__).parents[2] / "blindpairs"


def test_demo_world_has_one_hidden_attribute_for_each_of_the_nine_patterns_in_their_order() -> None:
    assert [pattern.name for pattern in PATTERNS.values()] == list(VisualPattern)
    assert len(VisualPattern) == 9


def test_names_of_patterns_are_written_in_one_file_only() -> None:
    names = "|".join(re.escape(pattern) for pattern in VisualPattern if " " in pattern)
    writing = [path for path in PACKAGE.rglob("*.py") if re.search(names, path.read_text(encoding="utf-8"))]
    assert writing == [PACKAGE / "mine" / "patterns.py"]
