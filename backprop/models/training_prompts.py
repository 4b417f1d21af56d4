"""Long texts cut around what matters, and prompts with their replies as rows to learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Encoding

from backprop.collate import IGNORED
from backprop.errors import InputError
from backprop.handlers.spans import with_history
from backprop.handlers.tokens import Tokens
from backprop.handlers.writer import Writer
from backprop.inputs import Row
from backprop.models.training_rows import text_of
from backprop.pictures import describe

__all__ = [
    "Lesson",
    "continued_row",
    "qa_row",
    "recent",
    "tokens_at",
    "translated_row",
    "window_start",
]


def qa_row(params: Mapping[str, Any]) -> Row:
    """Return a row of ``qa`` as the task's handlers take it.

    Raises:
        InputError: a text is missing, or ``prev_qa`` is no list of pairs of texts.
    """
    history = [tuple(pair) for pair in params.get("prev_qa") or ()]
    if any(len(pair) != 2 or not all(isinstance(text, str) for text in pair) for pair in history):
        raise InputError(
            "prev_qa must be a list of (question, answer) pairs of texts; received "
            f"{describe(params['prev_qa'])}."
        )
    return {
        "question": text_of(params, "question"),
        "context": text_of(params, "context"),
        "prev_q": [question for question, _ in history],
        "prev_a": [answer for _, answer in history],
    }


def recent(tokens: Tokens, row: Row, limit: int) -> tuple[Row, int]:
    """Return a row of ``qa`` without its oldest turns, if it must be, and its tokens.

    Args:
        tokens: the model's tokenizer.
        row: see ``qa_row``.
        limit: most tokens of the question and its history; the question itself always stays.

    Returns:
        The row, and how many tokens its question and history have.
    """
    while (count := tokens.count([with_history(row)])[0]) > limit and row["prev_q"]:
        row = {**row, "prev_q": row["prev_q"][1:], "prev_a": row["prev_a"][1:]}
    return row, count


def tokens_at(encoding: Encoding, start: int, end: int) -> tuple[int, int]:
    """Return the first and the last token of the characters from ``start`` to ``end``.

    The first is after the last where no token has any of them.
    """
    offsets = encoding.offsets
    count = len(offsets)
    first = next((i for i, (_, stop) in enumerate(offsets) if stop > start), count - 1)
    last = next((i for i in reversed(range(count)) if offsets[i][0] < end), 0)
    return first, last


def window_start(length: int, room: int, first: int, last: int, *, jitter: bool = False) -> int:
    """Return where a window of ``room`` of ``length`` tokens starts to hold ``first`` to ``last``.

    Args:
        length: tokens there are.
        room: tokens of the window.
        first: first token to hold.
        last: last one; ``first`` comes first where both do not fit.
        jitter: whether the place is drawn by torch's random numbers; else they are in the middle.
    """
    most = max(length - room, 0)
    low = min(max(last - room + 1, 0), first, most)
    high = max(min(first, most), low)
    if jitter:
        return int(torch.randint(low, high + 1, ()))
    return min(max((first + last + 1 - room) // 2, low), high)


def piece(tokens: Tokens, text: str, room: int, keep: tuple[int, int]) -> str:
    """Return ``text``, or of a longer one the piece of ``room`` tokens around some characters.

    Args:
        tokens: the model's tokenizer.
        text: what may be too long.
        room: most tokens.
        keep: first character, and one past the last, of what is to be in the middle.
    """
    [encoding] = tokens.plain([text])
    length = len(encoding.ids)
    if length <= room:
        return text
    if room < 1:
        return ""
    start = window_start(length, room, *tokens_at(encoding, *keep))
    offsets = encoding.offsets[start : start + room]
    return text[offsets[0][0] : offsets[-1][1]]


@dataclass(frozen=True)
class Lesson:
    """What a model that writes is asked in one row, and what it is to write.

    Args:
        ask: a text to the prompt's token ids, as when the model is used.
        text: the one text of the prompt that may be cut.
        reply: what to write.
        keep: characters of ``text`` that stay if it is cut; see ``piece``.
        beside: tokens of the row's other texts.
    """

    ask: Callable[[str], list[int]]
    text: str
    reply: str
    keep: tuple[int, int] = (0, 0)
    beside: int = 0

    def prompt(self, tokens: Tokens, limit: int, room: int | None = None) -> list[int]:
        """Return the prompt, its text cut if need be.

        Args:
            tokens: the model's tokenizer.
            limit: most tokens of the prompt.
            room: most tokens of the text.

        Raises:
            InputError: the prompt is too long even without text.
        """
        [count] = tokens.count([self.text])
        room = count if room is None else min(room, count)
        # A piece may have other tokens at its ends than the text had there, so one cut may not do.
        while len(prompt := self.ask(piece(tokens, self.text, room, self.keep))) > limit:
            if room <= 0:
                raise InputError(
                    f"A prompt has {len(prompt)} tokens without its text, and there is room for "
                    f"{limit}; pass another max_input_length or max_output_length, or a shorter "
                    "question."
                )
            room -= len(prompt) - limit
        return prompt

    def over(self, tokens: Tokens, params: Mapping[str, Any]) -> int:
        """Return about how many tokens of the texts the row's own limits cut off."""
        inputs, outputs = tokens.count([self.text, self.reply])
        over_input = inputs + self.beside - params.get("max_input_length", inputs + self.beside)
        over_output = outputs + 1 - params.get("max_output_length", outputs + 1)
        return int(max(over_input, 0) + max(over_output, 0))


def translated_row(
    writer: Writer, lesson: Lesson, inputs: int, outputs: int, end: list[int]
) -> dict[str, Any]:
    """Return a row for an encoder-decoder: the prompt, and under ``labels`` the reply.

    Args:
        writer: whose tokenizer writes it.
        lesson: what to learn.
        inputs: most tokens of the prompt.
        outputs: most tokens of the reply, its end included.
        end: the token that ends a text, if there is one.
    """
    tokens = writer.tokens
    # As the tokenizer itself ends a text: T5 by one token, BART with one at the start too.
    frame = tokens.wrap(tokens.plain([""])[0]).ids
    end = [] if set(frame) & set(writer.generator.ends) else end
    [reply] = tokens.plain([lesson.reply])
    reply.truncate(_room_for(outputs, len(frame) + len(end)))
    prompt = lesson.prompt(tokens, inputs)
    return {
        "input_ids": prompt,
        "attention_mask": [1] * len(prompt),
        "labels": [*tokens.wrap(reply).ids, *end],
    }


def continued_row(
    writer: Writer, lesson: Lesson, inputs: int, outputs: int, end: list[int]
) -> dict[str, Any]:
    """Return a row for a decoder: prompt and reply as one text, of which the reply is learnt.

    Where both are over the model's limit, the reply stays whole and the prompt's text is cut.

    Args:
        writer: whose tokenizer writes it.
        lesson: what to learn.
        inputs: most tokens of the row's own texts; the model's instructions come on top.
        outputs: most tokens of the reply, its end included.
        end: the token that ends a text, if there is one.
    """
    tokens = writer.tokens
    [encoding] = tokens.plain([lesson.reply])
    encoding.truncate(_room_for(min(outputs, tokens.max_length), len(end)))
    reply = [*encoding.ids, *end]
    prompt = lesson.prompt(tokens, tokens.max_length - len(reply), inputs - lesson.beside)
    return {
        "input_ids": [*prompt, *reply],
        "attention_mask": [1] * (len(prompt) + len(reply)),
        "labels": [*([IGNORED] * len(prompt)), *reply],
    }


def _room_for(limit: int, special: int) -> int:
    """Return how many tokens of a reply fit beside its special ones.

    Raises:
        InputError: none.
    """
    if limit <= special:
        raise InputError(
            f"max_output_length is {limit}, but {special} special tokens come with every output; "
            "pass a higher one."
        )
    return limit - special
