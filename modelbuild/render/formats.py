"""Values as the documents of a package show them: numbers, sizes, and text that is nothing but text in HTML, Markdown
and Python.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from markupsafe import Markup

_MARKDOWN = {ord(char): f"&#{ord(char)};" for char in "\\`*[]<>|&~$"}
_OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_LITERAL = {ord(char): f"\\u{ord(char):04x}" for char in "`<>&"}


def clean(value: Any) -> str:
    """`value` as one line of printable text: each white space is a space, each control character is U+FFFD."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(str(value).split()))


def figure(value: Any) -> str:
    """A number for people: integers whole, others with three significant digits. None is a dash, text stays text."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return clean(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e7):
        return f"{int(value):,}"
    if not math.isfinite(value) or not 1e-3 <= abs(value) < 1e7:
        return f"{value:.2e}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def percent(share: Any) -> str:
    """A share between 0 and 1 in percent."""
    return f"{100 * share:.0f} %" if is_number(share) else figure(share)


def size(size_bytes: int) -> str:
    """A number of bytes with a binary unit: `86.7 MiB`."""
    unit = min(int(math.log2(size_bytes)) // 10, 4) if size_bytes > 0 else 0
    return f"{figure(size_bytes / 1024**unit)} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def pretty(value: Any) -> Markup:
    """`value` as indented JSON in ASCII, escaped for HTML, line breaks kept."""
    return Markup.escape(json.dumps(value, indent=2, default=dict))


def plain(value: Any) -> str:
    """`value` as one line of text for an HTML page, where autoescape then makes it inert."""
    return value if isinstance(value, Markup) else clean(value)


def markdown(value: Any) -> str:
    """`value` as Markdown text in which nothing is markup, in a table's cell too."""
    return value if isinstance(value, Markup) else _OUTER_UNDERSCORE.sub("&#95;", clean(value).translate(_MARKDOWN))


def code(value: Any) -> Markup:
    """`value` as a Markdown code span, or as plain text when it could end the span or a table's cell."""
    text = clean(value)
    return Markup(markdown(text) if not text or set(text) & set("`|<>&\\") else f"`{text}`")


def literal(value: Any) -> Markup:
    """`value` as a literal that Python and YAML both read, in one line that cannot end a fenced block."""
    text = json.dumps(clean(value), ensure_ascii=False)
    return Markup(text.translate(_LITERAL))


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not True or False."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
