"""transformers' pipelines as peers, on the very weights that ours run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput

from backprop.models import efficientnet_lite
from backprop.models.places import read_json

__all__ = ["image_pipeline", "write_nli", "zero_shot_pipeline"]


class _Config(PretrainedConfig):
    model_type = "backprop-bench-lite"


class _Lite(PreTrainedModel):
    """EfficientNet-lite0 as transformers' pipeline wants it."""

    config_class = _Config
    main_input_name = "pixel_values"

    net: Any

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Return the logits, as a pipeline reads them."""
        return ImageClassifierOutput(logits=self.net(pixel_values))


def image_pipeline(folder: Path) -> Any:
    """Return an image classification pipeline on torch with the model in ``folder``."""
    own = read_json(folder / "config.json")
    labels = {int(number): label for number, label in own["id2label"].items()}
    model: Any = _Lite(_Config(id2label=labels))
    model.net = efficientnet_lite.load(folder)
    model.eval()
    rules = read_json(folder / "preprocessor_config.json")
    rules.pop("image_processor_type")
    processor = transformers.CLIPImageProcessorPil(**rules)
    return transformers.pipeline(
        "image-classification", model=model, image_processor=processor, device="cpu"
    )


def zero_shot_pipeline(folder: Path) -> Any:
    """Return a zero-shot classification pipeline with the model in ``folder``."""
    return transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")


def write_nli(tokenizer: Path, folder: Path) -> None:
    """Write an NLI model of BERT's base size with random weights.

    Args:
        tokenizer: folder whose tokenizer it gets.
        folder: made.
    """
    labels = ["entailment", "neutral", "contradiction"]
    config = BertConfig(
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        initializer_range=0.05,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tokenizer / name, folder / name)
