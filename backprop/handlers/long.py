"""What happens to text over the model's limit: cut in pieces, cut short, or refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Encoding

from backprop.errors import InputError
from backprop.handlers.tokens import Tokens

__all__ = ["Pieces", "fit", "note_cut", "refuse"]

logger = logging.getLogger(__name__)


@dataclass
class Pieces:
    """Texts as pieces that fit the model.

    Args:
        encodings: one a piece, special tokens included.
        owners: index of the text each piece belongs to, ascending.
        weights: tokens of each piece, without special ones; what averages weigh by.
    """

    encodings: list[Encoding] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each piece, special ones included."""
        return [len(encoding.ids) for encoding in self.encodings]


def fit(
    tokens: Tokens,
    texts: Sequence[str],
    *,
    long: str,
    pairs: Sequence[str] | None = None,
    stride: int = 0,
    pair_first: bool = False,
    rows: Sequence[int] | None = None,
) -> Pieces:
    """Return the texts as pieces that fit the model, by the policy ``long``.

    Args:
        tokens: the model's tokenizer; its ``max_length`` is the limit.
        texts: what may be over the limit.
        long: ``chunk`` makes several pieces of a text, ``truncate`` keeps the first and warns
            once with the number of tokens cut, ``error`` refuses.
        pairs: a second text for each, never cut.
        stride: tokens that neighbouring pieces share.
        pair_first: whether the second text goes before, as a question does before its context.
        rows: number of the caller's text each of ``texts`` is, where one comes several times; a
            warning counts those.

    Raises:
        InputError: a text is over the limit and ``long`` is ``error``, or a second text leaves
            no room for the first.
    """
    pieces = Pieces()
    seconds = tokens.plain(pairs) if pairs is not None else [None] * len(texts)
    rows = range(len(texts)) if rows is None else rows
    cut: dict[int, int] = {}
    for i, (encoding, second) in enumerate(zip(tokens.plain(texts), seconds, strict=True)):
        room = _room(tokens, second)
        length = len(encoding.ids)
        if length > room:
            refuse(f"text {i}", length, room, long)
            encoding.truncate(room, min(stride, room // 2))
        kept = [encoding, *encoding.overflowing] if long == "chunk" else [encoding]
        if length > room and long != "chunk":
            cut[rows[i]] = max(length - room, cut.get(rows[i], 0))
        for piece in kept:
            ordered = (second, piece) if pair_first and second is not None else (piece, second)
            pieces.encodings.append(tokens.wrap(*ordered))
            pieces.owners.append(i)
            pieces.weights.append(len(piece.ids))
    note_cut(list(cut.values()), len(set(rows)), tokens.max_length)
    return pieces


def note_cut(cut: Sequence[int], of: int, limit: int) -> None:
    """Warn, once a call, if text was cut: how much, and what else can be done.

    Args:
        cut: tokens lost, one number for each text that was cut.
        of: how many texts there were.
        limit: the model's limit in tokens.
    """
    if not cut:
        return
    logger.warning(
        "%d of %d texts were over the model's limit of %d tokens; %d tokens were cut. Pass "
        "long='chunk' to use all of them, or long='error' to refuse.",
        len(cut),
        of,
        limit,
        sum(cut),
    )


def _room(tokens: Tokens, second: Encoding | None) -> int:
    """Return how many tokens a text may have beside its second text and the special ones."""
    if second is None:
        return tokens.max_length - tokens.special
    room = tokens.max_length - tokens.special_of_pair - len(second.ids)
    if room < MIN_ROOM:
        raise InputError(
            f"A text beside the one to read has {len(second.ids)} tokens; the model takes "
            f"{tokens.max_length} in all and at least {MIN_ROOM} are needed for the other; "
            "make it shorter."
        )
    return room


MIN_ROOM = 8


def refuse(where: str, length: int, room: int, long: str) -> None:
    """Refuse a text that is too long, if that is the policy; or one there is no room for.

    Raises:
        InputError: ``long`` is ``error``, or ``room`` is too small to cut into.
    """
    if long == "error" or room < MIN_ROOM:
        raise InputError(
            f"{where} has {length} tokens and the model has room for {max(room, 0)}; make it "
            "shorter, or pass long='chunk' or long='truncate'."
        )
