"""``tokenizer_config.json`` and ``special_tokens_map.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backprop.serve.vetting.config import check_tokenizer_class
from backprop.serve.vetting.names import check_names
from backprop.serve.vetting.places import Place
from backprop.serve.vetting.refusing import refuse, shown
from backprop.serve.vetting.schema import (
    Check,
    either,
    list_of,
    maybe,
    nothing,
    number,
    one_of,
    record,
    table_of,
    text,
    truth,
    whole,
)
from backprop.serve.vetting.strict import read_object

__all__ = ["check_special_tokens", "check_tokenizer_config"]

_word = text(2048)
_token = maybe(
    either(
        _word,
        record(
            {
                "__type": one_of({"AddedToken"}),
                "content": _word,
                **{
                    key: truth
                    for key in ("lstrip", "rstrip", "normalized", "single_word", "special")
                },
            },
            required=("content",),
        ),
    )
)
_tokens = maybe(list_of(_token, 1 << 16))

SPECIAL: Mapping[str, Check] = {
    **{
        f"{name}_token": _token
        for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "image", "boi", "eoi")
    },
    "additional_special_tokens": _tokens,
    "extra_special_tokens": either(table_of(text(100, r"\w+"), _token, 256), _tokens),
}
"""What both files may say of special tokens."""

_side = one_of({"left", "right"})
_template = text(256 << 10)

FIELDS: Mapping[str, Check] = {
    **SPECIAL,
    "added_tokens_decoder": table_of(text(10, r"\d+"), _token, 1 << 16),
    "backend": maybe(one_of({"tokenizers", "sentencepiece"})),
    "chat_template": maybe(
        either(
            list_of(record({"name": text(40, r"[\w-]+"), "template": _template}), 8),
            table_of(text(40, r"[\w-]+"), _template, 8),
            _template,
        )
    ),
    "tokenizer_class": check_tokenizer_class,
    "processor_class": maybe(text(100, r"\w*")),
    "model_max_length": maybe(number(1, 1e31)),
    "max_length": maybe(whole(0, 1 << 20)),
    "max_len": maybe(whole(0, 1 << 20)),
    "stride": maybe(whole(0, 1 << 16)),
    "extra_ids": maybe(whole(0, 1000)),
    "pad_to_multiple_of": maybe(whole(1, 1024)),
    "pad_token_type_id": maybe(whole(0, 16)),
    "padding_side": _side,
    "pad_side": _side,
    "truncation_side": _side,
    "truncation_strategy": one_of({"longest_first", "only_first", "only_second"}),
    "model_input_names": list_of(text(40, r"\w+"), 16),
    "name_or_path": maybe(text(300)),
    "sp_model_kwargs": nothing,  # are passed on to SentencePiece as they are
    "never_split": maybe(list_of(_word, 1024)),
    "errors": one_of({"replace", "strict", "ignore"}),
    "split_by_punct": truth,
    "vocab_type": text(20, r"\w+"),
    "language": maybe(text(20, r"\w*")),
    "src_lang": maybe(text(20, r"\w*")),
    "tgt_lang": maybe(text(20, r"\w*")),
    **{
        key: maybe(whole(0, 10_000))
        for key in ("offset", "num_additional_special_tokens", "patch_size", "unk_id")
    },
    "init_inputs": nothing,  # would be arguments of the tokenizer's class
    **{key: nothing for key in ("vocab_file", "merges_file", "tokenizer_file", "spm_file")},
    "special_tokens_map_file": nothing,
    "tokenizer_type": maybe(text(40, r"[\w-]*")),
    **{
        key: maybe(truth)
        for key in (
            *("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces"),
            *("do_basic_tokenize", "do_lower_case", "do_lowercase", "is_local", "keep_accents"),
            *("legacy", "legacy_behaviour", "local_files_only", "lowercase", "remove_space"),
            *("spaces_between_special_tokens", "split_special_tokens", "strip_accents"),
            *("tokenize_chinese_chars", "trim_offsets", "use_default_system_prompt", "use_fast"),
            *("wordpieces_prefix_space", "from_slow", "fix_mistral_regex"),
        )
    },
    "wordpieces_prefix": text(10),
    "do_split": maybe(truth),
}
"""Every key of a tokenizer's configuration that is let through."""

_config = record(FIELDS)
_special = record(SPECIAL)


def check_tokenizer_config(place: Place) -> Iterator[tuple[str, str]]:
    """Yield the chat templates in ``tokenizer_config.json``, its other values checked.

    Yields:
        where a template stands, and its text.

    Raises:
        ArtefactError: an unknown key, or a value out of its bounds.
    """
    name = "tokenizer_config.json"
    if name not in place.files:
        return
    where = place.where(name)
    content = read_object(place.folder / name, where, 4 << 20)
    check_names({key: own for key, own in content.items() if key != "chat_template"}, where)
    _config(content, where)
    yield from _templates(content.get("chat_template"), f"{where}, chat_template")


def check_special_tokens(place: Place) -> None:
    """Refuse a ``special_tokens_map.json`` that holds anything but special tokens.

    Raises:
        ArtefactError: it does.
    """
    name = "special_tokens_map.json"
    if name in place.files:
        content = read_object(place.folder / name, place.where(name), 1 << 20)
        check_names(content, place.where(name))
        _special(content, place.where(name))


def _templates(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for name, source in value.items():
            yield f"{where}, {name}", source
    elif isinstance(value, list):
        for own in value:
            if own.keys() != {"name", "template"}:
                refuse(where, f"received {shown(own)} instead of a name and a template")
            yield f"{where}, {own['name']}", own["template"]
