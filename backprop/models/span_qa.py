"""Extractive question answering models of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering

from backprop.engines.torch import TorchEngine
from backprop.handlers.spans import SpanAnswers
from backprop.models.hf import HFModel, length_limit, tokens_of

__all__ = ["SpanQA"]


class SpanQA(HFModel):
    """A model that points at the answer in the context."""

    HANDLERS: ClassVar[Mapping[str, str]] = {"qa": "answers"}
    model_class = AutoModelForQuestionAnswering

    def answers(self) -> SpanAnswers:
        """Return the handler of ``qa``."""
        tokens = tokens_of(self, length_limit(self.model.config, self.tokenizer))
        return SpanAnswers(TorchEngine(self, {"spans": self._spans}), tokens)

    def _spans(self, **tensors: Tensor) -> Tensor:
        output = self.model(**tensors)
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
