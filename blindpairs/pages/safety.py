"""Makes a page safe with any file name: escaping, file links, and the page's Content-Security-Policy.

All text from a corpus (names, paths, messages, notes) goes through `escape_text` or `escape_attribute`. Characters that
are invisible or change the direction of reading are shown as escapes. The policy allows only the script and the style
of the page's own template, identified by their hashes, and the page loads nothing.
"""

import base64
import hashlib
import html
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path


def fill_template(template: str, parts: Mapping[str, str]) -> str:
    """The page: each `{{name}}` of an HTML template replaced by the part of that name, `{{policy}}` by its own policy.

    `parts` are inserted without escaping, so escape all text from a corpus first. Raises KeyError for a placeholder
    without a part.
    """
    filled = {"policy": content_policy(template), **parts}
    # One pass: {{pairs}} in an inserted file name is text, not a placeholder.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], template)


def content_policy(template: str) -> str:
    """The Content-Security-Policy of a template: `data:` images, its one <style>, its one <script> (by hash)."""
    allowed = {}
    for tag in ("style", "script"):
        body = template.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
        allowed[tag] = base64.b64encode(hashlib.sha256(body.encode("utf-8")).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{allowed['style']}'; script-src 'sha256-{allowed['script']}'"
    )


def file_link(uri: str) -> str:
    """The file:// address of an existing file, percent-encoded; "" for a member of a container."""
    try:
        path = Path(uri)
        return path.as_uri() if path.is_absolute() and path.is_file() else ""
    except (OSError, ValueError):  # a name longer than the system allows, or with a NUL
        return ""


def escape_text(value: str) -> str:
    """`value` for people to read, safe in HTML text and in quoted attributes.

    Markup is escaped; characters that hide or reorder others are shown as escapes, such as `\\u202e`.
    """
    return html.escape(visible_text(value))


def visible_text(value: str) -> str:
    """`value` with characters that hide or reorder others, or command a terminal, as escapes. No markup is escaped."""
    return "".join(map(_visible, value))


def _visible(character: str) -> str:
    joiner = character in "\u200c\u200d"  # part of emoji and of Persian words; they reorder nothing
    hides = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and not joiner
    return character.encode("unicode_escape").decode("ascii") if hides else character


def escape_attribute(value: str) -> str:
    """`value` unchanged, safe in a quoted attribute that a script reads, such as a path to copy.

    Line ends are character references, because the parser would change them. NUL, which HTML cannot hold, is left out.
    """
    # A name that is not UTF-8 has lone surrogates, which a UTF-8 page cannot hold.
    whole = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(whole).replace("\n", "&#10;").replace("\r", "&#13;").replace("\0", "")
