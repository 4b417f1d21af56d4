"""Summarisation: a text made shorter."""

from __future__ import annotations

from typing import Any

from backprop.specs import STYLES
from backprop.tasks.base import Task

__all__ = ["Summarisation"]


class Summarisation(Task):
    """Makes a text shorter.

    Args:
        options: those of ``Task``.
    """

    task = "summarisation"

    def __call__(
        self, text: str | list[str], *, style: str | None = None, long: str | None = None
    ) -> Any:
        """Return the summary, or one for each text of a list.

        Args:
            text: a text, or a list of them.
            style: ``"extractive"`` picks the text's own sentences and invents nothing,
                ``"abstractive"`` writes new ones. By default what the model does; without a model
                of your choosing each style has its own starter model.
            long: ``"chunk"`` (default: all of the text is read), ``"truncate"`` or ``"error"``.

        Raises:
            InputError: a text is blank, or the model does not do the style.
        """
        task_input = {"text": text, "style": style, "long": long}
        if (
            style is not None
            and style in STYLES
            and not self.is_remote
            and self.name in STYLES.values()
        ):
            return self._of(STYLES[style]).run(task_input)
        return self.run(task_input)

    def _of(self, name: str) -> Summarisation:
        """Return the task with another starter model, kept for the next call."""
        if name == self.name:
            return self
        others = self.__dict__.setdefault("_others", {})
        if name not in others:
            others[name] = Summarisation(name, device=self.device)
        other: Summarisation = others[name]
        return other
