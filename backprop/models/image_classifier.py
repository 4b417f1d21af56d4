"""Image models: EfficientNet (starter and hub), other classifiers and encoders of the hub."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import EfficientNetForImageClassification

from backprop.engines.torch import TorchEngine
from backprop.errors import InputError
from backprop.handlers.encoding import LabelEncoder
from backprop.handlers.hypernyms import HypernymLabels, class_names
from backprop.handlers.images import ImageClasses, ImageVectors
from backprop.models import efficientnet_lite
from backprop.models.base import PathModel
from backprop.models.heads import (
    class_labels,
    distinct,
    load_heads,
    problem_type,
    save_heads,
    tell_config,
)
from backprop.models.hf import HFModel, read_preprocessor, write_preprocessor
from backprop.models.image_training import ImageTraining, head_name, replace_head
from backprop.models.places import find_folder, read_json
from backprop.pictures import describe

__all__ = ["EfficientNet", "HFImageModel"]

SEVERAL = problem_type(multi_label=True)


class HFImageModel(ImageTraining, HFModel):
    """Any image model of the hub: vectors, and classes where it has a head for them.

    One without a head gets a linear one over its vectors when it is finetuned on classes.

    Args:
        model_path: see ``HFModel``.
        args: see ``HFModel``.
        tasks: all it can do by default.
        labels: classes of the head that stands beside the model in its folder, if there is one.
        multi_label: whether a picture may have several of those.
        options: the other arguments of ``HFModel``.
    """

    HANDLERS: ClassVar[Mapping[str, str]] = {
        "image-classification": "image_classes",
        "image-vectorisation": "image_vectors",
    }

    own_head: nn.Linear | None

    def __init__(
        self,
        model_path: str | Path,
        *args: Any,
        tasks: list[str] | None = None,
        labels: Sequence[str] = (),
        multi_label: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model_path, *args, **options)
        self.has_head = type(self.model).__name__.endswith("ForImageClassification")
        config = self.model.config
        self.labels = class_labels(config) if self.has_head else list(labels)
        self.multi_label = config.problem_type == SEVERAL if self.has_head else multi_label
        self.own_head = None
        if labels and not self.has_head:
            outputs = {"image-classification": len(self.labels)}
            heads = load_heads(find_folder(model_path), _width(config), outputs)
            self.own_head = heads["image-classification"].to(self.device)
        self.tasks = tasks or (list(self.HANDLERS) if self.labels else ["image-vectorisation"])

    def settings(self) -> dict[str, Any]:
        """Return the classes of a head beside the model."""
        if self.own_head is None:
            return {}
        return {"labels": self.labels, "multi_label": self.multi_label}

    def save_files(self, folder: Path) -> None:
        """Write the model in hub format, and beside it a head that is no part of it."""
        super().save_files(folder)
        if self.own_head is not None:
            save_heads({"image-classification": self.own_head}, folder)

    def head(self, task: str) -> nn.Linear | None:
        """Return the last layer of ``image-classification``."""
        if task != "image-classification":
            return None
        if not self.has_head:
            return self.own_head
        name = head_name(self.model)
        layer: nn.Linear | None = None if name is None else self.model.get_submodule(name)
        return layer

    def image_classes(self) -> ImageClasses:
        """Return the handler of ``image-classification``."""
        return ImageClasses(
            TorchEngine(self, {"logits": self._logits}),
            self.pixels(),
            labels=self.labels,
            multi_label=self.multi_label,
        )

    def image_vectors(self) -> ImageVectors:
        """Return the handler of ``image-vectorisation``: the features before the head."""
        return ImageVectors(
            TorchEngine(self, {"image_vectors": self._vectors}),
            self.pixels(),
            dimensions=_width(self.model.config),
        )

    def _new_head(self, labels: Sequence[str]) -> None:
        if self.has_head:
            replace_head(self.model, len(labels))
        else:
            self.own_head = nn.Linear(_width(self.model.config), len(labels)).to(self.device)

    def _tell_config(self) -> None:
        if self.has_head:
            tell_config(self.model.config, self.labels, multi_label=self.multi_label)

    def _logits(self, pixel_values: Tensor) -> Tensor:
        if self.own_head is not None:
            found: Tensor = self.own_head(self._vectors(pixel_values))
            return found
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


class EfficientNet(ImageTraining, PathModel):
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
        self.multi_label = self.config.get("problem_type") == SEVERAL
        self.label_encoder = label_encoder

    def settings(self) -> dict[str, Any]:
        """Return the label encoder's name."""
        return {"label_encoder": self.label_encoder}

    def save_files(self, folder: Path) -> None:
        """Write weights, configuration and image rules in hub format."""
        if self.lite:
            efficientnet_lite.save(self.model, self.config, folder)
        else:
            self.model.save_pretrained(folder)
        write_preprocessor(self.preprocessor, folder)

    def image_classes(self) -> ImageClasses:
        """Return the handler of ``image-classification``."""
        return ImageClasses(
            TorchEngine(self, {"logits": self._logits}),
            self.pixels(),
            labels=self.labels,
            multi_label=self.multi_label,
            scorer=HypernymLabels(LabelEncoder(self.label_encoder))
            if self._is_imagenet()
            else None,
        )

    def image_vectors(self) -> ImageVectors:
        """Return the handler of ``image-vectorisation``: the features before the head."""
        return ImageVectors(
            TorchEngine(self, {"image_vectors": self._vectors}),
            self.pixels(),
            dimensions=efficientnet_lite.FEATURES if self.lite else int(self.config["hidden_dim"]),
        )

    def pre_finetuning(
        self,
        labels: Mapping[int, str] | None = None,
        num_classes: int | None = None,
        multi_label: bool = False,
        image_size: int | None = None,
    ) -> None:
        """Give the model classes of its own; with the same labels again, its head stays.

        Args:
            labels: see ``ImageTraining``.
            num_classes: see ``ImageTraining``.
            multi_label: see ``ImageTraining``.
            image_size: pixels a side at which pictures are seen from now on, whole; as before by
                default. ``size_for`` has advice.

        Raises:
            InputError: labels as ``ImageTraining`` refuses them, or a size out of bounds.
        """
        smallest = efficientnet_lite.SMALLEST_IMAGE
        if image_size is not None and not smallest <= image_size <= LARGEST_IMAGE:
            raise InputError(
                f"image_size must be between {smallest} and {LARGEST_IMAGE} pixels; received "
                f"{describe(image_size)}."
            )
        super().pre_finetuning(labels, num_classes, multi_label)
        if image_size is not None:
            self._see_at(image_size)

    def size_for(self, sides: Sequence[int]) -> int | None:
        """Return the ``image_size`` for pictures like these, None where the model's own is best.

        Tiny pictures, enlarged to what the model was trained on, are blurred beyond anything it
        has seen; at five sevenths of that size it does better, in half the time.

        Args:
            sides: shorter side of each picture, in pixels.
        """
        if not sides or statistics.median(sides) > TINY_SIDE:
            return None
        trained = int(self.config["image_size"])
        return max(efficientnet_lite.SMALLEST_IMAGE, round(trained * 5 / 7 / 32) * 32)

    def head(self, task: str) -> nn.Linear | None:
        """Return the last layer of ``image-classification``."""
        last: nn.Linear = self.model.classifier
        return last if task == "image-classification" else None

    @property
    def lite(self) -> bool:
        """Whether it runs on our own module, rather than on transformers'."""
        return isinstance(self.model, efficientnet_lite.EfficientNetLite)

    def _see_at(self, size: int) -> None:
        """Let pictures fill a square of ``size`` pixels a side, with nothing cropped."""
        square = {"height": size, "width": size}
        keeps_proportions = "shortest_edge" in self.preprocessor["size"]
        self.preprocessor = {
            **self.preprocessor,
            "size": {"shortest_edge": size} if keeps_proportions else square,
            "crop_size": square,
        }
        self.forget_handlers()

    def _new_head(self, labels: Sequence[str]) -> None:
        if isinstance(self.model, efficientnet_lite.EfficientNetLite):
            self.model.replace_classifier(len(labels))
        else:
            replace_head(self.model, len(labels))

    def _tell_config(self) -> None:
        self.config = {
            **self.config,
            "id2label": {str(index): label for index, label in enumerate(self.labels)},
            "problem_type": problem_type(self.multi_label),
        }
        if not self.lite:
            tell_config(self.model.config, self.labels, multi_label=self.multi_label)

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


TINY_SIDE = 64
"""Shorter side of pictures that are seen smaller; measured on photos of 32 pixels."""

LARGEST_IMAGE = 2048


def _load(path: str) -> torch.nn.Module:
    folder = Path(path)
    if read_json(folder / "config.json").get("model_type") == efficientnet_lite.MODEL_TYPE:
        return efficientnet_lite.load(folder)
    model: torch.nn.Module = EfficientNetForImageClassification.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    return model
