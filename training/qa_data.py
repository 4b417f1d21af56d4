"""Questions to learn from: SQuADShifts, QAMR and made-up conversations, drawn again and again.

Draw number n is the same in every run and process, so a training run can be resumed anywhere.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tokenizers import Encoding, Tokenizer

from training.qa_talks import talk

__all__ = ["Draws", "Example", "Question", "read_qamr", "read_squad"]

SHIFTS = ("new_wiki_v1.0", "reddit_v1.0", "amazon_reviews_v1.0")
"""Files of SQuADShifts."""

QAMR = ("dev", "test")
TALKS = 0.01
"""Made-up turns for each drawn question."""

WITH_HISTORY = 0.22
WITHOUT_ANSWER = 0.07
JOINED = 0.08
"""Shares of draws that get earlier turns, another paragraph, or (QAMR) a second sentence."""

WINDOWS = (64, 96, 128, 128, 160, 200, 256)
"""Tokens of a context that are shown, one of these each time; short ones cost less."""

LONGEST_HISTORY = 80
LONGEST = 400


class Question(NamedTuple):
    """A question, its context's number, and the characters of its answers, one a person asked."""

    text: str
    context: int
    answers: list[tuple[int, int]]
    source: str


@dataclass(frozen=True)
class Example:
    """What the model sees: ids of question and context, and tokens of answers in the context."""

    question: list[int]
    context: list[int]
    spans: list[tuple[int, int]]


@dataclass
class Draws:
    """Examples by number.

    Args:
        tokenizer: of the model.
        contexts: texts.
        questions: about them.
        rates: source to how often each of its questions is drawn in a pass.
        every_answer: whether all answers that people gave count, or the most given one alone.
    """

    tokenizer: Tokenizer
    contexts: list[str]
    questions: list[Question]
    rates: Mapping[str, float]
    every_answer: bool
    encoded: list[Encoding] = field(init=False)

    def __post_init__(self) -> None:
        """Tokenise the contexts, and note which questions they have."""
        self.encoded = self.tokenizer.encode_batch(self.contexts, add_special_tokens=False)
        self.by_context: dict[int, list[Question]] = defaultdict(list)
        self.by_source: dict[str, list[int]] = defaultdict(list)
        for question in self.questions:
            if question.context not in self.by_context:
                self.by_source[question.source].append(question.context)
            self.by_context[question.context].append(question)

    def order(self, count: int, seed: int) -> list[Question | None]:
        """Return what ``count`` draws are of, None for a made-up turn; shuffled passes."""
        chance = random.Random(seed)
        order: list[Question | None] = []
        while len(order) < count:
            drawn: list[Question | None] = [
                question
                for question in self.questions
                for _ in range(times(self.rates[question.source], chance))
            ]
            drawn += [None] * round(TALKS * len(drawn))
            chance.shuffle(drawn)
            order += drawn
        return order[:count]

    def draw(self, question: Question | None, number: int, seed: int) -> Example:
        """Return one example; the same for the same arguments."""
        chance = random.Random(f"{seed}-{number}")
        if question is None:
            return self._talk(chance)
        encoding = self.encoded[question.context]
        answers = question.answers if self.every_answer else [most_given(question)]
        spans = [span for span in (tokens_of(encoding, *own) for own in answers) if span]
        ids = list(encoding.ids)
        asked = self._asked(question, chance)
        if chance.random() < WITHOUT_ANSWER:
            other = chance.choice(self.by_source[question.source])
            start, end = question.answers[0]
            answer = self.contexts[question.context][start:end].lower()
            if answer not in self.contexts[other].lower():
                ids, spans = list(self.encoded[other].ids), []
        if question.source.startswith("qamr") and chance.random() < JOINED:
            ids, spans = self._joined(question.source, ids, spans, chance)
        room = min(chance.choice(WINDOWS), LONGEST - len(asked))
        return cropped(Example(asked, ids, spans), room, chance)

    def _asked(self, question: Question, chance: random.Random) -> list[int]:
        """Return the question's tokens, sometimes with earlier turns about the same context."""
        others = [own for own in self.by_context[question.context] if own is not question]
        text = question.text
        if others and chance.random() < WITH_HISTORY:
            earlier = chance.sample(others, min(len(others), chance.choice([1, 1, 2])))
            turns = [(own.text, self._answer(own)) for own in earlier]
            if chance.random() < 0.6:
                text = with_pronoun(text, turns, chance)
            told = self._ids(" ".join(f"{asked} {answer}" for asked, answer in turns) + " " + text)
            if len(told) <= LONGEST_HISTORY:
                return told
        return self._ids(text.rstrip("? ") if chance.random() < 0.1 else text)

    def _answer(self, question: Question) -> str:
        start, end = question.answers[0]
        return self.contexts[question.context][start:end]

    def _joined(
        self, source: str, ids: list[int], spans: list[tuple[int, int]], chance: random.Random
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Put another sentence before or behind."""
        other = self.encoded[chance.choice(self.by_source[source])].ids
        if chance.random() < 0.5:
            return ids + list(other), spans
        return list(other) + ids, [(first + len(other), last + len(other)) for first, last in spans]

    def _talk(self, chance: random.Random) -> Example:
        turn = chance.choice(talk(chance))
        encoding = self.tokenizer.encode(turn.context, add_special_tokens=False)
        start = turn.context.find(turn.answer)
        span = tokens_of(encoding, start, start + len(turn.answer))
        history = "".join(f"{asked} {answer} " for asked, answer in turn.history)
        return Example(
            self._ids(history + turn.question), list(encoding.ids), [span] if span else []
        )

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def times(rate: float, chance: random.Random) -> int:
    """Return how often to draw: ``rate`` on average."""
    return int(rate) + (chance.random() < rate % 1)


def most_given(question: Question) -> tuple[int, int]:
    """Return the answer most people gave: of several the shortest, or QAMR's first, its asker's."""
    counts = Counter(question.answers)
    most = max(counts.values())
    given = [answer for answer in counts if counts[answer] == most]
    if question.source.startswith("qamr"):
        return given[0]
    return min(given, key=lambda answer: (answer[1] - answer[0], answer[0]))


def cropped(example: Example, room: int, chance: random.Random) -> Example:
    """Return the example with ``room`` tokens of context, around an answer where it has one."""
    length = len(example.context)
    if length <= room:
        return example
    start = chance.randint(0, length - room)
    if example.spans and chance.random() > 0.05:  # else perhaps a window without the answer
        first, last = chance.choice(example.spans)
        low, high = max(0, last - room + 1), min(first, length - room)
        start = chance.randint(low, high) if low <= high else low
    kept = [
        (first - start, last - start)
        for first, last in example.spans
        if first >= start and last < start + room
    ]
    return Example(example.question, example.context[start : start + room], kept)


def tokens_of(encoding: Encoding, start: int, end: int) -> tuple[int, int] | None:
    """Return the first and the last token of the characters from ``start`` to ``end``."""
    inside = [i for i, (low, high) in enumerate(encoding.offsets) if high > start and low < end]
    return (inside[0], inside[-1]) if inside else None


def with_pronoun(question: str, turns: list[tuple[str, str]], chance: random.Random) -> str:
    """Return the question with a name that was mentioned before as a pronoun; roughly English."""
    said = " ".join(f"{asked} {answer}" for asked, answer in turns)
    names = [
        name
        for name in re.findall(r"[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\bthe \w+", question[1:])
        if name.lower() in said.lower()
    ]
    if not names:
        return question
    name = chance.choice(names)
    before, _, after = question.rpartition(name)
    last = before.split()[-1].lower() if before.split() else ""
    if last in ("in", "at", "to", "from"):
        return f"{before.rstrip()[: -len(last)]}there{after}"
    own = {"she": "her", "he": "his", "it": "its", "they": "their"}
    pronoun = chance.choice(list(own))
    if after.startswith("'s"):
        return f"{before}{own[pronoun]}{after[2:]}"
    return f"{before}{pronoun}{after}"


def read_squad(path: Path, contexts: list[str]) -> Iterator[Question]:
    """Yield the questions of a file in SQuAD's form; its contexts are added to ``contexts``."""
    for article in json.loads(path.read_text("utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            contexts.append(text)
            for row in paragraph["qas"]:
                places = [
                    (answer["answer_start"], answer["answer_start"] + len(answer["text"]))
                    for answer in row["answers"]
                ]
                right = [
                    place
                    for place, answer in zip(places, row["answers"], strict=True)
                    if answer["text"] and text[slice(*place)] == answer["text"]
                ]
                if right:
                    yield Question(row["question"], len(contexts) - 1, right, path.stem)


def read_qamr(path: Path, contexts: list[str]) -> Iterator[Question]:
    """Yield the questions of a QAMR file whose answers are words of their sentence."""
    for block in path.read_text("utf-8").split("\n\n"):
        lines = [line for line in block.split("\n") if line.strip()]
        if len(lines) < 3:
            continue
        contexts.append(lines[1])
        for line in lines[2:]:
            asked, *answers = (part.strip() for part in line.split("\t"))
            found = [_find(lines[1], answer) for answer in answers if answer]
            places = [place for place in found if place is not None]
            if places:
                yield Question(asked, len(contexts) - 1, places, f"qamr-{path.stem}")


def _find(sentence: str, answer: str) -> tuple[int, int] | None:
    pattern = re.escape(answer)
    whole = re.search(rf"(?<!\w){pattern}(?!\w)", sentence, re.IGNORECASE)
    found = whole or re.search(pattern, sentence, re.IGNORECASE)
    return found.span() if found else None
