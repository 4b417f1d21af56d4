"""Models that put images and text in one space: CLIP, SigLIP and SigLIP 2."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from backprop.collate import Features
from backprop.engines.torch import TorchEngine
from backprop.errors import InputError
from backprop.handlers.images import ImageClasses, ImageLabels, ImageVectors
from backprop.handlers.pairs import PairVectors
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.tokens import Tokens
from backprop.models.heads import load_heads, save_heads
from backprop.models.hf import HFModel, tokens_of
from backprop.models.image_training import ImageTraining, join_sides
from backprop.models.places import find_folder
from backprop.models.training_rows import limit_of, padded, text_of, text_row, tokens_over

__all__ = ["CLIP"]


class CLIP(ImageTraining, HFModel):
    """A two-tower model: zero-shot image classes, image, text and image-text vectors.

    Finetuned on classes it answers with those, by a linear head over its image vectors.

    Args:
        model_path: see ``HFModel``; CLIP takes softmax over labels, SigLIP a sigmoid a label, as
            each was trained.
        args: see ``HFModel``.
        template: sentence a label is put in.
        labels: classes of the head that stands beside the model in its folder, if there is one.
        multi_label: whether a picture may have several of those.
        options: the other arguments of ``HFModel``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "image-classification": "image_labels",
        "image-vectorisation": "image_vectors",
        "text-vectorisation": "text_vectors",
        "image-text-vectorisation": "pair_vectors",
    }

    LEARNS: ClassVar[tuple[str, ...]] = tuple(HANDLERS)

    own_head: nn.Linear | None

    def __init__(
        self,
        model_path: str | Path,
        *args: Any,
        template: str = "a photo of {}.",
        labels: Sequence[str] = (),
        multi_label: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model_path, *args, **options)
        self.template = template
        self.labels, self.multi_label = list(labels), multi_label
        self.own_head = None
        if labels:
            outputs = {"image-classification": len(self.labels)}
            heads = load_heads(find_folder(model_path), self._dimensions(), outputs)
            self.own_head = heads["image-classification"].to(self.device)

    def settings(self) -> dict[str, Any]:
        """Return the template, and the classes of a head beside the model."""
        own = {"labels": self.labels, "multi_label": self.multi_label} if self.labels else {}
        return {"template": self.template, **own}

    def save_files(self, folder: Path) -> None:
        """Write the model in hub format, and beside it a head that is no part of it."""
        super().save_files(folder)
        if self.own_head is not None:
            save_heads({"image-classification": self.own_head}, folder)

    def image_vectors(self) -> ImageVectors:
        """Return the handler of ``image-vectorisation``."""
        return ImageVectors(
            TorchEngine(self, {"image_vectors": self._vectors}),
            self.pixels(),
            dimensions=self._dimensions(),
        )

    def text_vectors(self) -> TextVectors:
        """Return the handler of ``text-vectorisation``."""
        return TextVectors(
            TorchEngine(self, {"text_vectors": self._text_vectors}),
            self._tokens,
            dimensions=self._dimensions(),
        )

    def image_labels(self) -> ImageLabels | ImageClasses:
        """Return the handler of ``image-classification``: own classes once it has some."""
        if self.own_head is not None:
            engine = TorchEngine(self, {"logits": self._logits})
            return ImageClasses(
                engine, self.pixels(), labels=self.labels, multi_label=self.multi_label
            )
        bias = self.model.logit_bias if self._is_siglip() else None
        return ImageLabels(
            self.image_vectors(),
            self.text_vectors(),
            scale=float(self.model.logit_scale.detach().exp()),
            bias=0.0 if bias is None else float(bias.detach()),
            independent=bias is not None,
            template=self.template,
        )

    def pair_vectors(self) -> PairVectors:
        """Return the handler of ``image-text-vectorisation``."""
        return PairVectors(self.image_vectors(), self.text_vectors())

    # --- Finetuning ----------------------------------------------------------------------

    def process_batch(self, params: Mapping[str, Any], task: str) -> Features:
        """Return one picture, one text or one of each as the model takes it.

        Args:
            params: ``image`` and ``text``, as far as the task has them; ``max_length``, if there,
                is the most tokens of a text.
            task: task string.

        Raises:
            UnsupportedTaskError: the model can't be finetuned on ``task``.
            InputError: a key is missing, or holds something else.
        """
        if task == "image-text-vectorisation" and self.learns(task):
            sights = super().process_batch(params, "image-vectorisation")
            return {**sights, **self._text_row(params)}
        if task == "text-vectorisation" and self.learns(task):
            return self._text_row(params)
        return super().process_batch(params, task)

    def training_step(self, batch: Mapping[str, Any]) -> Tensor:
        """Return logits, shape (n, classes), or vectors, shape (n, dim), by what is in the batch.

        Pictures alone give logits, or vectors where the batch has the name ``vectors``; texts
        alone give vectors; both give image-text vectors of norm 1.
        """
        texts = {name: batch[name] for name in self._tokens.inputs if name in batch}
        if not texts:
            return super().training_step(batch)
        words = self._text_vectors(**texts)
        return join_sides(super().training_step(batch), words) if "pixel_values" in batch else words

    def collate(self, rows: Sequence[Features]) -> Mapping[str, Any]:
        """Return the rows as one batch, texts padded as the model was trained."""
        return padded(self._tokens, rows)

    def cut(self, params: Mapping[str, Any], task: str) -> int:
        """Return how many tokens ``process_batch`` cuts off a row's text, if it has one."""
        return tokens_over(self._tokens, *self._text(params)) if "text" in task else 0

    def head(self, task: str) -> nn.Linear | None:
        """Return the last layer of ``image-classification``, once there are classes."""
        return self.own_head if task == "image-classification" else None

    def _text_row(self, params: Mapping[str, Any]) -> dict[str, Any]:
        text, limit = self._text(params)
        return text_row(self._tokens, text, limit)

    def _text(self, params: Mapping[str, Any]) -> tuple[str, int]:
        """Return a row's text and its limit in tokens."""
        return text_of(params, "text"), limit_of(params, "max_length", self._tokens.max_length)

    def _new_head(self, labels: Sequence[str]) -> None:
        """Put a linear head over the image vectors that begins as the zero-shot classifier.

        Its weights are the labels' vectors, less their mean: that changes no softmax, and lets a
        sigmoid say both yes and no.

        Source: Wortsman et al. 2022, arXiv:2109.01903.
        """
        texts = [self.template.replace("{}", label) for label in labels]
        vectors = torch.from_numpy(self.text_vectors().vectors(texts)).to(self.device)
        weights = functional.normalize(vectors, dim=1) * self.model.logit_scale.detach().exp()
        head = nn.Linear(self._dimensions(), len(labels)).to(weights)
        with torch.no_grad():
            head.weight.copy_(weights - weights.mean(0))
            head.bias.zero_()
        self.own_head = head

    def _logits(self, pixel_values: Tensor) -> Tensor:
        if self.own_head is None:
            raise InputError(
                "The model has no classes of its own yet; call pre_finetuning(labels=…) first."
            )
        found: Tensor = self.own_head(functional.normalize(self._vectors(pixel_values), dim=1))
        return found

    def _vectors(self, pixel_values: Tensor) -> Tensor:
        return _pooled(self.model.get_image_features(pixel_values=pixel_values))

    def _text_vectors(self, **tensors: Tensor) -> Tensor:
        return _pooled(self.model.get_text_features(**tensors))

    @functools.cached_property
    def _tokens(self) -> Tokens:
        """The torch-free tokenizer."""
        tokens = tokens_of(self, self.model.config.text_config.max_position_embeddings)
        if self._is_siglip():
            # SigLIP was trained on text of one length, padding seen, and reads the last place.
            tokens.inputs, tokens.pad_to = ("input_ids",), tokens.max_length
        return tokens

    def _is_siglip(self) -> bool:
        return str(self.model.config.model_type).startswith("siglip")

    def _dimensions(self) -> int:
        config = self.model.config
        width = getattr(config, "projection_dim", None) or config.text_config.hidden_size
        return int(width)


def _pooled(features: Any) -> Tensor:
    """Return the vectors; transformers 5 wraps them in an output, earlier ones do not."""
    vectors: Tensor = getattr(features, "pooler_output", features)
    return vectors
