"""``spiece.model``, a vocabulary of SentencePiece: its fields are walked, none is executed.

The library that reads it is C++, so its one binary table, by which text is normalised, has to be
one of those that SentencePiece itself comes with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from backprop.serve.vetting.places import Place
from backprop.serve.vetting.refusing import refuse

__all__ = ["TABLES", "check_pieces"]

MOST_PIECES = 1 << 20
LONGEST_PIECE = 2048
PIECES, TRAINER, NORMALIZER, SELF_TEST, DENORMALIZER = 1, 2, 3, 4, 5
"""Numbers of the fields of a model, by sentencepiece_model.proto."""

TABLE = 2
"""Number of a normaliser's table, ``precompiled_charsmap``."""

TABLES = frozenset(
    {
        "1e2c7b43d3ee9755ceaa2ac335e253d8703604e0249ee1e81156c92b46423844",
        "7e46d9e08af4b6a37991b04fb8388644c1595a0abcd0f26d6a5d575e2a3663ea",
        "2c03512e62f9ed965ec90d85314211b63b5b8aa0395311ea2147eec9ff738907",
        "d8dfef3d6db0eef0742f8b55a73aee7fce6c1e21d26a09b8d3d4b52c42a791cb",
    }
)
"""sha256 of SentencePiece's tables: nmt_nfkc, nfkc, nmt_nfkc_cf and nfkc_cf."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def check_pieces(place: Place) -> None:
    """Refuse a ``spiece.model`` that is damaged or has a table of its own.

    Raises:
        ArtefactError: it is.
    """
    if "spiece.model" not in place.files:
        return
    where = place.where("spiece.model")
    raw = (place.folder / "spiece.model").read_bytes()
    pieces = 0
    for number, value in _fields(raw, where):
        if number not in (PIECES, TRAINER, NORMALIZER, SELF_TEST, DENORMALIZER):
            refuse(where, f"it has the unknown field {number}")
        inner = dict(_fields(value, where))
        if number == PIECES:
            pieces += 1
            if pieces > MOST_PIECES or len(inner.get(1, b"")) > LONGEST_PIECE:
                refuse(where, "it has too many pieces, or too long ones")
        if number in (NORMALIZER, DENORMALIZER) and (table := inner.get(TABLE)):
            if hashlib.sha256(table).hexdigest() not in TABLES:
                refuse(
                    where,
                    "it normalises text by a table of its own",
                    "save the tokenizer as tokenizer.json alone",
                )
    if not pieces:
        refuse(where, "it has no pieces")


def _fields(raw: bytes, where: str) -> Iterator[tuple[int, bytes]]:
    """Yield a message's fields, by number; numbers themselves are yielded as no bytes."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place, where)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            _, place = _varint(raw, place, where)
            yield number, b""
            continue
        if kind == BYTES:
            length, place = _varint(raw, place, where)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(kind, len(raw))
        if number == 0 or place + length > len(raw):
            refuse(where, "it is damaged")
        yield number, raw[place : place + length]
        place += length


def _varint(raw: bytes, place: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(raw):
            break
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    refuse(where, "it is damaged")
