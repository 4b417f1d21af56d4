"""Rows of training data as the numbers a text model takes; what text models' hooks share."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding
from torch import Tensor

from backprop.collate import Features, collate
from backprop.errors import InputError
from backprop.handlers.tokens import Tokens
from backprop.losses import classification_loss
from backprop.pictures import describe

__all__ = [
    "Classes",
    "class_loss",
    "class_row",
    "class_text",
    "limit_of",
    "padded",
    "text_inputs",
    "text_of",
    "text_row",
    "tokens_over",
]


def text_of(params: Mapping[str, Any], key: str) -> str:
    """Return the text under ``key`` of a row.

    Raises:
        InputError: it is missing, or no text.
    """
    value = params.get(key)
    if not isinstance(value, str):
        raise InputError(f"A row needs a text under {key!r}; received {describe(value)}.")
    return value


def limit_of(params: Mapping[str, Any], key: str, most: int) -> int:
    """Return the row's limit in tokens under ``key``, or ``most`` where that is less.

    Raises:
        InputError: it is no whole number above 0.
    """
    limit = params.get(key, most)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InputError(f"{key} must be a whole number above 0; received {describe(limit)}.")
    return min(limit, most)


def text_row(tokens: Tokens, text: str, limit: int) -> dict[str, Any]:
    """Return the model's inputs for ``text``, its end cut off to fit ``limit`` tokens.

    Raises:
        InputError: the special tokens alone fill the limit.
    """
    room = limit - tokens.special
    if room < 1:
        raise InputError(
            f"A limit of {limit} tokens has no room for text: the model puts {tokens.special} "
            "special ones around it; pass a higher limit."
        )
    [encoding] = tokens.plain([text])
    encoding.truncate(room)
    return text_inputs(tokens, tokens.wrap(encoding))


def tokens_over(tokens: Tokens, text: str, limit: int) -> int:
    """Return how many tokens ``text_row`` cuts off."""
    return max(tokens.count([text])[0] + tokens.special - limit, 0)


def text_inputs(tokens: Tokens, encoding: Encoding) -> dict[str, Any]:
    """Return the arrays the model takes, as lists of the encoding's length, ``pad_to`` at least."""
    encoding.pad(tokens.pad_to, pad_id=tokens.pad, direction="left" if tokens.pad_left else "right")
    lists = {
        "input_ids": encoding.ids,
        "attention_mask": encoding.attention_mask,
        "token_type_ids": encoding.type_ids,
    }
    return {name: lists[name] for name in tokens.inputs}


def padded(tokens: Tokens, rows: Sequence[Features]) -> dict[str, Any]:
    """Return rows as one batch, padded with the tokenizer's own token and on its own side."""
    return collate(rows, {"input_ids": tokens.pad}, left=tokens.pad_left)


# --- Classes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Classes:
    """What a classifier tells apart.

    Args:
        labels: names, in the order of the outputs.
        multi_label: whether a row may have several of them, or none.
    """

    labels: tuple[str, ...]
    multi_label: bool = False

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Label to the number of its output."""
        return {label: number for number, label in enumerate(self.labels)}

    @classmethod
    def read(cls, labels: Mapping[int, str] | None, multi_label: bool) -> Classes:
        """Return the classes that ``pre_finetuning`` was given.

        Raises:
            InputError: it is no dictionary, its keys are not 0, 1, 2 …, a name stands twice, or
                there are too few.
        """
        given = labels if isinstance(labels, Mapping) else {}
        names = [str(given[i]) for i in range(len(given)) if i in given]
        if given is not labels or not len(given) == len(names) == len(set(names)):
            raise InputError(
                "labels must be a dictionary of 0, 1, 2 and so on to names that differ, such as "
                f"{{0: 'spam', 1: 'other'}}; received {describe(labels)}."
            )
        if len(names) < (1 if multi_label else 2):
            least = "one label" if multi_label else "two labels"
            raise InputError(f"A classifier needs {least} at least; received {describe(labels)}.")
        return cls(tuple(names), bool(multi_label))

    def target(self, given: object, numbers: Mapping[str, int]) -> int | list[float]:
        """Return the number of the label; for several labels 1.0 at each and 0.0 elsewhere.

        Args:
            given: a label, or with ``multi_label`` a list of them.
            numbers: label to the number of its output.

        Raises:
            InputError: a label that is not in ``numbers``, or several where there can be one.
        """
        names = [given] if isinstance(given, str) else given
        if not isinstance(names, (list, tuple)) or (len(names) != 1 and not self.multi_label):
            raise InputError(
                f"A row's label must be {'a list of names' if self.multi_label else 'one name'}; "
                f"received {describe(given)}. For several labels a row, call "
                "pre_finetuning(labels, multi_label=True) first."
            )
        places = [self._place(name, numbers) for name in names]
        if not self.multi_label:
            return places[0]
        return [float(i in places) for i in range(len(self.labels))]

    def _place(self, name: object, numbers: Mapping[str, int]) -> int:
        place = numbers.get(name) if isinstance(name, str) else None
        if place is None or not 0 <= place < len(self.labels):
            raise InputError(
                f"{describe(name)} is none of the model's {len(self.labels)} labels: "
                f"{', '.join(self.labels[:30])}{' …' if len(self.labels) > 30 else ''}; call "
                "pre_finetuning with all labels first."
            )
        return place


CLASS_KEYS: Mapping[str, tuple[str, str, str]] = {
    "text-classification": ("inputs", "labels", "max_length"),
    "emotion": ("input", "output", "max_input_length"),
}
"""Task to its keys for text, label and limit."""


def class_row(
    tokens: Tokens, params: Mapping[str, Any], task: str, classes: Classes, prompt: str = ""
) -> dict[str, Any]:
    """Return the model's inputs for a row's text, and its class under ``labels``.

    Args:
        tokens: the model's tokenizer.
        params: one row of ``text-classification`` or ``emotion``.
        task: which of them. Several emotions are separated by commas.
        classes: of the model's head.
        prompt: put before the text.

    Raises:
        InputError: a value is missing or of the wrong type, or a label is not known.
    """
    text, limit = class_text(tokens, params, task)
    if task == "emotion":
        target = classes.target(_emotions(text_of(params, "output"), classes), classes.numbers)
    else:
        target = classes.target(params.get("labels"), params.get("class_to_idx", classes.numbers))
    return {**text_row(tokens, prompt + text, limit), "labels": target}


def class_text(tokens: Tokens, params: Mapping[str, Any], task: str) -> tuple[str, int]:
    """Return a row's text and its limit in tokens."""
    text, _, length = CLASS_KEYS[task]
    return text_of(params, text), limit_of(params, length, tokens.max_length)


def _emotions(output: str, classes: Classes) -> str | list[str]:
    """Return the emotions that ``output`` names; a label may have a comma of its own."""
    name = output.strip()
    if name in classes.labels or not classes.multi_label:
        return name
    return [part.strip() for part in name.split(",") if part.strip()]


def class_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return ``classification_loss`` of single labels, shape (n,), or several, (n, classes)."""
    weights = None if weights is None else weights.to(logits)
    return classification_loss(logits, labels, multi_label=labels.ndim == 2, class_weights=weights)
