"""Prompts in, text out: what every generating handler shares."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from backprop.engines import Decoding, Generation, Generator
from backprop.errors import InputError
from backprop.handlers.batching import FEWEST, in_batches
from backprop.handlers.prompts import ChatTemplate, Message
from backprop.handlers.tokens import Tokens
from backprop.inputs import SAMPLING

__all__ = ["Writer", "decoding_of"]

Continuations = Callable[[Sequence[int]], list[int]]
"""Given a prompt's new tokens, those that may come next."""

DEFAULT_NEW_TOKENS = 128
NO_LIMIT = 1_000_000
UNSURE = "\N{REPLACEMENT CHARACTER}"


class Writer:
    """Runs prompts through a generator in length-sorted batches and decodes what it writes.

    Args:
        generator: the engine.
        tokens: the model's tokenizer.
        shared_room: whether prompt and output share ``tokens.max_length``, as in a decoder.
        defaults: how to decode where the caller does not say; the model's own advice.
        chat: the model's chat template, if it follows instructions.
        most_new: most new tokens the model can write, whatever the prompt.
    """

    def __init__(
        self,
        generator: Generator,
        tokens: Tokens,
        *,
        shared_room: bool,
        defaults: Decoding,
        chat: ChatTemplate | None = None,
        most_new: int = NO_LIMIT,
    ) -> None:
        self.generator = generator
        self.tokens = tokens
        self.shared_room = shared_room
        self.defaults = defaults
        self.chat = chat
        self.most_new = most_new

    def prompt(self, text: str) -> list[int]:
        """Return the token ids of ``text`` as the model expects to be asked."""
        if self.chat is not None:
            return self.ask([{"role": "user", "content": text}])
        [encoding] = self.tokens.plain([text])
        ids: list[int] = self.tokens.wrap(encoding).ids
        return ids

    def ask(self, messages: Sequence[Message], reply: str = "") -> list[int]:
        """Return the token ids of a conversation.

        Args:
            messages: what was said so far.
            reply: how the model's next words begin.

        Raises:
            InputError: the model has no chat template.
        """
        if self.chat is None:
            raise InputError("This model has no chat template; pass plain text.")
        [encoding] = self.tokens.plain([self.chat.render(messages) + reply])
        ids: list[int] = encoding.ids
        return ids

    def room(self, prompt: Sequence[int], wanted: int | None, where: str = "text") -> int:
        """Return how many new tokens fit after ``prompt``.

        Args:
            prompt: token ids.
            wanted: what the caller asked for, or None for the default.
            where: how an error names the text.

        Raises:
            InputError: the prompt leaves no room, or not as much as was asked for.
        """
        limit, length = self.tokens.max_length, len(prompt)
        room = min(limit - length, self.most_new) if self.shared_room else self.most_new
        if wanted and not self.shared_room and wanted > self.most_new:
            raise InputError(
                f"max_length is {wanted}, but this model writes at most {self.most_new} tokens."
            )
        needed = (wanted or 1) if self.shared_room else 0
        if length + needed > limit:
            raise InputError(
                f"{where} has {length} tokens and leaves room for {max(limit - length, 0)} of the "
                f"model's {limit}, but {needed} are to be generated; make the text shorter"
                f"{' or lower max_length' if wanted else ''}."
            )
        return wanted or min(self.defaults.max_new, room)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        decodings: Sequence[Decoding],
        allowed: Sequence[Continuations] | None = None,
    ) -> list[list[Generation]]:
        """Return the generations of each prompt, best first, in the order of the prompts.

        Args:
            prompts: token ids.
            decodings: one a prompt; those that are equal are run together.
            allowed: for each prompt, given its new tokens, which may come next; any by default.
        """
        decodings = [self._within_limit(decoding) for decoding in decodings]
        found: list[list[Generation]] = [[] for _ in prompts]
        for decoding in dict.fromkeys(decodings):
            chosen = [i for i, own in enumerate(decodings) if own == decoding]
            copies = max(decoding.sequences, decoding.beams)
            results = in_batches(
                chosen,
                [(len(prompts[i]) + decoding.max_new) * copies for i in chosen],
                functools.partial(self._run, prompts, decoding, allowed),
                overhead=FEWEST,  # each step reads all weights, however few rows there are
                **self.generator.limits,
            )
            for i, generations in zip(chosen, results, strict=True):
                found[i] = generations
        return found

    def _within_limit(self, decoding: Decoding) -> Decoding:
        """Return ``decoding``, a handler's own cap lowered to what the model can write."""
        if decoding.max_new <= self.most_new:
            return decoding
        least = min(decoding.min_new, self.most_new)
        return dataclasses.replace(decoding, max_new=self.most_new, min_new=least)

    def _run(
        self,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        allowed: Sequence[Continuations] | None,
        batch: list[int],
    ) -> list[list[Generation]]:
        """Return the generations of the prompts whose numbers are in ``batch``."""
        rows = [prompts[i] for i in batch]
        if allowed is None:
            return self.generator.generate(rows, decoding)
        own = [allowed[i] for i in batch]
        return self.generator.generate(rows, decoding, lambda row, tokens: own[row](tokens))

    def text(self, generation: Generation, stop: Sequence[str] = ()) -> str:
        """Return what was written, up to the first of ``stop``."""
        text = cut_at(self.tokens.decode(generation.tokens), stop)
        return text.strip() if self.chat is not None or not self.shared_room else text

    def stream(
        self, prompt: Sequence[int], decoding: Decoding, stop: Sequence[str] = ()
    ) -> Iterator[str]:
        """Yield what is written, as it comes; joined, the pieces equal ``text``."""
        strips = self.chat is not None or not self.shared_room
        sent, tokens = "", []
        for token in self.generator.stream(prompt, decoding):
            tokens.append(token)
            text = self.tokens.decode(tokens)
            done = cut_at(text, stop)
            safe = done[: len(done) - held_back(done, stop, strips)] if done == text else done
            safe = safe.strip() if strips else safe
            if len(safe) > len(sent):
                yield safe[len(sent) :]
                sent = safe
            if done != text:
                return
        last = self.text(Generation(tokens, 0.0), stop)
        if len(last) > len(sent):
            yield last[len(sent) :]


def cut_at(text: str, stop: Sequence[str]) -> str:
    """Return ``text`` up to the first of ``stop``."""
    places = [text.find(string) for string in stop if string in text]
    return text[: min(places)] if places else text


def held_back(text: str, stop: Sequence[str], strips: bool) -> int:
    """Return how many last characters may still change: unfinished ones, white space, stops."""
    settled = text.rstrip(UNSURE)
    waiting = [
        length
        for string in stop
        for length in range(1, min(len(string), len(settled)) + 1)
        if settled.endswith(string[:length])
    ]
    if strips:
        waiting.append(len(settled) - len(settled.rstrip()))
    return len(text) - len(settled) + max(waiting, default=0)


def decoding_of(options: Mapping[str, Any], defaults: Decoding, max_new: int) -> Decoding:
    """Return how to decode by the options of ``text-generation``, without ``stop``.

    Args:
        options: checked options; giving ``temperature``, ``top_k`` or ``top_p`` turns sampling
            on, as does asking for several generations without beams.
        defaults: for what was not given.
        max_new: most new tokens.
    """
    beams = options.get("num_beams", defaults.beams)
    sequences = options.get("num_generations", 1)
    asked = any(options.get(name) for name in SAMPLING) or sequences > beams
    sample = options.get("do_sample", asked) and options.get("temperature") != 0
    if sample and sequences > beams:
        beams = 1  # the model's own advice has too few to choose from
    given = {ours: options[theirs] for ours, theirs in OPTION_NAMES.items() if theirs in options}
    if not sample:
        given.pop("temperature", None)
    return dataclasses.replace(
        defaults,
        **given,
        max_new=max_new,
        min_new=min(options.get("min_length", defaults.min_new), max_new),
        sample=sample,
        beams=beams,
        sequences=sequences,
    )


OPTION_NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "length_penalty": "length_penalty",
    "seed": "seed",
}
