"""Emotion: what a text expresses."""

from __future__ import annotations

from typing import Any

from backprop.tasks.base import Task

__all__ = ["Emotion"]


class Emotion(Task):
    """Names the emotion a text expresses.

    Args:
        options: those of ``Task``.
    """

    task = "emotion"

    def __call__(
        self, text: str | list[str], *, top_k: int | None = None, long: str | None = None
    ) -> Any:
        """Return the emotion, or one for each text of a list.

        Args:
            text: a text, or a list of them.
            top_k: return the so many likeliest as ``{emotion: probability}`` instead.
            long: ``"chunk"`` (default: all of the text counts), ``"truncate"`` or ``"error"``.

        Raises:
            InputError: a text is blank.
        """
        return self.run({"text": text, "top_k": top_k, "long": long})
