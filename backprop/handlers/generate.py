"""Text generation: decoders and encoder-decoders, with and without chat templates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from backprop.engines import Decoding
from backprop.errors import InputError
from backprop.handlers.prompts import fill
from backprop.handlers.writer import Writer, cut_at, decoding_of
from backprop.inputs import Row

__all__ = ["TextGenerations"]


class TextGenerations:
    """Answers ``text-generation``.

    Args:
        writer: runs the prompts.
        prompt: what the text is put in, ``{text}`` by itself by default.
    """

    def __init__(self, writer: Writer, *, prompt: str = "{text}") -> None:
        self.writer = writer
        self.prompt = prompt

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[Any]:
        """Return the new text of each row; a list of texts where ``num_generations`` is above 1.

        Args:
            rows: each has ``text``, or a whole conversation in ``messages``.
            options: those of the task's spec.

        Raises:
            InputError: a prompt leaves no room for what was asked.
        """
        prompts, decodings = [], []
        for i, row in enumerate(rows):
            prompt, decoding = self._prepare(row, options, f"text {i}")
            prompts.append(prompt)
            decodings.append(decoding)
        stop = options.get("stop", ())
        found = [
            [self.writer.text(generation, stop) for generation in generations]
            for generations in self.writer.write(prompts, decodings)
        ]
        return found if options.get("num_generations", 1) > 1 else [texts[0] for texts in found]

    def stream(self, row: Row, options: dict[str, Any]) -> Iterator[str]:
        """Yield the new text of one row in pieces, as they come.

        Raises:
            InputError: several beams or generations were asked for, which can't be streamed.
        """
        prompt, decoding = self._prepare(row, options, "text")
        if decoding.beams > 1 or decoding.sequences > 1:
            raise InputError(
                f"Streaming follows one beam and one generation; received num_beams="
                f"{decoding.beams} and num_generations={decoding.sequences}."
            )
        return self.writer.stream(prompt, decoding, options.get("stop", ()))

    def count_read(self, rows: Sequence[Row]) -> list[int]:
        """Return how many tokens each row has with all that is put around it."""
        return [len(self._prompt(row)) for row in rows]

    def _prompt(self, row: Row) -> list[int]:
        if "messages" in row:
            return self.writer.ask(row["messages"])
        return self.writer.prompt(fill(self.prompt, text=row["text"]))

    def _prepare(self, row: Row, options: dict[str, Any], where: str) -> tuple[list[int], Decoding]:
        prompt = self._prompt(row)
        max_new = self.writer.room(prompt, options.get("max_length"), where)
        if options.get("min_length", 0) > max_new:
            max_new = self.writer.room(prompt, options["min_length"], where)
        decoding = decoding_of(options, self.writer.defaults, max_new)
        stop = options.get("stop")
        if stop:
            decoding = dataclasses.replace(decoding, stop=Stop(self.writer, tuple(stop)))
        return prompt, decoding


@dataclasses.dataclass(frozen=True)
class Stop:
    """Whether one of the strings has been written; looks at the last tokens only."""

    writer: Writer
    strings: tuple[str, ...]

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Return True once a stop string is in the text of ``tokens``."""
        # A token holds a byte at least; a few more, for the first may be half a character.
        reach = max(len(string.encode()) for string in self.strings) + 4
        tail = self.writer.tokens.decode(tokens[-reach:])
        return cut_at(tail, self.strings) != tail
