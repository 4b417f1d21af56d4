"""Models that put images and text in one space: CLIP, SigLIP and SigLIP 2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from backprop.engines.torch import TorchEngine
from backprop.handlers.images import ImageLabels, ImageVectors
from backprop.handlers.pairs import PairVectors
from backprop.handlers.pixels import Pixels
from backprop.handlers.text_vectors import TextVectors
from backprop.handlers.tokens import Tokens
from backprop.models.hf import HFModel, tokens_of

__all__ = ["CLIP"]


class CLIP(HFModel):
    """A two-tower model: zero-shot image classes, image, text and image-text vectors.

    Args:
        model_path: see ``HFModel``; CLIP takes softmax over labels, SigLIP a sigmoid a label, as
            each was trained.
        template: sentence a label is put in.
        options: the other arguments of ``HFModel``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "image-classification": "image_labels",
        "image-vectorisation": "image_vectors",
        "text-vectorisation": "text_vectors",
        "image-text-vectorisation": "pair_vectors",
    }

    def __init__(
        self, model_path: str | Path, *args: Any, template: str = "a photo of {}.", **options: Any
    ) -> None:
        super().__init__(model_path, *args, **options)
        self.template = template

    def settings(self) -> dict[str, Any]:
        """Return the template."""
        return {"template": self.template}

    def image_vectors(self) -> ImageVectors:
        """Return the handler of ``image-vectorisation``."""
        return ImageVectors(
            TorchEngine(self, {"image_vectors": self._image_vectors}),
            Pixels.from_config(self.preprocessor),
            dimensions=self._dimensions(),
        )

    def text_vectors(self) -> TextVectors:
        """Return the handler of ``text-vectorisation``."""
        return TextVectors(
            TorchEngine(self, {"text_vectors": self._text_vectors}),
            self._tokens(),
            dimensions=self._dimensions(),
        )

    def image_labels(self) -> ImageLabels:
        """Return the handler of ``image-classification``."""
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

    def _image_vectors(self, pixel_values: Tensor) -> Tensor:
        return _pooled(self.model.get_image_features(pixel_values=pixel_values))

    def _text_vectors(self, **tensors: Tensor) -> Tensor:
        return _pooled(self.model.get_text_features(**tensors))

    def _tokens(self) -> Tokens:
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
