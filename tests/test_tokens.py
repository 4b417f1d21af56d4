import functools
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer

from backprop.errors import ArtefactError, InputError
from backprop.handlers.long import fit
from backprop.handlers.tokens import Tokens
from backprop.models.hf import read_tokenizer, tokens_of
from tests import tiny
from tests.fakes import byte_tokens, word_tokens

KINDS = [kind for kind, entry in tiny.KINDS.items() if entry.tokenizer]
# One of each tokenizer; other kinds share theirs with one of these.
TOKENIZERS = list({tiny.KINDS[kind].tokenizer: kind for kind in KINDS}.values())

TEXTS = [
    *tiny.texts(8),
    "  Two  spaces,\ttab and\nline. ",
    "It's 2009: 12.5% (or “more”)… o\u0308 İ \u200b 🤷🏽‍♀️",
    "[SEP] </s> <|im_end|> are special",
    "x",
]
OTHERS = [*reversed(tiny.texts(8, seed=1)), "y z", "Who?", "so", "a  b"]
LIMIT = 24


@functools.cache
def theirs(kind: str) -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny.folder(kind))


@functools.cache
def ours(kind: str) -> Tokens:
    """Return the tokens of a model of ``kind``, which needs no weights for that."""
    folder = tiny.folder(kind)
    model = SimpleNamespace(tokenizer=theirs(kind), tokenizer_json=read_tokenizer(folder))
    return tokens_of(model, LIMIT)


def texts_of(kind: str) -> list[str]:
    """Return TEXTS; without SigLIP's own special token, after which its slow tokenizer, the only
    one that transformers opens, starts the next word in another way than ``tokenizer.json`` does.
    """
    return [text.replace("</s>", "") if kind == "siglip" else text for text in TEXTS]


def assert_equal(kind: str, encodings: Any, expected: Any) -> None:
    assert [encoding.ids for encoding in encodings] == expected["input_ids"]
    if "token_type_ids" in expected:
        assert [encoding.type_ids for encoding in encodings] == expected["token_type_ids"]
    assert ours(kind).inputs == tuple(name for name in theirs(kind).model_input_names)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_a_text_are_those_of_transformers(kind: str) -> None:
    tokens = ours(kind)
    found = [tokens.wrap(encoding) for encoding in tokens.plain(texts_of(kind))]
    assert_equal(kind, found, theirs(kind)(texts_of(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_a_pair_are_those_of_transformers(kind: str) -> None:
    tokens = ours(kind)
    pairs = zip(tokens.plain(texts_of(kind)), tokens.plain(OTHERS), strict=True)
    assert_equal(kind, [tokens.wrap(*pair) for pair in pairs], theirs(kind)(texts_of(kind), OTHERS))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_cut_texts_are_those_of_transformers(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = theirs(kind)(texts_of(kind), truncation=True, max_length=LIMIT)
    with caplog.at_level(logging.WARNING):
        pieces = fit(ours(kind), texts_of(kind), long="truncate")
    assert_equal(kind, pieces.encodings, expected)
    assert pieces.owners == list(range(len(texts_of(kind))))
    assert pieces.lengths == [len(ids) for ids in expected["input_ids"]]
    whole = [len(ids) for ids in theirs(kind)(texts_of(kind))["input_ids"]]
    cut = sum(length - kept for length, kept in zip(whole, pieces.lengths, strict=True))
    [record] = caplog.records
    assert f"{cut} tokens were cut" in record.getMessage()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_cut_pairs_are_those_of_transformers(kind: str) -> None:
    seconds = ["Who?", "so it is"] * (len(texts_of(kind)) // 2)
    options = {"truncation": "only_first", "max_length": LIMIT}
    pieces = fit(ours(kind), texts_of(kind), pairs=seconds, long="truncate")
    assert_equal(kind, pieces.encodings, theirs(kind)(texts_of(kind), seconds, **options))
    pieces = fit(ours(kind), texts_of(kind), pairs=seconds, long="truncate", pair_first=True)
    options["truncation"] = "only_second"
    assert_equal(kind, pieces.encodings, theirs(kind)(seconds, texts_of(kind), **options))


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "siglip"])
def test_pieces_of_a_long_text_are_those_of_transformers(kind: str) -> None:
    long = texts_of(kind)[3]
    expected = theirs(kind)(
        long, truncation=True, max_length=LIMIT, stride=5, return_overflowing_tokens=True
    )["input_ids"]
    pieces = fit(ours(kind), [long], long="chunk", stride=5)
    assert [encoding.ids for encoding in pieces.encodings] == expected


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_arrays_are_those_of_transformers(kind: str) -> None:
    tokens, tokenizer = ours(kind), theirs(kind)
    if tokenizer.pad_token is None:  # GPT-2; what fills the mask's gaps has no meaning
        tokenizer.pad_token_id = tokens.pad
    expected = tokenizer(texts_of(kind), padding=True, return_tensors="np")
    found = tokens.arrays([tokens.wrap(encoding) for encoding in tokens.plain(texts_of(kind))])
    assert list(found) == list(tokens.inputs)
    for name, array in found.items():
        assert array.dtype == np.int64
        reach = expected["attention_mask"] if name == "token_type_ids" else 1
        np.testing.assert_array_equal(array * reach, expected[name] * reach)


@pytest.mark.parametrize("kind", ["t5", "bart", "gpt2", "llama_chat"])
def test_decoded_text_is_that_of_transformers(kind: str) -> None:
    tokens = ours(kind)
    for text in texts_of(kind):
        [encoding] = [tokens.wrap(plain) for plain in tokens.plain([text])]
        plain_text = theirs(kind).decode(
            encoding.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert tokens.decode(encoding.ids) == plain_text
        whole = theirs(kind).decode(encoding.ids, clean_up_tokenization_spaces=False)
        assert tokens.decode(encoding.ids, keep_special=True) == whole


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_special_tokens_are_counted(kind: str) -> None:
    tokens = ours(kind)
    assert tokens.special == theirs(kind).num_special_tokens_to_add(pair=False)
    assert tokens.special_of_pair == theirs(kind).num_special_tokens_to_add(pair=True)
    assert tokens.count(texts_of(kind)) == [
        len(ids) for ids in theirs(kind)(texts_of(kind), add_special_tokens=False)["input_ids"]
    ]


def test_a_model_and_its_tokens_do_not_disturb_each_other() -> None:
    tokenizer = theirs("bert_nli3")
    before = tokenizer(TEXTS)["input_ids"]
    tokens = ours("bert_nli3")
    tokenizer(TEXTS, padding="max_length", truncation=True, max_length=9)
    assert [len(encoding.ids) for encoding in tokens.plain(["cats"])] != [9]
    assert tokenizer(TEXTS)["input_ids"] == before


def pad_of(side: str, to: int = 0) -> Tokens:
    tokens = word_tokens("one two three", pad_left=side == "left", pad_to=to)
    tokens.pad = 9
    return tokens


def arrays(tokens: Tokens) -> dict[str, Any]:
    ones, twos = tokens.plain(["one", "two three"]), tokens.plain(["one", "two"])
    found = tokens.arrays([tokens.wrap(*pair) for pair in zip(ones, twos, strict=True)])
    return {name: array.tolist() for name, array in found.items()}


def test_shorter_rows_are_filled_on_the_right() -> None:
    assert arrays(pad_of("right")) == {
        "input_ids": [[2, 4, 3, 4, 3, 9], [2, 5, 6, 3, 5, 3]],
        "attention_mask": [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]],
        "token_type_ids": [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]],
    }


def test_shorter_rows_are_filled_on_the_left() -> None:
    assert arrays(pad_of("left")) == {
        "input_ids": [[9, 2, 4, 3, 4, 3], [2, 5, 6, 3, 5, 3]],
        "attention_mask": [[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]],
        "token_type_ids": [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]],
    }


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_filled_up_to_a_length(side: str) -> None:
    short = arrays(pad_of(side))
    long = arrays(pad_of(side, to=8))
    for name, rows in short.items():
        filler = [9 if name == "input_ids" else 0] * 2
        assert long[name] == [filler + row if side == "left" else row + filler for row in rows]
    assert arrays(pad_of(side, to=3)) == short


def test_only_the_arrays_the_model_takes() -> None:
    tokens = word_tokens("one", inputs=["attention_mask", "input_ids"])
    assert list(tokens.arrays([tokens.wrap(tokens.plain(["one"])[0])])) == list(tokens.inputs)


def test_a_tokenizer_s_own_cutting_and_padding_are_switched_off() -> None:
    tokenizer = Tokenizer.from_str(word_tokens("one two three").tokenizer.to_str())
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=10)
    tokens = Tokens(tokenizer, max_length=64)
    assert [encoding.ids for encoding in tokens.plain(["one two three"])] == [[4, 5, 6]]


def test_a_second_text_that_leaves_no_room_is_refused() -> None:
    tokens = word_tokens("one", max_length=20)
    with pytest.raises(InputError, match="10 tokens.*20"):
        fit(tokens, ["one"], pairs=["one " * 10], long="truncate")
    assert len(fit(tokens, ["one"], pairs=["one " * 9], long="truncate").encodings) == 1


@pytest.mark.parametrize("kind", ["bert_encoder", "siglip2", "t5"])
def test_a_folder_is_opened_with_its_own_pad_and_limit(kind: str) -> None:
    tokens = Tokens.from_folder(tiny.folder(kind))
    assert tokens.pad == theirs(kind).pad_token_id
    assert tokens.max_length == theirs(kind).model_max_length
    found = [tokens.wrap(encoding) for encoding in tokens.plain(TEXTS)]
    assert_equal(kind, found, theirs(kind)(TEXTS))


def test_options_come_before_what_the_folder_says() -> None:
    tokens = Tokens.from_folder(tiny.folder("bert_encoder"), max_length=10, pad=7, pad_left=True)
    assert (tokens.max_length, tokens.pad, tokens.pad_left) == (10, 7, True)


def test_a_pad_token_may_be_described_at_length(tmp_path: Path) -> None:
    word_tokens("one two").tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"pad_token": {"content": "two", "lstrip": False}, "model_max_length": 1e30}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Tokens.from_folder(tmp_path).pad == 5
    assert Tokens.from_folder(tmp_path).max_length == 1_000_000


def test_a_folder_without_tokenizer_config_will_do(tmp_path: Path) -> None:
    word_tokens("one two").tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Tokens.from_folder(tmp_path).max_length == 512


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"tokenizer\.json"):
        Tokens.from_folder(tmp_path)


def test_ids_and_text_go_both_ways() -> None:
    tokens = byte_tokens()
    [encoding] = tokens.plain(["café 😀"])
    assert len(encoding.ids) == len("café 😀".encode())
    assert tokens.decode(encoding.ids) == "café 😀"
    assert tokens.decode([]) == ""
    end = tokens.id_of("<end>")
    assert end is not None
    assert tokens.decode([*encoding.ids, end]) == "café 😀"
    assert tokens.decode([end], keep_special=True) == "<end>"
    assert tokens.id_of("nothing of the kind") is None
