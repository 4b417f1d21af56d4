"""Text to token ids, and ids to padded arrays, with ``tokenizers`` alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from backprop.errors import ArtefactError

__all__ = ["Tokens"]

Arrays = dict[str, NDArray[np.int64]]


class Tokens:
    """A tokenizer with what a model needs to know about it.

    Args:
        tokenizer: its own truncation and padding are switched off; do not share it.
        max_length: most tokens the model takes, special tokens included.
        pad: id that fills shorter rows.
        inputs: names of the arrays the model takes, among ``input_ids``, ``attention_mask`` and
            ``token_type_ids``.
        pad_left: whether shorter rows are filled on the left.
        pad_to: shortest length of a row; 0 leaves it to the longest row of the batch.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int,
        pad: int = 0,
        inputs: Iterable[str] = ("input_ids", "attention_mask"),
        pad_left: bool = False,
        pad_to: int = 0,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad = pad
        self.inputs = tuple(inputs)
        self.pad_left = pad_left
        self.pad_to = pad_to
        self.special = tokenizer.num_special_tokens_to_add(is_pair=False)
        self.special_of_pair = tokenizer.num_special_tokens_to_add(is_pair=True)

    @classmethod
    def from_folder(cls, folder: Path, **options: Any) -> Tokens:
        """Return the tokenizer saved in ``folder`` (``tokenizer.json``).

        Args:
            folder: a model in hub format.
            options: see ``Tokens``; ``max_length`` and ``pad`` are read from
                ``tokenizer_config.json`` where they are not given.

        Raises:
            ArtefactError: there is no ``tokenizer.json``.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ArtefactError(f"{folder.name} has no tokenizer.json; save the tokenizer again.")
        tokenizer = Tokenizer.from_file(str(path))
        beside = folder / "tokenizer_config.json"
        config = json.loads(beside.read_text("utf-8")) if beside.is_file() else {}
        pad = config.get("pad_token") or ""
        token = pad.get("content", "") if isinstance(pad, dict) else pad
        options.setdefault("pad", tokenizer.token_to_id(token) or 0)
        options.setdefault("max_length", int(min(config.get("model_max_length", 512), 1_000_000)))
        return cls(tokenizer, **options)

    def options(self) -> dict[str, Any]:
        """Return the arguments that make this again of the same tokenizer; JSON."""
        return {
            "max_length": self.max_length,
            "pad": self.pad,
            "inputs": list(self.inputs),
            "pad_left": self.pad_left,
            "pad_to": self.pad_to,
        }

    def plain(self, texts: Sequence[str]) -> list[Encoding]:
        """Return each text's tokens without special ones."""
        if len(texts) == 1:  # waking the tokenizer's threads takes longer than one text
            return [self.tokenizer.encode(texts[0], add_special_tokens=False)]
        return list(self.tokenizer.encode_batch(list(texts), add_special_tokens=False))

    def wrap(self, encoding: Encoding, pair: Encoding | None = None) -> Encoding:
        """Return the tokens with the special ones the model expects around them."""
        return self.tokenizer.post_process(encoding, pair)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return each text's number of tokens, without special ones."""
        return [len(encoding.ids) for encoding in self.plain(texts)]

    def decode(self, tokens: Sequence[int], *, keep_special: bool = False) -> str:
        """Return the text of ``tokens``."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=not keep_special)

    def id_of(self, token: str) -> int | None:
        """Return the id of ``token``, or None."""
        return self.tokenizer.token_to_id(token)

    def arrays(self, encodings: Sequence[Encoding]) -> Arrays:
        """Return the model's inputs, each of shape (len(encodings), longest), int64."""
        longest = max(self.pad_to, *(len(encoding.ids) for encoding in encodings))
        shape = (len(encodings), longest)
        arrays = {
            "input_ids": np.full(shape, self.pad, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for i, encoding in enumerate(encodings):
            length = len(encoding.ids)
            place = slice(longest - length, None) if self.pad_left else slice(0, length)
            arrays["input_ids"][i, place] = encoding.ids
            arrays["attention_mask"][i, place] = 1
            arrays["token_type_ids"][i, place] = encoding.type_ids
        return {name: arrays[name] for name in self.inputs}
