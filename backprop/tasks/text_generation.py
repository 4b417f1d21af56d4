"""Text generation: what comes next, or what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backprop import inputs
from backprop.errors import InputError
from backprop.optional import load
from backprop.tasks.base import Task

__all__ = ["TextGeneration"]


class TextGeneration(Task):
    """Writes text; models with a chat template answer, others continue.

    Args:
        options: those of ``Task``.
    """

    task = "text-generation"

    def __call__(
        self,
        text: str | list[str],
        min_length: int | None = None,
        max_length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        length_penalty: float | None = None,
        num_beams: int | None = None,
        num_generations: int | None = None,
        do_sample: bool | None = None,
        *,
        stop: str | list[str] | None = None,
        seed: int | None = None,
    ) -> Any:
        """Return the new text, or one for each text of a list.

        Deterministic unless sampling is asked for, by ``do_sample=True`` or by giving
        ``temperature``, ``top_k`` or ``top_p``.

        Args:
            text: a prompt, or a list of them.
            min_length: fewest new tokens.
            max_length: most new tokens; by default what the model advises, else 128.
            temperature: above 1 is more varied, below 1 less; 0 is greedy.
            top_k: sample from the k likeliest tokens; 0 is all.
            top_p: sample from the likeliest tokens that together reach this probability.
            repetition_penalty: above 1 makes tokens already seen less likely.
            length_penalty: above 1 favours longer beams, below 1 shorter ones.
            num_beams: beams of beam search.
            num_generations: texts for each prompt; above 1 a list comes back for each.
            do_sample: sample instead of taking the likeliest.
            stop: end before this string, or the first of these.
            seed: makes sampling repeatable; a text's sample does not depend on the batch.

        Raises:
            InputError: an option is out of bounds, or a prompt leaves no room.
        """
        values = dict(locals())
        return self.run({key: values[key] for key in self.spec.keys})

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """Yield the new text in pieces, as they come; joined they equal the call's answer.

        Args:
            text: one prompt.
            options: those of the call, but for several beams or generations.

        Raises:
            InputError: the input does not fit, or the model can't stream.
            RemoteError: the server could not be reached, refused, or broke off.
        """
        request = inputs.read(self.task, {"text": text, **options})
        if not request.single:
            raise InputError("stream takes one text; received a list; call the task itself.")
        if self.is_remote:
            given = {**request.rows[0], **request.options}
            remote: Iterator[str] = load("backprop.remote:stream")(given, **self._asking())
            return remote
        stream = getattr(self._quick() or self.model.handler(self.task), "stream", None)
        if stream is None:
            raise InputError(f"{self.name} can't stream; call the task itself.")
        pieces: Iterator[str] = stream(request.rows[0], request.options)
        return pieces
