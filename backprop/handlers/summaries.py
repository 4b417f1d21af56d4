"""Summaries and emotions that a model writes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from backprop.engines import Decoding
from backprop.errors import InputError
from backprop.handlers.chunks import sentence_runs
from backprop.handlers.long import note_cut, refuse
from backprop.handlers.prompts import fill
from backprop.handlers.sentences import split
from backprop.handlers.writer import Writer
from backprop.inputs import Row

__all__ = ["Summaries", "WrittenEmotions"]

MOST_NEW_TOKENS = 160
WINDOW = 2048
"""Tokens summarised at once by a decoder; small ones lose the thread in longer texts."""


class _Prompted:
    """What both share: a text in a prompt, in parts where it is too long.

    Args:
        writer: runs the prompts.
        prompt: holds ``{text}``.
    """

    def __init__(self, writer: Writer, *, prompt: str) -> None:
        self.writer = writer
        self.prompt = prompt

    def ask(self, text: str) -> list[int]:
        """Return the prompt's token ids."""
        return self.writer.prompt(fill(self.prompt, text=text))

    def parts(self, texts: Sequence[str], options: dict[str, Any]) -> list[list[str]]:
        """Return each text in parts that fit the model, by ``long``."""
        cut: list[int] = []
        parts = [self._parts(text, options, cut) for text in texts]
        note_cut(cut, len(texts), self.writer.tokens.max_length)
        return parts

    def _parts(self, text: str, options: dict[str, Any], cut: list[int]) -> list[str]:
        tokens = self.writer.tokens
        frame = len(self.ask("")) + (MOST_NEW_TOKENS if self.writer.shared_room else 0)
        room = min(tokens.max_length - frame, WINDOW)
        [length] = tokens.count([text])
        if length <= room:
            return [text]
        refuse("text", length, room, options.get("long", "chunk"))
        runs = sentence_runs(tokens, text, room)
        if options.get("long") == "truncate":
            [kept] = tokens.count(runs[:1])
            cut.append(length - kept)
            return runs[:1]
        return runs


class Summaries(_Prompted):
    """Answers ``summarisation`` in the style ``abstractive``.

    Args:
        writer: runs the prompts.
        prompt: holds ``{text}``.
        sentences: how many sentences of what is written to keep; 0 keeps all.
    """

    def __init__(self, writer: Writer, *, prompt: str, sentences: int = 0) -> None:
        super().__init__(writer, prompt=prompt)
        self.sentences = sentences

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[str]:
        """Return a summary of each text; of a long one a summary of its parts' summaries.

        Args:
            rows: each has ``text``.
            options: ``style``, ``long`` (default ``chunk``).

        Raises:
            InputError: ``style`` is ``extractive``.
        """
        if options.get("style", "abstractive") != "abstractive":
            raise InputError(
                "This model writes summaries (style='abstractive') and does not pick sentences; "
                "use a sentence encoder, such as all-minilm-l6-v2."
            )
        texts = [row["text"] for row in rows]
        waiting = list(range(len(texts)))
        while waiting:
            found = self.parts([texts[i] for i in waiting], options)
            parts = dict(zip(waiting, found, strict=True))
            written = iter(self._write([part for i in waiting for part in parts[i]]))
            before = {i: texts[i] for i in waiting}
            for i in waiting:
                texts[i] = " ".join(next(written) for _ in parts[i])
            # A model that writes more than it reads would go on for ever.
            waiting = [i for i in waiting if len(parts[i]) > 1 and len(texts[i]) < len(before[i])]
        return texts

    def _write(self, parts: list[str]) -> list[str]:
        prompts = [self.ask(part) for part in parts]
        decodings = [self._decoding(length) for length in self.writer.tokens.count(parts)]
        return [
            self._kept(self.writer.text(generations[0]))
            for generations in self.writer.write(prompts, decodings)
        ]

    def _kept(self, written: str) -> str:
        """Return the first sentences of what was written."""
        found = split(written)[: self.sentences or None]
        return written[: found[-1].end] if found else written

    def _decoding(self, length: int) -> Decoding:
        """Return how to decode the summary of a text of ``length`` tokens: never longer than it."""
        defaults = self.writer.defaults
        most = min(defaults.max_new, MOST_NEW_TOKENS, max(length // 2, LEAST_NEW_TOKENS))
        # Few distinct lengths, so that texts of like length share a batch.
        most = -(-most // LENGTH_STEP) * LENGTH_STEP
        return dataclasses.replace(defaults, max_new=most, min_new=min(defaults.min_new, most // 2))


LEAST_NEW_TOKENS = 16
LENGTH_STEP = 16


class WrittenEmotions(_Prompted):
    """Answers ``emotion`` with a model that writes the emotion's name."""

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[str]:
        """Return the emotion of each text; of a long one the most frequent of its parts'.

        Args:
            rows: each has ``text``.
            options: ``long`` (default ``chunk``).

        Raises:
            InputError: ``top_k`` was given; what is written has no probabilities.
        """
        if "top_k" in options:
            raise InputError(
                "This model writes an emotion's name and has no probabilities for top_k; use a "
                "classifier, such as the starter model."
            )
        parts = self.parts([row["text"] for row in rows], options)
        decoding = dataclasses.replace(self.writer.defaults, max_new=MOST_EMOTION_TOKENS, min_new=0)
        prompts = [self.ask(part) for own in parts for part in own]
        written = iter(self.writer.write(prompts, [decoding] * len(prompts)))
        votes = [Counter(self.writer.text(next(written)[0]) for _ in own) for own in parts]
        return [vote.most_common(1)[0][0] for vote in votes]


MOST_EMOTION_TOKENS = 16
