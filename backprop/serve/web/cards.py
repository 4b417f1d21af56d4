"""Model cards: Markdown that a stranger may have written, as HTML that can do nothing."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markupsafe import Markup

__all__ = ["html"]

SCHEMES = ("http", "https", "mailto")
LONGEST = 100_000
"""Characters of a card that are shown."""

FRONT = re.compile(r"\A---\r?\n.*?\r?\n---\s*(?:\n|\Z)", re.DOTALL)
TITLE = re.compile(r"\A\s*#(?!#)[^\n]*\n?")


def html(card: str) -> Markup:
    """Return the card as HTML: no markup of its own, no pictures, no links but to the web.

    The facts above the first line and the title are left out; the page has both.
    """
    text = FRONT.sub("", card[:LONGEST])
    return Markup(_reader().render(TITLE.sub("", text)))  # noqa: S704 -- html=False escapes it all


def _reader() -> MarkdownIt:
    # Pictures would make the visitor's browser ask another server, and the policy refuses them.
    reader = MarkdownIt("commonmark", {"html": False, "maxNesting": 20})
    reader.enable("table").disable(["image", "html_block", "html_inline"])
    reader.validateLink = _is_harmless  # type: ignore[method-assign]
    reader.add_render_rule("link_open", _link)
    for level in ("heading_open", "heading_close"):
        reader.add_render_rule(level, _heading)
    for cell in ("td_open", "th_open"):
        reader.add_render_rule(cell, _cell)
    reader.add_render_rule("table_open", lambda *_: TABLE_OPEN)
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return reader


# A wide table scrolls by itself, and by keyboard too.
TABLE_OPEN = '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>\n'


def _is_harmless(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return False
    return parts.scheme.lower() in SCHEMES


def _link(self: object, tokens: list, index: int, options: object, env: object) -> str:  # type: ignore[type-arg]
    token = tokens[index]
    token.attrSet("rel", "nofollow noopener noreferrer")
    token.attrSet("target", "_blank")
    return str(self.renderToken(tokens, index, options, env))  # type: ignore[attr-defined]


def _cell(self: object, tokens: list, index: int, options: object, env: object) -> str:  # type: ignore[type-arg]
    """Say how a column is aligned by a class: the policy allows no styles."""
    token = tokens[index]
    if "right" in str(token.attrs.pop("style", "")):
        token.attrSet("class", "number")
    return str(self.renderToken(tokens, index, options, env))  # type: ignore[attr-defined]


def _heading(self: object, tokens: list, index: int, options: object, env: object) -> str:  # type: ignore[type-arg]
    """Put a card's headings below those of the page."""
    token = tokens[index]
    token.tag = f"h{min(int(token.markup.count('#') or 2) + 1, 6)}"
    return str(self.renderToken(tokens, index, options, env))  # type: ignore[attr-defined]
