"""What every page relies on: no text of a corpus becomes markup, and the policy fits the page that states it."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindpairs.pages import content_policy, escape_attribute, escape_text, file_link, fill_template

TEMPLATE = '<meta content="{{policy}}"><style>p { color: red; }</style><p>{{words}}</p><script>run();</script>'


class Reader(HTMLParser):
    """What a browser would find: tags, and the values of attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]


@given(st.text())
def test_no_text_becomes_markup_or_ends_an_attribute(value: str) -> None:
    found = Reader(f'<p title="{escape_text(value)}">{escape_text(value)}</p>')
    assert (found.tags, len(found.values)) == (["p"], 1)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_attribute_gives_a_script_the_value_itself(value: str) -> None:
    assert html.unescape(escape_attribute(value)) == value
    assert Reader(f'<p data-copy="{escape_attribute(value)}">').tags == ["p"]


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2066", "\u200b", "\ufeff", "\x00", "\x1b", "\n", "\u2028", "\udce9"]
)
def test_characters_that_hide_or_reorder_are_spelled_out(character: str) -> None:
    assert escape_text(f"a{character}b").isascii()
    assert escape_text(f"a{character}b").isprintable()


def test_part_that_reads_like_a_place_stays_text_and_an_unfilled_place_is_an_error() -> None:
    page = fill_template(TEMPLATE, {"words": "{{policy}} {{words}}"})
    assert "<p>{{policy}} {{words}}</p>" in page
    with pytest.raises(KeyError, match="words"):
        fill_template(TEMPLATE, {})


def test_policy_changes_with_the_script_and_not_with_what_is_filled_in() -> None:
    (stated,) = re.findall('content="(.*?)"', fill_template(TEMPLATE, {"words": "anything"}))
    assert stated == content_policy(TEMPLATE)
    assert content_policy(TEMPLATE.replace("run", "walk")) != stated


def test_file_link_is_of_plain_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").touch()
    assert file_link(str(tmp_path / "a b.jpg")) == f"{tmp_path.as_uri()}/a%20b.jpg"
    assert {file_link(uri) for uri in (str(tmp_path), "a b.jpg", f"{tmp_path}/x.tar#y", "/" + "n" * 300, "\0")} == {""}
