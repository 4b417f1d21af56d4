"""Text classification: a model's own labels, or yours (zero-shot)."""

from __future__ import annotations

from typing import Any

from backprop.tasks.base import Task

__all__ = ["TextClassification"]


class TextClassification(Task):
    """Assigns probabilities to labels; with the starter model to any labels you name.

    Args:
        options: those of ``Task``.
    """

    task = "text-classification"

    def __call__(
        self,
        text: str | list[str],
        labels: list[str] | list[list[str]] | None = None,
        top_k: int = 0,
        *,
        template: str | None = None,
        multi_label: bool | None = None,
        long: str | None = None,
    ) -> Any:
        """Return ``{label: probability}``, highest first, or one for each text of a list.

        Args:
            text: a text, or a list of them.
            labels: labels to choose from, or a list of labels for each text; the model's own by
                default, if it has any.
            top_k: return only so many labels; 0 returns all.
            template: sentence the label is put in, with ``{}`` for the label.
            multi_label: True judges each label by itself (default of zero-shot models), False
                lets them compete, summing to 1.
            long: ``"chunk"`` (default: all of the text counts), ``"truncate"`` or ``"error"``.

        Raises:
            InputError: a text is blank, labels repeat, or the model has no use for labels.
        """
        return self.run(
            {
                "text": text,
                "labels": labels,
                "top_k": top_k,
                "template": template,
                "multi_label": multi_label,
                "long": long,
            }
        )
