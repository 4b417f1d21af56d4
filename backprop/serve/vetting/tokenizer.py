"""``tokenizer.json``: parts of known kinds, none of which can run long or make text explode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from backprop.serve.vetting.patterns import check_pattern
from backprop.serve.vetting.places import Place
from backprop.serve.vetting.refusing import refuse, shown
from backprop.serve.vetting.schema import (
    Check,
    either,
    list_of,
    maybe,
    number,
    one_of,
    record,
    table_of,
    text,
    truth,
    whole,
)
from backprop.serve.vetting.strict import read_object

__all__ = ["check_tokenizer"]

MOST_TOKENS = 1 << 20
MOST_MERGES = 1 << 21
MOST_STEPS = 64
LONGEST_TOKEN = 2048
MOST_GROWTH = 64

_token = text(LONGEST_TOKEN)
_short = text(32)
_id = whole(0, 1 << 21)


def _any_text(longest: int) -> Check:
    """Return the check of a string with any characters: tokens of bytes hold controls too."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > longest:
            refuse(where, f"received {shown(value)} instead of at most {longest:,} characters")

    return check


_piece = _any_text(LONGEST_TOKEN)


_pattern = either(record({"String": _any_text(200)}), record({"Regex": check_pattern}))
_kind = text(40)
_behaviour = one_of({"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"})
_scheme = {
    "replacement": text(4),
    "prepend_scheme": one_of({"always", "never", "first"}),
    "split": truth,
    "add_prefix_space": truth,
    "str_rep": text(4),
}


def _kinds(table: Mapping[str, Mapping[str, Check]]) -> Check:
    """Return the check of a component: its ``type`` is a key of ``table``, its fields are known."""
    fields = {name: record({"type": _kind, **own}) for name, own in table.items()}

    def check(value: Any, where: str) -> None:
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in fields:
            refuse(where, f"the component {shown(kind)} is not one of {', '.join(sorted(table))}")
        fields[kind](value, f"{where}, {kind}")

    return check


def _step_of(name: str) -> Check:
    """Return the check of a sequence's step, which is of the same kinds as the sequence."""
    return lambda value, where: KINDS[name](value, where)


_bert = {
    "clean_text": truth,
    "handle_chinese_chars": truth,
    "strip_accents": maybe(truth),
    "lowercase": truth,
}
_replace = {"pattern": _pattern, "content": _any_text(32)}

NORMALIZERS: Mapping[str, Mapping[str, Check]] = {
    "BertNormalizer": _bert,
    "Strip": {"strip_left": truth, "strip_right": truth},
    "Prepend": {"prepend": _short},
    "Replace": _replace,
    # The tables of SentencePiece; Rust reads them, within bounds.
    "Precompiled": {"precompiled_charsmap": maybe(text(2 << 20, r"[A-Za-z0-9+/=]*"))},
    **{name: {} for name in ("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents")},
    "ByteLevel": {},
    "Sequence": {"normalizers": list_of(_step_of("normalizer"), MOST_STEPS)},
}
PRE_TOKENIZERS: Mapping[str, Mapping[str, Check]] = {
    **{
        name: {} for name in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts")
    },
    "ByteLevel": {"add_prefix_space": truth, "trim_offsets": truth, "use_regex": truth},
    "Metaspace": _scheme,
    "CharDelimiterSplit": {"delimiter": text(4)},
    "Split": {"pattern": _pattern, "behavior": _behaviour, "invert": truth},
    "Punctuation": {"behavior": _behaviour},
    "Digits": {"individual_digits": truth},
    "FixedLength": {"length": whole(1, LONGEST_TOKEN)},
    "Sequence": {"pretokenizers": list_of(_step_of("pre_tokenizer"), MOST_STEPS)},
}
_pair = list_of(either(_id, _token), 2)
_step = either(
    record({"SpecialToken": record({"id": _token, "type_id": whole(0, 16)})}),
    record({"Sequence": record({"id": one_of({"A", "B"}), "type_id": whole(0, 16)})}),
)
_special = record(
    {"id": _token, "ids": list_of(_id, 16), "tokens": list_of(_token, 16)},
)
POST_PROCESSORS: Mapping[str, Mapping[str, Check]] = {
    "BertProcessing": {"sep": _pair, "cls": _pair},
    "RobertaProcessing": {
        **{"sep": _pair, "cls": _pair, "trim_offsets": truth, "add_prefix_space": truth}
    },
    "ByteLevel": PRE_TOKENIZERS["ByteLevel"],
    "TemplateProcessing": {
        "single": list_of(_step, 16),
        "pair": list_of(_step, 16),
        "special_tokens": table_of(_token, _special, 64),
    },
    "Sequence": {"processors": list_of(_step_of("post_processor"), 16)},
}
DECODERS: Mapping[str, Mapping[str, Check]] = {
    "BPEDecoder": {"suffix": _short},
    "ByteLevel": PRE_TOKENIZERS["ByteLevel"],
    "WordPiece": {"prefix": _short, "cleanup": truth},
    "Metaspace": _scheme,
    "CTC": {"pad_token": _token, "word_delimiter_token": _token, "cleanup": truth},
    "Replace": _replace,
    "Fuse": {},
    "ByteFallback": {},
    "Strip": {"content": text(4), "start": whole(0, 64), "stop": whole(0, 64)},
    "Sequence": {"decoders": list_of(_step_of("decoder"), MOST_STEPS)},
}
_vocabulary = table_of(_piece, _id, MOST_TOKENS)
_merge = either(_any_text(2 * LONGEST_TOKEN), list_of(_piece, 2))
MODELS: Mapping[str, Mapping[str, Check]] = {
    "BPE": {
        "dropout": maybe(number(0, 0)),
        "unk_token": maybe(_token),
        "continuing_subword_prefix": maybe(_short),
        "end_of_word_suffix": maybe(_short),
        "fuse_unk": truth,
        "byte_fallback": truth,
        "ignore_merges": truth,
        "vocab": _vocabulary,
        "merges": list_of(_merge, MOST_MERGES),
    },
    "WordPiece": {
        "unk_token": _token,
        "continuing_subword_prefix": _short,
        "max_input_chars_per_word": whole(0, 1000),
        "vocab": _vocabulary,
    },
    "WordLevel": {"unk_token": _token, "vocab": _vocabulary},
    "Unigram": {
        "unk_id": maybe(_id),
        "byte_fallback": truth,
        "vocab": list_of(list_of(either(number(-1e9, 1e9), _piece), 2), MOST_TOKENS),
    },
}
KINDS: Mapping[str, Check] = {
    "normalizer": _kinds(NORMALIZERS),
    "pre_tokenizer": _kinds(PRE_TOKENIZERS),
    "post_processor": _kinds(POST_PROCESSORS),
    "decoder": _kinds(DECODERS),
    "model": _kinds(MODELS),
}
"""Places of a tokenizer to what may stand there."""

_direction = one_of({"Left", "Right"})
_added = record(
    {
        **{"id": _id, "content": _piece},
        **{key: truth for key in ("single_word", "lstrip", "rstrip", "normalized", "special")},
    },
    required=("id", "content"),
)
_top = record(
    {
        "version": text(10),
        "truncation": maybe(
            record(
                {
                    "direction": _direction,
                    "max_length": whole(1, 1 << 20),
                    "strategy": one_of({"LongestFirst", "OnlyFirst", "OnlySecond"}),
                    "stride": whole(0, 1 << 16),
                }
            )
        ),
        "padding": maybe(
            record(
                {
                    "strategy": either(
                        one_of({"BatchLongest"}), record({"Fixed": whole(0, 1 << 15)})
                    ),
                    "direction": _direction,
                    "pad_to_multiple_of": maybe(whole(1, 1024)),
                    "pad_id": _id,
                    "pad_type_id": whole(0, 16),
                    "pad_token": _token,
                }
            )
        ),
        "added_tokens": list_of(_added, 1 << 16),
        **{name: maybe(check) for name, check in KINDS.items() if name != "model"},
        "model": lambda value, where: _check_model(value, where),
    },
    required=("model",),
)


def check_tokenizer(place: Place) -> None:
    """Refuse a ``tokenizer.json`` with unknown parts, or parts that could run without end.

    Raises:
        ArtefactError: it is.
    """
    if "tokenizer.json" not in place.files:
        return
    where = place.where("tokenizer.json")
    content = read_object(place.folder / "tokenizer.json", where, 64 << 20)
    _top(content, where)
    for name in ("normalizer", "decoder"):
        if (growth := _growth(content.get(name))) > MOST_GROWTH:
            refuse(f"{where}, {name}", f"it makes text up to {growth:,} times as long")


def _check_model(value: Any, where: str) -> None:
    """Check the vocabulary; older files leave out the model's type, which its keys tell."""
    if not isinstance(value, dict):
        refuse(where, f"received {shown(value)} instead of an object")
    kind = value.get("type") or ("BPE" if "merges" in value else "WordPiece")
    KINDS["model"]({**value, "type": kind}, where)
    if "vocab" not in value:
        refuse(where, "it has no vocab")


def _growth(component: Any) -> int:
    """Return how many times as long the steps of a checked component can make a text."""
    if not isinstance(component, dict):
        return 1
    if component["type"] == "Replace":
        pattern = component["pattern"].get("String")
        return max(1, math.ceil(len(component["content"]) / max(1, len(pattern or "x"))))
    steps = component.get("normalizers") or component.get("decoders") or []
    return math.prod(map(_growth, steps))
