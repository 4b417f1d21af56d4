"""Image classification: a model's own labels, or yours (zero-shot)."""

from __future__ import annotations

from typing import Any

from backprop.tasks.base import Task

__all__ = ["ImageClassification"]


class ImageClassification(Task):
    """Assigns probabilities to labels; with the starter model ImageNet's or any you name.

    Args:
        options: those of ``Task``.
    """

    task = "image-classification"

    def __call__(
        self,
        image: Any,
        labels: list[str] | list[list[str]] | None = None,
        top_k: int = 0,
        *,
        template: str | None = None,
    ) -> Any:
        """Return ``{label: probability}``, highest first, summing to 1; a list for a list.

        Args:
            image: path, PIL image, bytes, base64 or data URL, or a list of them.
            labels: labels to choose from, or a list of labels for each image; the model's own by
                default, if it has any.
            top_k: return only so many labels; 0 returns all.
            template: sentence the label is put in, with ``{}`` for the label, for models that
                read text.

        Raises:
            InputError: an image can't be read, labels repeat, or the model has no use for them.
        """
        return self.run({"image": image, "labels": labels, "top_k": top_k, "template": template})
