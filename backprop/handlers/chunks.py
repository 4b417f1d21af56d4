"""Long texts in parts: sliding windows, and runs of whole sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backprop.handlers.long import refuse
from backprop.handlers.sentences import Sentence, split
from backprop.handlers.tokens import Tokens

__all__ = ["sentence_runs", "windows"]


def windows(
    tokens: Tokens, text: str, room: int, options: Mapping[str, Any], cut: list[int]
) -> list[tuple[int, int]]:
    """Return (first character, one past the last) of windows that cover ``text``.

    Args:
        tokens: the model's tokenizer.
        text: what may be too long.
        room: most tokens a window; neighbours share a quarter of it.
        options: ``long``: ``chunk`` (default), ``truncate`` (the first only) or ``error``.
        cut: the number of tokens cut is added to it, for ``note_cut``.

    Raises:
        InputError: it does not fit and ``long`` is ``error``, or there is no room at all.
    """
    [encoding] = tokens.plain([text])
    length, long = len(encoding.ids), options.get("long", "chunk")
    if length <= room:
        return [(0, len(text))]
    refuse("context", length, room, long)
    encoding.truncate(room, room // 4)
    pieces = [encoding, *encoding.overflowing]
    spans = [(piece.offsets[0][0], piece.offsets[-1][1]) for piece in pieces]
    if long == "truncate":
        cut.append(length - room)
        return spans[:1]
    return spans


def sentence_runs(tokens: Tokens, text: str, room: int) -> list[str]:
    """Return parts of ``text`` of whole sentences, each at most ``room`` tokens.

    A sentence that is longer by itself is cut between tokens; nothing is lost.

    Args:
        tokens: the model's tokenizer.
        text: what is too long.
        room: most tokens a part.
    """
    runs: list[str] = []
    start = None
    for sentence in _short_sentences(tokens, text, room):
        # Counted together: what stands between sentences has tokens too.
        longer = text[start : sentence.end] if start is not None else ""
        if longer and tokens.count([longer])[0] <= room:
            runs[-1] = longer
        else:
            start = sentence.start
            runs.append(sentence.text)
    return runs


def _short_sentences(tokens: Tokens, text: str, room: int) -> Sequence[Sentence]:
    """Return the sentences, those over ``room`` tokens in pieces."""
    short: list[Sentence] = []
    for sentence in split(text):
        [encoding] = tokens.plain([sentence.text])
        if not encoding.ids:  # nothing the model can read, such as control characters
            continue
        # A character of several tokens may be cut; then both pieces have all of it.
        encoding.truncate(room - SEAM if len(encoding.ids) > room else room, 0)
        for piece in [encoding, *encoding.overflowing]:
            first, last = piece.offsets[0][0], piece.offsets[-1][1]
            start, end = sentence.start + first, sentence.start + last
            short.append(Sentence(text[start:end], start, end))
    return short


SEAM = 6
"""Tokens that a cut character may add to a piece: three at each end."""
