"""Sentences of a text, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Sentence", "split"]


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it stands: ``source[start:end] == text``."""

    text: str
    start: int
    end: int


ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e eg ie cf al fig figs eq eqs no nos vol pp inc ltd co"
    " corp dept est approx gen col sgt capt lt rev hon pres gov sen rep jan feb mar apr jun jul aug"
    " sep sept oct nov dec mon tue wed thu fri sat sun u.s u.k a.m p.m ph.d resp sec chap ed eds"
    " ref refs".split()
)
"""Words that end with a full stop inside a sentence, lower case, without it."""

WORDS_TOO = frozenset("fig figs mar no nos sat sun wed".split())
"""Abbreviations that are also words: only before a number, or (but for "No.") with a capital."""

END = re.compile(
    r"(?<![.!?…])[.!?…]+[\"'”’)\]]*(?=\s|$)"
    r"|(?<![。！？])[。！？]+(?:(?![。！？」』”’）])|[」』”’）]+(?=[\s「『“‘（]|$))"
    r"|\n\s*\n"
)
"""Where a sentence may end: a mark before white space, a full-width mark, or an empty line.

Of several marks the first starts the match, so that a long run of them takes no longer.
"""

NEXT_LETTER = re.compile(r"\s*(\S?)")
LAST_WORD = re.compile(r"[\w.]+$")


def split(text: str) -> list[Sentence]:
    """Return the sentences of ``text`` in order, without the white space between them.

    Full stops of abbreviations, initials and decimals do not end a sentence; an empty line does.
    """
    return [
        Sentence(text[start:end], start, end)
        for start, end in map(lambda span: _strip(text, *span), _spans(text))
        if end > start
    ]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for mark in END.finditer(text):
        if _is_end(text, mark):
            yield start, mark.end()
            start = mark.end()
    yield start, len(text)


def _is_end(text: str, mark: re.Match[str]) -> bool:
    """Whether the sentence ends at ``mark``, and not just an abbreviation or an initial."""
    next_letter = NEXT_LETTER.match(text, mark.end())
    following = next_letter[1] if next_letter else ""
    if following.islower() and SAME_SENTENCE.fullmatch(mark.group()):
        return False
    if mark.group() != ".":
        return True
    last = LAST_WORD.search(text, max(0, mark.start() - 20), mark.start())
    word = last.group() if last else ""
    is_initial = len(word) == 1 and word.isalpha() and word.isupper()
    return not (is_initial or _is_abbreviation(word, following))


SAME_SENTENCE = re.compile(r"[.…].*|[!?]+[\"'”’)\]]+")
"""Marks that end nothing before a small letter: dots, and what ends a quotation."""


def _is_abbreviation(word: str, following: str) -> bool:
    name = word.lower().strip(".")
    if name in WORDS_TOO:
        return following.isdigit() or (word[0].isupper() and name != "no")
    return name in ABBREVIATIONS


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span without white space at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
