"""Question answering by models that write: freely, or held to the words of the context."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding

from backprop.engines import Decoding, Generation
from backprop.handlers.chunks import windows
from backprop.handlers.long import note_cut
from backprop.handlers.prompts import Message, fill
from backprop.handlers.spans import Span, answer_of
from backprop.handlers.writer import Writer
from backprop.inputs import Row

__all__ = ["GroundedAnswers", "QAPrompt", "WrittenAnswers", "conversation"]


@dataclass(frozen=True)
class QAPrompt:
    """How a model was trained to be asked.

    Args:
        ask: holds ``{question}`` and ``{context}``.
        turn: one earlier ``{question}`` and ``{answer}``, put before.
    """

    ask: str
    turn: str

    def fill(self, row: Row, context: str) -> str:
        """Return the prompt of a question about ``context``."""
        turns = zip(row.get("prev_q", ()), row.get("prev_a", ()), strict=True)
        history = "".join(fill(self.turn, question=q, answer=a) for q, a in turns)
        return history + fill(self.ask, question=row["question"], context=context)


class WrittenAnswers:
    """Answers ``qa`` with an encoder-decoder that was trained to.

    Args:
        writer: runs the prompts.
        prompt: how to ask.
    """

    def __init__(self, writer: Writer, *, prompt: QAPrompt) -> None:
        self.writer = writer
        self.prompt = prompt

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[Any]:
        """Return one answer a row; over several windows of a long context the surest one.

        Args:
            rows: each has ``question``, ``context`` and perhaps ``prev_q``, ``prev_a``.
            options: ``details`` (start and end are -1 where the answer's words are not in the
                context), ``allow_no_answer``, ``long`` (default ``chunk``).
        """
        prompts, owners = [], []
        cut: list[int] = []
        for i, row in enumerate(rows):
            frame = len(self.writer.prompt(self.prompt.fill(row, "")))
            room = self.writer.tokens.max_length - frame
            for start, end in windows(self.writer.tokens, row["context"], room, options, cut):
                text = self.prompt.fill(row, row["context"][start:end])
                prompts.append(self.writer.prompt(text))
                owners.append(i)
        note_cut(cut, len(rows), self.writer.tokens.max_length)
        decoding = dataclasses.replace(
            self.writer.defaults, max_new=MAX_ANSWER_TOKENS, min_new=0, scored=True
        )
        written = self.writer.write(prompts, [decoding] * len(prompts))
        found: list[list[Span]] = [[] for _ in rows]
        for owner, [generation] in zip(owners, written, strict=True):
            found[owner].append(self._place(generation, rows[owner]["context"]))
        allow_none = options.get("allow_no_answer", False)
        return [answer_of(_surest(spans, allow_none), options) for spans in found]

    def _place(self, generation: Generation, context: str) -> Span:
        text = self.writer.text(generation)
        start = context.lower().find(text.lower()) if text else -1
        end = start + len(text) if start >= 0 else -1
        return Span(text, _probability(generation), start, end)


MAX_ANSWER_TOKENS = 64


def _surest(spans: Sequence[Span], allow_none: bool) -> Span:
    """Return the best answer; an empty one only if that is allowed or there is no other."""
    answers = [span for span in spans if span.text]
    if not answers or (allow_none and all(span.text == "" for span in spans)):
        return Span("", max(span.score for span in spans), 0, 0)
    return max(answers, key=lambda span: span.score)


def _probability(generation: Generation) -> float:
    """Return the mean probability of a token, geometric; 0 where it is unknown."""
    return 0.0 if math.isnan(generation.score) else math.exp(generation.score)


class GroundedAnswers:
    """Answers ``qa`` with an instruct model that may only write pieces of the context.

    At each step the model chooses among the tokens that continue some piece of the context which
    starts and ends with a word, so an answer can't be invented.

    Args:
        writer: runs the prompts; its model has a chat template.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def answer(self, rows: list[Row], options: dict[str, Any]) -> list[Any]:
        """Return one answer a row, always characters of its context.

        Args:
            rows: each has ``question``, ``context`` and perhaps ``prev_q``, ``prev_a``.
            options: ``details``, ``allow_no_answer``, ``long`` (default ``chunk``: a window
                slides over the context and the surest answer of all windows is returned).
        """
        allow_none = options.get("allow_no_answer", False)
        asked: list[_Asked] = []
        cut: list[int] = []
        for i, row in enumerate(rows):
            frame = len(self.writer.ask(conversation(row, "", allow_none), REPLY))
            room = min(self.writer.tokens.max_length - frame - MAX_ANSWER_TOKENS, WINDOW)
            for start, end in windows(self.writer.tokens, row["context"], room, options, cut):
                context = row["context"][start:end]
                prompt = self.writer.ask(conversation(row, context, allow_none), REPLY)
                asked.append(_Asked(i, start, prompt, Pieces(self.writer, context, allow_none)))
        note_cut(cut, len(rows), self.writer.tokens.max_length)
        found: list[list[Span]] = [[] for _ in rows]
        for own, generation in zip(asked, self._write(asked), strict=True):
            found[own.owner].append(own.pieces.span(generation, own.start))
        return [answer_of(_surest(spans, allow_none), options) for spans in found]

    def _write(self, asked: list[_Asked]) -> list[Generation]:
        decoding = Decoding(
            max_new=MAX_ANSWER_TOKENS,
            scored=True,
        )
        written = self.writer.write(
            [own.prompt for own in asked],
            [decoding] * len(asked),
            [own.pieces.allowed for own in asked],
        )
        return [generations[0] for generations in written]


WINDOW = 1024
"""Tokens of context read at once; the starter model loses the thread in longer ones."""


NO_ANSWER = "unanswerable"
REPLY = "Answer:"
INSTRUCTION = "Answer the question with a short phrase copied from the text."
OR_NONE = f" If the text does not hold the answer, say {NO_ANSWER}."

EXAMPLES = (
    (
        "Marie Curie was born in Warsaw in 1867. She moved to Paris to study physics and won the "
        "Nobel Prize twice.",
        (("Where was Marie Curie born?", "Warsaw"), ("How often did she win the prize?", "twice")),
    ),
    (
        "The bridge was designed by the engineer John Roebling and opened to the public on May "
        "24, 1883, after fourteen years of work.",
        (("When did the bridge open?", "May 24, 1883"), ("Who designed it?", "John Roebling")),
    ),
)
"""Conversations that show a small model what is asked of it."""


@dataclass(frozen=True)
class _Asked:
    owner: int
    start: int
    prompt: list[int]
    pieces: Pieces


def conversation(row: Row, context: str, allow_none: bool) -> list[Message]:
    """Return the messages that ask the row's question about ``context``."""
    turns = zip(row.get("prev_q", ()), row.get("prev_a", ()), strict=True)
    messages = [
        {"role": "system", "content": INSTRUCTION + (OR_NONE if allow_none else "")},
        *(message for text, shown in EXAMPLES for message in _turns(text, shown)),
        *_turns(context, [*turns, (row["question"], "")]),
    ]
    return messages[:-1]  # the last answer is the model's


def _turns(context: str, turns: Sequence[tuple[str, str]]) -> list[Message]:
    """Return a conversation about ``context``, which stands before its first question."""
    messages = []
    for i, (question, answer) in enumerate(turns):
        asked = f"Question: {question}"
        messages += [
            {"role": "user", "content": asked if i else f"Text: {context}\n{asked}"},
            {"role": "assistant", "content": f"{REPLY} {answer}"},
        ]
    return messages


class Pieces:
    """The token sequences of all pieces of a context that start and end with a word.

    Args:
        writer: whose tokenizer writes them.
        context: what they are pieces of.
        allow_none: whether the words for "no answer" may be written too.
    """

    def __init__(self, writer: Writer, context: str, allow_none: bool) -> None:
        self.tokens = writer.tokens
        self.context = context
        self.ends = sorted(writer.generator.ends)
        words = list(WORD.finditer(context))
        starts = [word.start() for word in words]
        last = [words[min(i + MAX_ANSWER_WORDS, len(words)) - 1].end() for i in range(len(words))]
        texts = [context[start:end] for start, end in zip(starts, last, strict=True)]
        if allow_none:
            starts.append(-1)
            texts.append(NO_ANSWER)
        # With the space that the reply has before it.
        encodings = self.tokens.plain([f" {text}" for text in texts])
        self.paths = [
            _Path(start, tuple(encoding.ids), _word_ends(encoding, text))
            for start, encoding, text in zip(starts, encodings, texts, strict=True)
        ]
        self.reached: dict[tuple[int, ...], list[_Path]] = {(): self.paths}

    def allowed(self, tokens: Sequence[int]) -> list[int]:
        """Return what may come after ``tokens``: the next token of any piece, or the end."""
        following = self._reached(tuple(tokens))
        place = len(tokens)
        allowed = {path.ids[place] for path in following if len(path.ids) > place}
        if any(place in path.ends for path in following) or not allowed:
            allowed.update(self.ends)
        return sorted(allowed)

    def span(self, generation: Generation, offset: int) -> Span:
        """Return the piece that was written; the first of several alike.

        Args:
            generation: the tokens of a piece, or of the start of one.
            offset: where the context begins in the whole text.
        """
        place = len(generation.tokens)
        for path in self._reached(tuple(generation.tokens)):
            if path.start < 0:
                return Span("", _probability(generation), 0, 0)
            # Cut off in the middle of a word, an answer ends with the word before.
            whole = [count for count in path.ends if count <= place]
            if whole:
                start, end = path.start, path.start + path.ends[max(whole)]
                score = _probability(generation)
                return Span(self.context[start:end], score, offset + start, offset + end)
        return Span("", 0.0, 0, 0)

    def _reached(self, tokens: tuple[int, ...]) -> list[_Path]:
        """Return the pieces that begin with ``tokens``."""
        if tokens not in self.reached:
            before = self._reached(tokens[:-1])
            place = len(tokens) - 1
            self.reached[tokens] = [
                path
                for path in before
                if len(path.ids) > place and path.ids[place] == tokens[place]
            ]
        return self.reached[tokens]


WORD = re.compile(r"\w+(?:[-'\u2019.,:/]\w+)*[%\u00b0]?|[$\u00a3\u20ac]\s?\d[\d.,]*")
MAX_ANSWER_WORDS = 24


@dataclass(frozen=True)
class _Path:
    """One piece's tokens, from its first word on.

    Args:
        start: its first character in the context; -1 for the words for "no answer".
        ids: token ids.
        ends: number of tokens after which a word ends, to the number of characters up to there.
    """

    start: int
    ids: tuple[int, ...]
    ends: dict[int, int]


def _word_ends(encoding: Encoding, text: str) -> dict[int, int]:
    """Return after how many tokens, and characters, a word of ``text`` ends.

    Args:
        encoding: of ``text`` with a space before it.
        text: the piece.
    """
    ends = {word.end() for word in WORD.finditer(text)}
    places = [offset[1] - 1 for offset in encoding.offsets]
    return {i + 1: place for i, place in enumerate(places) if place in ends}
