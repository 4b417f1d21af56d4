"""Vectorisation: texts, images and pairs of both as vectors whose likeness means something."""

from __future__ import annotations

from typing import Any

from backprop.tasks.base import Task, tensors

__all__ = ["ImageTextVectorisation", "ImageVectorisation", "TextVectorisation"]


class TextVectorisation(Task):
    """Texts as vectors.

    Args:
        options: those of ``Task``.
    """

    task = "text-vectorisation"

    def __call__(
        self,
        text: str | list[str],
        return_tensor: bool = False,
        *,
        normalise: bool | None = None,
        dimensions: int | None = None,
        long: str | None = None,
    ) -> Any:
        """Return a vector (list of float), or one for each text of a list.

        Args:
            text: a text, or a list of them.
            return_tensor: return a torch tensor, shape (dimensions,) or (n, dimensions).
            normalise: scale to L2 norm 1, or leave as it is; what the model does by default.
            dimensions: keep the first so many, then scale to norm 1.
            long: ``"truncate"`` (default, with a warning), ``"chunk"`` (the pieces' mean) or
                ``"error"``.

        Raises:
            InputError: a text is blank, or ``dimensions`` is more than the model has.
        """
        options = {"normalise": normalise, "dimensions": dimensions, "long": long}
        answer = self.run({"text": text, **options})
        return tensors(answer) if return_tensor else answer


class ImageVectorisation(Task):
    """Images as vectors.

    Args:
        options: those of ``Task``.
    """

    task = "image-vectorisation"

    def __call__(
        self,
        image: Any,
        return_tensor: bool = False,
        *,
        normalise: bool | None = None,
        dimensions: int | None = None,
    ) -> Any:
        """Return a vector (list of float), or one for each image of a list.

        Args:
            image: path, PIL image, bytes, base64 or data URL, or a list of them.
            return_tensor: return a torch tensor, shape (dimensions,) or (n, dimensions).
            normalise: scale to L2 norm 1 (default), or leave as it is.
            dimensions: keep the first so many, then scale to norm 1.

        Raises:
            InputError: an image can't be read, or ``dimensions`` is more than the model has.
        """
        answer = self.run({"image": image, "normalise": normalise, "dimensions": dimensions})
        return tensors(answer) if return_tensor else answer


class ImageTextVectorisation(Task):
    """Pairs of image and text as vectors.

    Args:
        options: those of ``Task``.
    """

    task = "image-text-vectorisation"

    def __call__(
        self,
        image: Any,
        text: str | list[str],
        return_tensor: bool = False,
        *,
        normalise: bool | None = None,
        dimensions: int | None = None,
        long: str | None = None,
    ) -> Any:
        """Return a vector (list of float) of L2 norm 1, or one for each pair of a list.

        Args:
            image: path, PIL image, bytes, base64 or data URL, or a list of them.
            text: one text for each image.
            return_tensor: return a torch tensor, shape (dimensions,) or (n, dimensions).
            normalise: scale to L2 norm 1 (default), or leave as it is.
            dimensions: keep the first so many, then scale to norm 1.
            long: ``"truncate"`` (default, with a warning), ``"chunk"`` (the pieces' mean) or
                ``"error"``.

        Raises:
            InputError: an image can't be read, a text is blank, or the lists differ in length.
        """
        options = {"normalise": normalise, "dimensions": dimensions, "long": long}
        answer = self.run({"image": image, "text": text, **options})
        return tensors(answer) if return_tensor else answer
