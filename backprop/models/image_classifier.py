"""Image models: EfficientNet (starter and hub), other classifiers and encoders of the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import EfficientNetForImageClassification

from backprop.engines import Array
from backprop.engines.torch import TorchEngine
from backprop.handlers.hypernyms import HypernymLabels, class_names
from backprop.handlers.images import ImageClasses, ImageVectors
from backprop.handlers.pixels import Pixels
from backprop.models import efficientnet_lite
from backprop.models.base import PathModel
from backprop.models.classification import class_labels, distinct
from backprop.models.hf import HFModel, read_preprocessor, write_preprocessor
from backprop.models.places import find_folder, read_json
from backprop.optional import load

__all__ = ["EfficientNet", "HFImageModel"]


class HFImageModel(HFModel):
    """Any image model of the hub: vectors, and classes where it has a head for them."""

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "image-classification": "image_classes",
        "image-vectorisation": "image_vectors",
    }

    def __init__(
        self, model_path: str | Path, *args: Any, tasks: list[str] | None = None, **options: Any
    ) -> None:
        super().__init__(model_path, *args, **options)
        has_head = type(self.model).__name__.endswith("ForImageClassification")
        self.tasks = tasks or (list(self.HANDLERS) if has_head else ["image-vectorisation"])

    def image_classes(self) -> ImageClasses:
        """Return the handler of ``image-classification``."""
        return ImageClasses(
            TorchEngine(self, {"logits": self._logits}),
            Pixels.from_config(self.preprocessor),
            labels=class_labels(self.model.config),
            multi_label=self.model.config.problem_type == "multi_label_classification",
        )

    def image_vectors(self) -> ImageVectors:
        """Return the handler of ``image-vectorisation``: the features before the head."""
        return ImageVectors(
            TorchEngine(self, {"image_vectors": self._vectors}),
            Pixels.from_config(self.preprocessor),
            dimensions=_width(self.model.config),
        )

    def _logits(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values).logits
        return logits

    def _vectors(self, pixel_values: Tensor) -> Tensor:
        body = getattr(self.model, self.model.base_model_prefix, self.model)
        output = body(pixel_values)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            vectors: Tensor = pooled.flatten(1)
            return vectors
        # Vision transformers without a pooler say what they see in their first token.
        first: Tensor = output.last_hidden_state[:, 0]
        return first


def _width(config: Any) -> int:
    """Return the number of features before an image model's head."""
    sizes = getattr(config, "hidden_sizes", None)
    width = getattr(config, "hidden_dim", None) if config.model_type == "efficientnet" else None
    return int(width or (sizes[-1] if sizes else config.hidden_size))


class EfficientNet(PathModel):
    """EfficientNet: ImageNet classes, image vectors and, by the classes, labels of your own.

    Args:
        model_path: a folder, a catalogue name, or a hub repository. Lite models run on our own
            module, others on transformers'.
        name: see ``BaseModel``.
        description: see ``BaseModel``.
        tasks: see ``BaseModel``.
        details: see ``BaseModel``.
        label_encoder: catalogue name of the sentence encoder that places labels no ImageNet
            class is a kind of; loaded when such a label first comes.
        device: such as ``"cpu"`` or ``"cuda:0"``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "image-classification": "image_classes",
        "image-vectorisation": "image_vectors",
    }

    def __init__(
        self,
        model_path: str | Path,
        name: str | None = None,
        description: str | None = None,
        tasks: list[str] | None = None,
        details: Mapping[str, Any] | None = None,
        label_encoder: str = "all-minilm-l6-v2",
        device: str | torch.device | None = None,
    ) -> None:
        folder = find_folder(model_path)
        super().__init__(
            folder, None, name, description, tasks, details, init_model=_load, device=device
        )
        self.config = read_json(folder / "config.json")
        self.preprocessor = read_preprocessor(folder)
        names = self.config["id2label"]
        self.labels = distinct([names[str(index)] for index in range(len(names))])
        self.label_encoder = label_encoder

    def settings(self) -> dict[str, Any]:
        """Return the label encoder's name."""
        return {"label_encoder": self.label_encoder}

    def save_files(self, folder: Path) -> None:
        """Write weights, configuration and image rules in hub format."""
        if isinstance(self.model, efficientnet_lite.EfficientNetLite):
            efficientnet_lite.save(self.model, self.config, folder)
        else:
            self.model.save_pretrained(folder)
        write_preprocessor(self.preprocessor, folder)

    def image_classes(self) -> ImageClasses:
        """Return the handler of ``image-classification``."""
        return ImageClasses(
            TorchEngine(self, {"logits": self._logits}),
            Pixels.from_config(self.preprocessor),
            labels=self.labels,
            scorer=HypernymLabels(_Encoder(self.label_encoder)) if self._is_imagenet() else None,
        )

    def image_vectors(self) -> ImageVectors:
        """Return the handler of ``image-vectorisation``: the features before the head."""
        lite = isinstance(self.model, efficientnet_lite.EfficientNetLite)
        return ImageVectors(
            TorchEngine(self, {"image_vectors": self._vectors}),
            Pixels.from_config(self.preprocessor),
            dimensions=efficientnet_lite.FEATURES if lite else int(self.config["hidden_dim"]),
        )

    def _is_imagenet(self) -> bool:
        """Whether the classes are ImageNet-1k's, in its order, whatever each is called."""
        first, last = self.labels[0].lower(), self.labels[-1].lower()
        alike = first.startswith("tench") and last.startswith("toilet")
        return alike and len(self.labels) == len(class_names())

    def _logits(self, pixel_values: Tensor) -> Tensor:
        output = self.model(pixel_values)
        logits: Tensor = getattr(output, "logits", output)
        return logits

    def _vectors(self, pixel_values: Tensor) -> Tensor:
        if isinstance(self.model, efficientnet_lite.EfficientNetLite):
            return self.model.features(pixel_values)
        pooled: Tensor = self.model.efficientnet(pixel_values).pooler_output
        return pooled.flatten(1)


class _Encoder:
    """Encodes labels with a catalogue model, loaded when first asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.encode: Any = None

    def __call__(self, texts: Sequence[str]) -> Array:
        """Return unit vectors, shape (len(texts), dimensions)."""
        if self.encode is None:
            # By name: the catalogue's loader knows this class, so this file can't import it.
            auto = load("backprop.models.auto:AutoModel")
            self.encode = auto.from_pretrained(self.name).handler("text-vectorisation").vectors
        vectors: Array = self.encode(texts)
        return vectors


def _load(path: str) -> torch.nn.Module:
    folder = Path(path)
    if read_json(folder / "config.json").get("model_type") == efficientnet_lite.MODEL_TYPE:
        return efficientnet_lite.load(folder)
    model: torch.nn.Module = EfficientNetForImageClassification.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    return model
